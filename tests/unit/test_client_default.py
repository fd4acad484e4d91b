"""The default client behind the functions of the module."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

import pytest

import outlay
from tests.support.answers import accepted
from tests.support.events import EVENT_TYPE
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_default_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Begin and end without one, and keep it off the network and the home folder."""
    for name in ("OUTLAY_API_KEY", "OUTLAY_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OUTLAY_JOURNAL_DIR", str(tmp_path / "journal"))
    monkeypatch.setenv("OUTLAY_SHIPPING", "none")
    outlay.close()
    yield
    outlay.close(0)


def _same(transport: ScriptedTransport) -> ScriptedTransport:
    return transport


def _track(number: int) -> None:
    outlay.track_cost(EVENT_TYPE, 1, customer_id="c", operation_id=number)


def test_the_first_use_makes_a_client_from_the_environment(tmp_path: Path) -> None:
    """No call of configure() is needed."""
    _track(1)

    assert outlay.stats().tracked == 1
    assert outlay.default_client().settings.journal_dir == tmp_path / "journal"


def test_configure_replaces_the_client_and_closes_the_earlier_one() -> None:
    """Two would ship from one folder."""
    _track(1)
    earlier = outlay.default_client()

    later = outlay.configure(source="urn:later")

    assert outlay.default_client() is later
    with pytest.raises(outlay.ClosedError):
        earlier.track_cost(EVENT_TYPE, 1, customer_id="c")


def test_a_configuration_that_is_refused_changes_nothing() -> None:
    """A typo in a reload must not stop the tracking."""
    _track(1)
    earlier = outlay.default_client()

    with pytest.raises(outlay.ConfigError, match="linger"):
        outlay.configure(linger=-1)

    assert outlay.default_client() is earlier
    _track(2)


def test_use_after_close_makes_a_new_client() -> None:
    """Module-level functions have no state that a caller would have to mind."""
    _track(1)
    first = outlay.default_client()

    outlay.close()
    _track(2)

    assert outlay.default_client() is not first
    assert outlay.stats().tracked == 1


def test_eight_threads_that_are_first_make_one_client() -> None:
    """Eight clients would be eight folders and eight threads."""
    start = threading.Barrier(8)
    made: list[outlay.Client] = []

    def use() -> None:
        start.wait()
        made.append(outlay.default_client())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(map(id, made))) == 1


def test_the_functions_use_the_default_client() -> None:
    """Tracked, flushed and counted in one place."""
    transport = ScriptedTransport(otherwise=accepted())
    outlay.configure(transport=lambda: transport, shipping="thread", linger=0.0)

    _track(1)
    report = outlay.flush()

    assert report.complete
    assert report.stats.delivered == 1
    assert outlay.close().stats.delivered == 1
    assert transport.closed


def test_two_clients_beside_each_other_do_not_mix(tmp_path: Path) -> None:
    """A library may track for itself while the application does, too."""
    transports = [ScriptedTransport(), ScriptedTransport()]
    clients = [
        outlay.Client(
            transport=functools.partial(_same, transport),
            base_url=f"http://127.0.0.1:{port}",
            journal_dir=tmp_path / "shared",
            shipping="thread",
            linger=0.0,
        )
        for port, transport in enumerate(transports, start=4601)
    ]

    for number, client in enumerate(clients):
        client.track_cost(f"cost.{number}", 1, customer_id="c", operation_id=number)
    for client in clients:
        client.close()

    for number, transport in enumerate(transports):
        ((_, body),) = transport.posts
        assert f'"type":"cost.{number}"'.encode() in body
