"""What the client puts on the wire: the documented request, and nothing else.

The service that the contract describes takes one event a request, at one path. The
client must be indistinguishable from a client that knows only that, until a server has
said itself that it can do more.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import pytest

from outlay import Client
from outlay.transport import TransportResponse
from tests.contract.reference import (
    API_KEY,
    EVENT_TYPE,
    Turnstile,
    calling,
    create_cost,
    serving,
    tenant_of,
)
from tests.support.answers import accepted, refused, stored
from tests.support.servers import BATCH_PATH, Fault, Request, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.server import BackgroundServer
    from tests.contract.reference import Seen, Tenant

SOURCE: Final = "https://api.myapp.com"
EVENTS_PATH: Final = "/v0/events"
NOON: Final = datetime(2026, 1, 5, 12, 0, 0, 123_456, tzinfo=UTC)

USER_AGENT: Final = re.compile(r"outlay/\d+\.\d+\S* python/3\.\d+\.\S+")

MILLISECONDS_Z: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

# Of the contract's table for the request; the client uses no externalSubject and no
# externalId, because its customers and operations have ids of their own.
ALWAYS: Final = {"type", "source", "subject", "data", "timestamp", "idempotencyKey"}


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A batch's body, its events byte for byte."""

    events: list[msgspec.Raw]


def exactly(body: bytes) -> dict[str, Any]:
    """Decode an event, its numbers exact."""
    event: dict[str, Any] = json.loads(body, parse_float=Decimal)
    return event


def raw_events(path: str, body: bytes) -> list[bytes]:
    """Return the events that a request carries, byte for byte."""
    if path == EVENTS_PATH:
        return [body]
    envelope = msgspec.json.decode(body, type=_Envelope)
    return [bytes(event) for event in envelope.events]


@contextmanager
def shipping_to(
    url: str,
    journal_dir: Path,
    **settings: Any,  # noqa: ANN401 - any setting
) -> Iterator[Client]:
    """Run a client that loses no time."""
    client = Client(
        base_url=url,
        source=SOURCE,
        journal_dir=journal_dir,
        **{"api_key": API_KEY, "linger": 0.0, "retry_initial": 0.01, **settings},
    )
    try:
        yield client
    finally:
        client.close(timeout=0)


def track(client: Client, number: int, **overrides: Any) -> str:  # noqa: ANN401
    """Track operation ``number``, and return its key."""
    arguments = {
        "event_type": EVENT_TYPE,
        "amount": "0.0042",
        "customer_id": "cus_1",
        "operation_id": f"job-{number}",
        **overrides,
    }
    return client.track_cost(**arguments).idempotency_key


class Wire(NamedTuple):
    """A reference server that is listened to."""

    server: BackgroundServer
    turnstile: Turnstile

    def tenant(self) -> Tenant:
        """Return a tenant that has a cost."""
        tenant = tenant_of(self.server)
        with calling(tenant) as http:
            create_cost(http)
        self.turnstile.seen.clear()
        return tenant


@contextmanager
def listening(*, advertises_batches: bool) -> Iterator[Wire]:
    """Run a server and listen to it."""
    turnstile = Turnstile(advertises_batches=advertises_batches)
    with serving(turnstile) as server:
        yield Wire(server, turnstile)


@pytest.fixture(scope="module")
def plain() -> Iterator[Wire]:
    """Return a server as the contract knows it."""
    with listening(advertises_batches=False) as line:
        yield line


@pytest.fixture(scope="module")
def batching() -> Iterator[Wire]:
    """Return a server that says what it can do beyond the contract."""
    with listening(advertises_batches=True) as line:
        yield line


def heard_from(
    wire: Wire,
    journal_dir: Path,
    **track_as: Any,  # noqa: ANN401 - any argument
) -> Seen:
    """Track one event for a new tenant, and return the request that came of it."""
    tenant = wire.tenant()
    with shipping_to(tenant.server.url, journal_dir, api_key=tenant.api_key) as client:
        track(client, 1, **track_as)
        report = client.flush()

    assert report.complete
    assert report.stats.delivered == 1
    [seen] = wire.turnstile.seen
    return seen


# -- one request


def test_a_minimal_event_has_the_documented_fields_and_no_other(
    plain: Wire, tmp_path: Path
) -> None:
    """What a service does with a field it does not know is anybody's guess."""
    seen = heard_from(plain, tmp_path)

    event = exactly(seen.body)
    assert (seen.method, seen.path) == ("POST", EVENTS_PATH)
    assert set(event) == ALWAYS
    assert (event["type"], event["source"]) == (EVENT_TYPE, SOURCE)
    assert event["subject"] == "cus_1"
    assert event["data"] == {
        "amount": Decimal("0.0042"),
        "operationId": "job-1",
        "provenance": "manual",
    }


def test_a_full_event_keeps_all_that_is_said_of_it_in_data(
    plain: Wire, tmp_path: Path
) -> None:
    """Whatever the contract has no field for can still be grouped by."""
    seen = heard_from(
        plain,
        tmp_path,
        provider="anthropic",
        operation="document-extraction",
        region="us-east-1",
        line="tokens",
        quantity="1200",
        unit="token",
        provenance="reported",
        timestamp=NOON,
        data={"model": "m-1", "rate": Decimal("0.0000035"), "tags": ["a", None]},
    )

    event = exactly(seen.body)
    assert set(event) == ALWAYS
    assert event["timestamp"] == "2026-01-05T12:00:00.123Z"
    assert event["data"] == {
        "provider": "anthropic",
        "operation": "document-extraction",
        "region": "us-east-1",
        "line": "tokens",
        "unit": "token",
        "provenance": "reported",
        "amount": Decimal("0.0042"),
        "operationId": "job-1",
        "quantity": 1200,
        "model": "m-1",
        "rate": Decimal("0.0000035"),
        "tags": ["a", None],
    }


def test_the_headers_are_those_of_a_plain_json_post(
    plain: Wire, tmp_path: Path
) -> None:
    """No key in a header, no trace context: the contract has neither."""
    seen = heard_from(plain, tmp_path)

    assert set(seen.headers) == {
        "host",
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "user-agent",
    }
    assert seen.headers["accept"] == "application/json"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["content-length"] == str(len(seen.body))
    assert USER_AGENT.fullmatch(seen.headers["user-agent"])


def test_without_a_credential_there_is_no_authorization(tmp_path: Path) -> None:
    """An empty one would be a wrong one."""
    with ScriptedServer() as server:
        with shipping_to(server.url, tmp_path, api_key=None) as client:
            track(client, 1)
            client.flush()

        [request] = server.requests
        assert "authorization" not in request.headers


def test_a_prefix_of_the_base_url_is_kept(tmp_path: Path) -> None:
    """Gateways put services below one."""
    with ScriptedServer() as server:
        with shipping_to(f"{server.url}/billing/", tmp_path) as client:
            track(client, 1)
            client.flush()

        assert [one.path for one in server.requests] == ["/billing/v0/events"]


def test_a_namespace_is_sent_when_it_is_set(tmp_path: Path) -> None:
    """Only platforms may name one, so no other client should have to."""
    with ScriptedServer() as server:
        with shipping_to(server.url, tmp_path, namespace="org_m1") as client:
            track(client, 1)
            client.flush()

        event = exactly(server.requests[0].body)
        assert set(event) == {*ALWAYS, "namespace"}
        assert event["namespace"] == "org_m1"


def test_the_key_on_the_wire_is_the_one_in_the_receipt(tmp_path: Path) -> None:
    """Derived from the operation, or random, but never left to the server."""
    with ScriptedServer() as server:
        with shipping_to(server.url, tmp_path) as client:
            keys = [track(client, 1), track(client, 2, operation_id=None)]
            client.flush()

        sent = [exactly(one.body)["idempotencyKey"] for one in server.requests]
        assert sorted(sent) == sorted(keys)
        assert keys[0].startswith("ok1_")
        assert keys[1].startswith("okr_")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        pytest.param(NOON, "2026-01-05T12:00:00.123Z", id="utc"),
        pytest.param(
            NOON.astimezone(timezone(timedelta(hours=-5))),
            "2026-01-05T12:00:00.123Z",
            id="another-zone",
        ),
        pytest.param(
            datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            "1969-12-31T23:59:59.999Z",
            id="before-1970",
        ),
        pytest.param(
            datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z", id="first-year"
        ),
    ],
)
def test_a_time_goes_out_in_utc_with_milliseconds_and_a_z(
    plain: Wire, tmp_path: Path, given: datetime, sent: str
) -> None:
    """The form of the contract's examples: one client refuses times without offset."""
    seen = heard_from(plain, tmp_path, timestamp=given)

    assert exactly(seen.body)["timestamp"] == sent


def test_the_time_of_an_event_is_when_it_was_tracked(
    plain: Wire, tmp_path: Path
) -> None:
    """Not when it was sent, nor when it arrived."""
    before = datetime.now(UTC) - timedelta(milliseconds=1)

    sent = exactly(heard_from(plain, tmp_path).body)["timestamp"]

    assert MILLISECONDS_Z.fullmatch(sent)
    assert before <= datetime.fromisoformat(sent) <= datetime.now(UTC)


@pytest.mark.parametrize(
    "amount",
    [
        pytest.param("0.10", id="trailing-zero"),
        pytest.param(Decimal("0.10"), id="decimal"),
        pytest.param(0.1, id="float"),
        pytest.param(1e-9, id="tiny-float"),
        pytest.param(1e22, id="huge-float"),
        pytest.param(Decimal("1E+5"), id="exponent"),
        pytest.param(0, id="nothing"),
        pytest.param(2**100, id="beyond-64-bits"),
        pytest.param("123456789012345678901234567.891", id="thirty-digits"),
        pytest.param("0.000000000000000000000000000000000000001", id="1e-39"),
    ],
)
def test_an_amount_is_a_json_number_with_all_of_its_digits(
    plain: Wire,
    tmp_path: Path,
    amount: Any,  # noqa: ANN401 - any amount
) -> None:
    """The contract says number; the digits are the customer's money."""
    literals: list[str] = []

    def note(literal: str) -> Decimal:
        literals.append(literal)
        return Decimal(literal)

    seen = heard_from(plain, tmp_path, amount=amount)
    event = json.loads(seen.body, parse_float=note, parse_int=note)

    assert len(literals) == 1
    assert Decimal(literals[0]).as_tuple() == Decimal(str(amount)).as_tuple()
    assert isinstance(event["data"]["amount"], Decimal)


def test_text_of_every_script_arrives_as_it_was_given(
    plain: Wire, tmp_path: Path
) -> None:
    """Quotes and backslashes too, which the hot path writes by hand."""
    text = 'Ünïcödé 顧客 🧾 "quoted" \\ e\u0301 </script>'

    seen = heard_from(
        plain,
        tmp_path,
        customer_id=text,
        provider=text,
        operation_id=text,
        data={text: text},
    )

    event = exactly(seen.body)
    assert event["subject"] == text
    assert event["data"]["provider"] == text
    assert event["data"]["operationId"] == text
    assert event["data"][text] == text


# -- retries


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(refused(503), id="unavailable"),
        pytest.param(refused(429, retry_after="0"), id="too-many"),
        pytest.param(refused(500), id="server-error"),
        pytest.param(refused(408), id="request-timeout"),
        pytest.param(
            TransportResponse(502, {"content-type": "text/html"}, b"<p>"), id="gateway"
        ),
        pytest.param(Fault.RESET, id="no-answer"),
    ],
)
def test_a_retry_sends_the_same_bytes(
    tmp_path: Path, trouble: TransportResponse | Fault
) -> None:
    """Same key, time and body: then a server that counts keys counts once."""
    script = [trouble, trouble]
    with ScriptedServer() as server:
        server.respond = lambda request: (
            script.pop() if script else server.accept(request)
        )
        with shipping_to(server.url, tmp_path) as client:
            track(client, 1)
            server.wait_for(lambda: len(server.amounts) == 1)
            client.flush()

        assert len(server.requests) == 3
        assert len({one.body for one in server.requests}) == 1
        assert {one.path for one in server.requests} == {EVENTS_PATH}


def test_a_successor_sends_the_same_bytes(tmp_path: Path) -> None:
    """Whether the first attempt arrived is unknown; the key must tell, and does."""
    with ScriptedServer(lambda _: Fault.RESET) as server:
        with shipping_to(server.url, tmp_path) as client:
            track(client, 1, data={"rate": Decimal("0.10")})
            server.wait_for_requests(1)
        first = server.requests[0].body
        server.respond = server.accept

        with shipping_to(server.url, tmp_path) as successor:
            server.wait_for(lambda: len(server.amounts) == 1)
            successor.flush()

        assert {one.body for one in server.requests} == {first}


# -- paths


def test_a_server_that_advertises_nothing_sees_only_documented_requests(
    plain: Wire, tmp_path: Path
) -> None:
    """Noise in the logs of a billing service is an alarm for its operators."""
    tenant = plain.tenant()
    with shipping_to(tenant.server.url, tmp_path, api_key=tenant.api_key) as client:
        keys = [track(client, number) for number in range(100)]
        assert client.flush(timeout=20).complete

    seen = plain.turnstile.seen
    assert {(one.method, one.path) for one in seen} == {("POST", EVENTS_PATH)}
    assert sorted(exactly(one.body)["idempotencyKey"] for one in seen) == sorted(keys)


def test_batches_begin_when_the_server_has_said_that_it_takes_them(
    batching: Wire, tmp_path: Path
) -> None:
    """It says so in the answer to a documented request; no path is ever probed."""
    tenant = batching.tenant()
    with shipping_to(
        tenant.server.url, tmp_path, api_key=tenant.api_key, linger=0.2
    ) as client:
        keys = [track(client, 0)]
        assert client.flush().complete
        keys += [track(client, number) for number in range(1, 100)]
        assert client.flush(timeout=20).complete

    seen = batching.turnstile.seen
    events = [event for one in seen for event in raw_events(one.path, one.body)]
    assert [seen[0].path, {one.path for one in seen[1:]}] == [EVENTS_PATH, {BATCH_PATH}]
    assert {one.method for one in seen} == {"POST"}
    assert len(seen) < len(keys)
    assert sorted(exactly(one)["idempotencyKey"] for one in events) == sorted(keys)


def test_who_wants_no_batches_sends_none(batching: Wire, tmp_path: Path) -> None:
    """A setting for gateways that let only documented paths pass."""
    tenant = batching.tenant()
    with shipping_to(
        tenant.server.url, tmp_path, api_key=tenant.api_key, batching="never"
    ) as client:
        for number in range(20):
            track(client, number)
        assert client.flush().complete

    assert {one.path for one in batching.turnstile.seen} == {EVENTS_PATH}


def test_what_one_server_can_do_is_not_expected_of_another(
    batching: Wire, plain: Wire, tmp_path: Path
) -> None:
    """After a move to the real service, the first request must be a documented one."""
    for wire in (batching, plain):
        tenant = wire.tenant()
        with shipping_to(tenant.server.url, tmp_path, api_key=tenant.api_key) as client:
            for number in range(20):
                track(client, number)
                client.flush()

    assert BATCH_PATH in {one.path for one in batching.turnstile.seen}
    assert {one.path for one in plain.turnstile.seen} == {EVENTS_PATH}


def test_a_new_process_starts_with_the_documented_path(
    batching: Wire, tmp_path: Path
) -> None:
    """What was advertised is not kept on disk, where it could outlive the server."""
    tenant = batching.tenant()
    for number in range(2):
        with shipping_to(tenant.server.url, tmp_path, api_key=tenant.api_key) as client:
            track(client, number)
            client.flush()

    assert [one.path for one in batching.turnstile.seen] == [EVENTS_PATH] * 2


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_refused_batch_goes_again_as_single_events_in_the_same_bytes(
    tmp_path: Path, status: int
) -> None:
    """A batch is nothing but its events' bodies, and the batch path is forgotten."""

    def respond(request: Request) -> TransportResponse | Fault:
        if request.path == BATCH_PATH:
            return refused(status)
        server.keep(request)
        return accepted(outlay_batch=f"{BATCH_PATH}; max=1000")

    with ScriptedServer() as server:
        server.respond = respond
        with shipping_to(server.url, tmp_path) as client:
            track(client, 0)
            client.flush()
            for number in range(1, 50):
                track(client, number)
            server.wait_for(lambda: len(server.amounts) == 50)
            client.flush()

        batched = [one for one in server.requests if one.path == BATCH_PATH]
        singles = [one.body for one in server.requests if one.path == EVENTS_PATH]
        assert 1 <= len(batched) <= 2  # two may be under way when the first fails
        for one in batched:
            assert set(raw_events(one.path, one.body)) <= set(singles)
        assert len(singles) == len(set(singles)) == 50


def test_no_batch_is_larger_than_advertised(tmp_path: Path) -> None:
    """The server said how many events it takes at once."""

    def respond(request: Request) -> TransportResponse | Fault:
        known = server.keep(request)
        if request.path == BATCH_PATH:
            return stored(len(request.events), duplicates=known)
        return accepted(outlay_batch=f"{BATCH_PATH}; max=7")

    with ScriptedServer() as server:
        server.respond = respond
        with shipping_to(server.url, tmp_path) as client:
            for number in range(100):
                track(client, number)
            server.wait_for(lambda: len(server.amounts) == 100)
            client.flush()

        sizes = [len(one.events) for one in server.requests if one.path == BATCH_PATH]
        assert max(sizes) == 7


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(tmp_path: Path, status: int) -> None:
    """A POST may turn into a GET, and the credential may go to a stranger."""
    with ScriptedServer() as elsewhere, ScriptedServer() as server:
        location = f"{elsewhere.url}{EVENTS_PATH}"
        server.respond = lambda _: TransportResponse(
            status, {"location": location}, b""
        )
        with shipping_to(server.url, tmp_path) as client:
            track(client, 1)
            server.wait_for_requests(1)
            report = client.close(timeout=0)

        assert not elsewhere.requests
        assert report.stats.pending == 1
