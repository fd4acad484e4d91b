"""What OpenTelemetry is told, collected with the real SDK."""

from __future__ import annotations

import gc
import re
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry.metrics import NoOpHistogram, NoOpMeter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
)

from outlay import Client
from outlay._model.error_counts import capture_errors
from outlay.errors import UnavailableError
from tests.support.answers import accepted, refused
from tests.support.events import track
from tests.support.processes import run, settings_for
from tests.support.servers import ScriptedServer
from tests.support.transports import ScriptedTransport
from tests.support.unpriced import record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    from opentelemetry.sdk.metrics.export import DataPointT

    from outlay._client_options import SettingsInput
    from tests.support.transports import Line

_PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
_SERVER: Final = {"server.address": "127.0.0.1", "server.port": 4600}


class _Observed:
    """A meter provider, and what is collected from it."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.units: dict[str, str | None] = {}

    def points(self) -> dict[str, list[DataPointT]]:
        """Collect, and return the points by the metric's name."""
        data = self._reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        self.units.update({metric.name: metric.unit for metric in metrics})
        return {metric.name: [*metric.data.data_points] for metric in metrics}

    def values(self, name: str, **only: str) -> dict[tuple[Any, ...], Any]:
        """Return the metric's values by the attributes that are outlay's own."""
        found = {}
        for point in self.points().get(name, ()):
            own = {
                k: v for k, v in (point.attributes or {}).items() if k not in _SERVER
            }
            if only.items() <= own.items():
                assert not isinstance(point, HistogramDataPoint)
                assert hasattr(point, "value")
                found[tuple(own.values())] = point.value
        return found


class _Clients:
    """Makes clients that one provider observes, and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.observed = _Observed()
        self.made: weakref.WeakSet[Client] = weakref.WeakSet()

    def __call__(self, *script: Line, **settings: Unpack[SettingsInput]) -> Client:
        transport = ScriptedTransport(script)
        chosen: SettingsInput = {"journal_dir": self.folder, "linger": 0.0}
        chosen.update(settings)
        client = Client(
            transport=lambda: transport,
            meter_provider=self.observed.provider,
            **chosen,
        )
        self.made.add(client)
        return client


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[_Clients]:
    """Return a maker of observed clients."""
    maker = _Clients(tmp_path / "journal")
    yield maker
    for client in list(maker.made):
        client.close(0)
    maker.observed.provider.shutdown()


def test_every_event_is_told_by_its_outcome(clients: _Clients) -> None:
    """The counters obey the same law as the stats, which they are read from."""
    client = clients(accepted(), refused(400), refused(422, "invalid_event_type"))
    for number in range(4):
        track(client, number, event_type=f"cost.{number}")
        client.flush()
    observed = clients.observed

    assert observed.values("outlay.events") == {
        ("delivered",): 2,
        ("dead",): 1,
        ("quarantined",): 0,
        ("damaged",): 0,
    }
    assert observed.values("outlay.events.tracked") == {(): 4}
    assert observed.values("outlay.events.recovered") == {(): 0}
    assert observed.values("outlay.events.pending") == {("pending",): 0, ("parked",): 1}


def test_names_and_units_are_as_documented(clients: _Clients) -> None:
    """Dashboards and alerts are made of them."""
    client = clients()
    track(client, 0)
    client.flush()
    waiting = clients(shipping="none")
    track(waiting, 1)
    capture_errors.add("test", KeyError())

    points = clients.observed.points()

    page = _PAGE.read_text(encoding="utf-8")
    row = r"^\| `(outlay\.[a-z.]+)` \| [a-z -]+ \| `(.+?)` \|"
    documented = re.findall(row, page, re.MULTILINE)
    assert len(documented) == 10
    assert clients.observed.units == dict(documented)
    attributes = [
        point.attributes or {}
        for name, found in points.items()
        for point in found
        if name != "outlay.capture.errors"
    ]
    assert all(_SERVER.items() <= each.items() for each in attributes)


def test_failures_of_capture_are_told_once_for_the_process(clients: _Clients) -> None:
    """However many clients there are: which of them a cost was for is not known."""
    both = [clients(shipping="none", segment_bytes=65_536) for _ in range(2)]
    before = clients.observed.values("outlay.capture.errors")
    for _ in range(3):
        capture_errors.add("acme", ZeroDivisionError("to be or not to be"))

    told = clients.observed.values("outlay.capture.errors")

    kind = ("acme", "ZeroDivisionError")
    assert told[kind] - before.get(kind, 0) == 3
    counted = {
        client.stats().capture_errors["acme: ZeroDivisionError"] for client in both
    }
    assert counted == {told[kind]}


def test_costs_without_a_price_are_told(clients: _Clients) -> None:
    """They are in no total until a person looks for their price."""
    client = clients(shipping="none", segment_bytes=65_536)
    record(client)

    assert clients.observed.values("outlay.capture.unpriced") == {(): 1}


def test_drops_are_told_by_their_reason(clients: _Clients) -> None:
    """An operator's first question: how much is lost, and why."""
    client = clients(
        shipping="none", segment_bytes=65_536, max_journal_bytes=262_144, metrics=True
    )
    for number in range(8):
        client.track_cost(
            "cost.a",
            1,
            customer_id="c",
            operation_id=number,
            data={"padding": "x" * 60_000},
        )

    dropped = clients.observed.values("outlay.events", **{"outlay.outcome": "dropped"})

    assert dropped == {("dropped", "journal_full"): 4}


def test_requests_are_told_with_their_size_duration_and_answer(
    clients: _Clients,
) -> None:
    """By the attributes of the semantic conventions for HTTP clients."""
    client = clients(
        UnavailableError("no route", sent=False), refused(503), retry_initial=0.01
    )
    track(client, 0)
    assert client.flush().complete

    points = clients.observed.points()

    told = {}
    for point in points["outlay.ship.duration"]:
        assert isinstance(point, HistogramDataPoint)
        own = dict(point.attributes or {})
        told[own.get("http.response.status_code"), own.get("error.type")] = point.count
        assert point.sum >= 0
    assert told == {(None, "unreachable"): 1, (503, "503"): 1, (202, None): 1}
    sizes = points["outlay.ship.batch.size"]
    assert [(p.count, p.sum) for p in sizes if isinstance(p, HistogramDataPoint)] == [
        (1, 1)
    ] * 3


def test_what_waits_is_told_with_its_age_and_size(clients: _Clients) -> None:
    """No thread ships here: the client is seen because the API is there already."""
    client = clients(shipping="none", segment_bytes=65_536)
    track(client, 0)

    (age,) = clients.observed.values("outlay.pending.age").values()
    size = clients.observed.values("outlay.journal.size")
    client.close()

    assert 0 <= age < 60
    assert size == {(): 65_536}
    assert clients.observed.values("outlay.pending.age") == {}


def test_clients_of_one_server_are_added_up(clients: _Clients) -> None:
    """An SDK keeps one of two observations with the same attributes."""
    first, second = clients(), clients(api_key="sk_secret_1")
    other = clients(namespace="org_2")
    for number, client in enumerate((first, first, second, other)):
        track(client, number)
        client.flush()
    sizes = [client.stats().journal_bytes for client in (first, second)]

    assert clients.observed.values("outlay.events.tracked") == {(): 3, ("org_2",): 1}
    assert clients.observed.values("outlay.journal.size")[()] == sum(sizes)


def test_two_clients_with_one_folder_see_its_size_once(clients: _Clients) -> None:
    """Each sees the segments of both."""
    both = [clients(segment_bytes=65_536) for _ in range(2)]
    for number, client in enumerate(both):
        track(client, number)
        client.flush()

    assert clients.observed.values("outlay.journal.size") == {(): 2 * 65_536}


def test_no_attribute_tells_a_credential(clients: _Clients) -> None:
    """Metrics go to people and systems that must not have it, nor guess at it."""
    client = clients(api_key="sk_secret_1")
    track(client, 0)
    client.flush()

    told = str(clients.observed.points())

    assert "sk_secret" not in told
    assert client._pipeline.journal.folder.path.name[:8] not in told


def test_what_a_closed_client_counted_stays_counted(clients: _Clients) -> None:
    """A counter that goes down is taken for a restart; what waits is not ours now."""
    for number in range(2):
        client = clients()
        track(client, number)
        client.close()
    waiting = clients(shipping="none")
    track(waiting, 2)
    waiting.close()

    assert clients.observed.values("outlay.events.tracked") == {(): 3}
    assert clients.observed.values("outlay.events")["delivered",] == 2
    assert clients.observed.values("outlay.events.pending") == {}


def test_instruments_do_not_keep_a_client_alive(clients: _Clients) -> None:
    """The provider lives as long as the process; a client need not."""
    client = clients(shipping="none")
    track(client, 0)
    assert clients.observed.values("outlay.events.tracked") == {(): 1}
    remains = weakref.ref(client)

    del client

    assert remains() is None
    assert clients.observed.values("outlay.events.tracked") == {}


def test_instruments_do_not_keep_a_provider_alive(tmp_path: Path) -> None:
    """Tests and plugins make many."""
    provider = NoOpMeterProvider()
    remains = weakref.ref(provider)
    client = Client(journal_dir=tmp_path, shipping="none", meter_provider=provider)
    client.close()

    del provider, client
    gc.collect()

    assert remains() is None


class _BrokenHistogram(NoOpHistogram):
    def record(self, *_: object, **__: object) -> None:
        raise ZeroDivisionError


class _BrokenMeter(NoOpMeter):
    def create_histogram(self, name: str, *_: object, **__: object) -> _BrokenHistogram:
        return _BrokenHistogram(name)


class _BrokenProvider(NoOpMeterProvider):
    def get_meter(self, name: str, *_: object, **__: object) -> _BrokenMeter:
        return _BrokenMeter(name)


def test_telemetry_that_fails_does_not_end_shipping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a request cost is worth more than how long it took."""
    client = Client(
        transport=ScriptedTransport,
        journal_dir=tmp_path,
        linger=0.0,
        meter_provider=_BrokenProvider(),
    )
    for number in range(3):
        track(client, number)
        assert client.flush(20).complete
    client.close()

    assert "could not be measured" in caplog.text


def test_metrics_can_be_switched_off(clients: _Clients) -> None:
    """For those who do not want ours among theirs."""
    client = clients(metrics=False)
    track(client, 0)
    client.flush()

    assert clients.observed.points() == {}


_FORKING: Final = """
earlier = outlay.Client()
track(earlier, 9)
earlier.close()

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

client = outlay.default_client()
track(client, 0)
client.flush()

def tracked():
    data = reader.get_metrics_data().to_json()
    import json
    return {
        metric["name"]: [point["value"] for point in metric["data"]["data_points"]]
        for resource in json.loads(data)["resource_metrics"]
        for scope in resource["scope_metrics"] if scope["scope"]["name"] == "outlay"
        for metric in scope["metrics"] if "tracked" in metric["name"]
    }

# Only now, as applications do that set up their telemetry late.
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
say("parent", tracked())
pid = os.fork()
if pid == 0:
    say("child", tracked())
    track(client, 1)
    track(client, 2)
    client.flush()
    say("child", tracked())
    os._exit(0)
os.waitpid(pid, 0)
track(client, 3)
say("parent", tracked())
"""


def test_a_forked_child_tells_only_of_its_own_events(tmp_path: Path) -> None:
    """Told by both, the parent's events would be counted twice."""
    with ScriptedServer() as server:
        said = run(_FORKING, settings_for(server.url, tmp_path))

    name = "{'outlay.events.tracked': "
    assert said.splitlines() == [
        f"parent {name}[2]}}",
        f"child {name}[0]}}",
        f"child {name}[2]}}",
        f"parent {name}[3]}}",
    ]
