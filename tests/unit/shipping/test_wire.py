"""What an answer says about each event; and what it must not be believed."""

from __future__ import annotations

import json
from typing import Final

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay._shipping.batching import BatchOffer, batch_offer
from outlay._shipping.outcomes import NO_RESPONSE, Outcome, Received, ServerEffect
from outlay._shipping.wire import batch_body, read_batch_response, read_event_response
from outlay.transport import TransportResponse
from tests.support.answers import accepted, refused, stored
from tests.support.events import payload

_STATUSES = st.integers(min_value=100, max_value=599)


def _outcomes(answer: TransportResponse, count: int) -> list[Outcome]:
    return [
        each.decision.outcome for each in read_batch_response(answer, count).results
    ]


def test_a_batch_carries_the_events_byte_for_byte() -> None:
    """Digits of an amount must survive being packed with others."""
    exact = b'{"data":{"amount":0.10000000000000000000000000001}}'

    body = batch_body([exact, payload(1)])

    assert body == b'{"events":[' + exact + b"," + payload(1) + b"]}"
    assert len(json.loads(body)["events"]) == 2


def test_the_items_of_a_batch_are_judged_one_by_one() -> None:
    """One poison event must not take its neighbours along."""
    failed = {
        1: (400, "validation_error"),
        3: (422, "invalid_event_type"),
        4: (500, "internal"),
    }

    outcomes = _outcomes(stored(6, failed), 6)

    assert outcomes == [
        Outcome.DELIVERED,
        Outcome.DEAD,
        Outcome.DELIVERED,
        Outcome.PARKED,
        Outcome.RETRY,
        Outcome.DELIVERED,
    ]


def test_the_servers_message_comes_along() -> None:
    """It is what a dead letter says to a person."""
    single = read_event_response(
        refused(400, "validation_error", "data is odd"), payload(1)
    )
    batch = read_batch_response(stored(2, {1: (400, "validation_error")}), 2)

    assert single.results[0].message == "HTTP 400: data is odd"
    assert batch.results[1].message == "no 1"


def _results(
    *failed: dict[str, int], total: int = 2, successful: int = 2
) -> TransportResponse:
    summary = {"total": total, "successful": successful, "failed": len(failed)}
    return TransportResponse(
        202, {}, json.dumps({"failed": failed, "summary": summary}).encode()
    )


@pytest.mark.parametrize(
    "answer",
    [
        TransportResponse(200, {}, b"<html>Welcome to the airport</html>"),
        TransportResponse(202, {}, b""),
        TransportResponse(202, {}, b"{}"),
        TransportResponse(202, {}, b'{"object":"event"}'),
        TransportResponse(204, {}, b"\xff\xfe"),
        _results(total=3),
        _results(successful=1),
        _results({"index": 0, "status": 400}),
        _results({"index": 2, "status": 400}, successful=1),
        _results({"index": -1, "status": 400}, successful=1),
        _results(*[{"index": 0, "status": 400}] * 2, successful=0),
        _results({"index": 0, "status": 202}, successful=1),
    ],
    ids=[
        "html",
        "empty",
        "object",
        "single event",
        "binary",
        "another total",
        "too few",
        "too many",
        "index beyond",
        "index below",
        "index twice",
        "failed successfully",
    ],
)
def test_a_batch_answer_that_does_not_add_up_is_not_believed(
    answer: TransportResponse,
) -> None:
    """Delivered is what was surely counted: money hangs on it."""
    result = read_batch_response(answer, 2)

    assert {each.decision.outcome for each in result.results} == {Outcome.RETRY}
    assert {each.decision.received for each in result.results} == {Received.MAYBE}
    assert result.batch_failed


@pytest.mark.parametrize("status", [400, 404, 405, 409, 415, 422, 501])
def test_a_refused_envelope_means_singles_and_refuses_no_event(status: int) -> None:
    """The batch path is an extension: without it, everything goes one by one."""
    result = read_batch_response(refused(status, "not_found", "no such path"), 3)

    assert result.batch_failed
    assert _outcomes(refused(status), 3) == [Outcome.RETRY] * 3


def test_a_batch_that_is_too_large_is_split_and_refuses_no_event() -> None:
    """413 speaks about the sum."""
    result = read_batch_response(refused(413), 3)

    assert result.too_large
    assert not result.batch_failed
    assert {each.decision.outcome for each in result.results} == {Outcome.RETRY}


@pytest.mark.parametrize("status", [401, 403, 408, 429, 502, 503, 504])
def test_trouble_of_the_whole_server_says_nothing_about_batches(status: int) -> None:
    """They are used again when the server is back."""
    result = read_batch_response(refused(status), 2)

    assert not result.batch_failed
    assert result.results[0].decision.effect is not ServerEffect.NONE


@pytest.mark.parametrize(
    ("header", "offer"),
    [
        ("/v0/events/batch; max=1000", BatchOffer("/v0/events/batch", 1000)),
        ("/v0/events/batch;max=50", BatchOffer("/v0/events/batch", 50)),
        ("/v0/events/batch", BatchOffer("/v0/events/batch", 1000)),
        ("/v0/events/batch; max=many", BatchOffer("/v0/events/batch", 1000)),
        ("/v0/events/batch; max=0", None),
        ("https://elsewhere.example/batch", None),
        ("/v0/events batch", None),
        ("/v0/événements", None),
        ("", None),
    ],
)
def test_batches_are_used_only_as_advertised(
    header: str, offer: BatchOffer | None
) -> None:
    """And never sent to another host."""
    assert batch_offer({"outlay-batch": header}) == offer


def test_a_service_that_advertises_nothing_gets_no_batch() -> None:
    """The real one would answer 404, and a person would look into it."""
    assert batch_offer({}) is None


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=40))
def test_no_batch_header_does_any_harm(header: str) -> None:
    """It comes from outside."""
    offer = batch_offer({"outlay-batch": header})

    assert offer is None or (offer.path.startswith("/") and offer.max_events >= 1)
    if offer is not None:  # else every batch would fail before it left, for ever
        h11.Request(method="POST", target=offer.path, headers=[("host", "any")])


def test_an_absurd_number_in_the_batch_header_does_no_harm() -> None:
    """Python refuses to read integers of over 4300 digits."""
    assert batch_offer({"outlay-batch": "/b; max=" + "9" * 5000}) is not None


@given(_STATUSES, st.binary(max_size=60))
def test_no_body_of_an_answer_does_any_harm(status: int, body: bytes) -> None:
    """A proxy may answer anything; the shipper must go on."""
    answer = TransportResponse(status, {}, body)

    assert len(read_event_response(answer, payload(1)).results) == 1
    assert len(read_batch_response(answer, 3).results) == 3


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":"\xff\xfe"}',
        b'{"message":null,"error":7}',
        b"[" * 100_000,
        b'{"details":' + b"[" * 100_000,
        b'{"message":"' + b"x" * 1_000_000 + b'"}',
    ],
    ids=["not UTF-8", "other types", "deep array", "deep object", "huge"],
)
@pytest.mark.parametrize("status", [202, 400, 503])
def test_no_malicious_body_does_any_harm(status: int, body: bytes) -> None:
    """Any of these used to end the thread that ships."""
    answer = TransportResponse(status, {}, body)

    assert len(read_event_response(answer, payload(1)).results[0].message) < 2000
    assert len(read_batch_response(answer, 2).results) == 2


def test_a_duplicate_is_a_delivery_that_is_counted_as_known() -> None:
    """The server had it already: exactly what a retry is for."""
    fresh = read_event_response(accepted(), payload(1))
    known = read_event_response(
        TransportResponse(202, {"outlay-duplicate": "true"}, b"{}"), payload(1)
    )

    assert (fresh.duplicates, known.duplicates) == (0, 1)
    assert known.results[0].decision.outcome is Outcome.DELIVERED
    assert read_batch_response(stored(5, duplicates=3), 5).duplicates == 3


_OURS: Final = json.dumps({"idempotencyKey": "key-1", "errors": ["odd"]}).encode()
_OTHERS: Final = json.dumps({"idempotencyKey": "key-2", "id": "evt_1"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "delivered"),
    [
        pytest.param(200, _OURS, True, id="our key"),
        pytest.param(201, _OURS, True, id="our key, created"),
        pytest.param(200, _OTHERS, False, id="another's key"),
        pytest.param(200, b'{"object":"event"}', False, id="200 without the key"),
        pytest.param(200, b"{}", False, id="200 with nothing"),
        pytest.param(
            200, b'{"errorMessage":"Task timed out"}', False, id="a function's error"
        ),
        pytest.param(204, b"{}", False, id="204"),
        pytest.param(202, b"{}", True, id="202 with nothing"),
        pytest.param(202, b'{"status":"queued"}', True, id="202 with other words"),
        pytest.param(202, b'{"object":"event","errors":[]}', True, id="202, an event"),
        pytest.param(202, b'{"id":"evt_1","error":null}', True, id="202 with an id"),
        pytest.param(202, b'{"error":"no"}', False, id="202, error"),
        pytest.param(202, b'{"errors":["no"]}', False, id="202, errors"),
        pytest.param(202, b'{"errorMessage":"no"}', False, id="202, errorMessage"),
        pytest.param(200, b'{"idempotencyKey":7,"id":1}', False, id="odd key"),
    ],
)
def test_a_2xx_is_believed_only_if_the_service_said_it(
    status: int, body: bytes, *, delivered: bool
) -> None:
    """The event's own key proves it; without it, only a 202 without errors counts."""
    event = b'{"type":"cost.x","idempotencyKey":"key-1"}'

    result = read_event_response(TransportResponse(status, {}, body), event)

    expected = Outcome.DELIVERED if delivered else Outcome.RETRY
    assert result.results[0].decision.outcome is expected
    if not delivered:
        assert result.results[0].decision is NO_RESPONSE


def test_what_responded_in_place_of_the_service_is_named() -> None:
    """Its first words and its server say where to look."""
    page = TransportResponse(200, {"server": "awselb/2.0"}, b"<html>\n Sign  in" * 99)

    message = read_event_response(page, payload(1)).results[0].message

    assert message.startswith("HTTP 200 without the event: '<html> Sign in")
    assert message.endswith("from awselb/2.0")
    assert len(message) < 200


@pytest.mark.parametrize(
    "body",
    [b"<html>Welcome to the airport</html>", b"", b"[]", b'"ok"', b"{", b"\xff"],
    ids=["a page", "empty", "an array", "a string", "cut off", "not UTF-8"],
)
@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_event_is_delivered_only_if_the_answer_is_an_event(
    status: int, body: bytes
) -> None:
    """A portal that says 200 to everything swallowed costs: they were never sent again.

    It may have been the service after all, so the clock of its window runs.
    """
    result = read_event_response(
        TransportResponse(status, {"outlay-duplicate": "true"}, body), payload(1)
    )

    assert [each.decision for each in result.results] == [NO_RESPONSE]
    assert result.duplicates == 0
