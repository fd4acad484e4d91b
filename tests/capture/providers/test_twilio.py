"""Twilio's package: prices that come later, and are told by what is fetched."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from twilio.base.exceptions import (  # type: ignore[import-untyped]
    TwilioRestException,
)
from twilio.http.http_client import (  # type: ignore[import-untyped]
    TwilioHttpClient,
)
from twilio.http.response import Response  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]

import outlay
from outlay._capture.observation import Observation
from outlay._capture.providers.twilio import LIBRARY
from tests.support.adapters import ScriptedAdapter
from tests.support.observing import observing
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from tests.capture.providers.conftest import Capture

SID: Final = "SM00000000000000000000000000000001"
SECRET: Final = "Your table is ready"
SENT: Final = {
    "sid": SID,
    "body": SECRET,
    "to": "+15017122661",
    "status": "queued",
    "num_segments": "2",
    "price": None,
    "price_unit": "USD",
    "date_sent": None,
}
DONE: Final = {
    **SENT,
    "status": "delivered",
    "price": "-0.01580",
    "date_sent": "Thu, 19 Nov 2026 09:00:00 +0000",
}
NOW: Final = "Fri, 20 Nov 2026 07:00:00 GMT"
LATER: Final = "Fri, 20 Nov 2026 09:00:00 GMT"


def client_of(*answers: Any, **headers: str) -> Client:
    """Return a client of an API that answers so."""
    http = TwilioHttpClient()
    http.session = ScriptedAdapter(*answers, **headers).session()
    return Client("AC1", "secret", http_client=http)


def seen(**fields: Any) -> Observation:
    """Return what is observed of the message."""
    common: dict[str, Any] = {
        "provider": "twilio",
        "event_type": "cost.messaging",
        "operation_id": SID,
        "usage": {"segment": 2},
    }
    return Observation(**{**common, **fields})


PENDING: Final = seen(price_pending=True)
PRICED: Final = seen(amount=Decimal("0.01580"), is_lookup=True)


def send(client: Client) -> Any:
    """Send a message."""
    return client.messages.create(to="+15017122661", from_="+1501", body=SECRET)


def test_a_message_that_was_sent_has_a_price_only_later(capture: Capture) -> None:
    """Twilio's prices are negative; ours are what was paid."""
    client = client_of(SENT, SENT, DONE, date=NOW)
    with capture(LIBRARY, client) as observed:
        message = send(client)
        assert observed == [PENDING]
        client.messages(message.sid).fetch()
        assert observed == [PENDING]
        assert client.messages(message.sid).fetch().price == "-0.01580"

    assert observed == [PENDING, PRICED]
    assert SECRET not in repr(observed)


def test_a_message_is_tracked_once_for_whoever_sent_it() -> None:
    """Kept until its price is known. The code that polls runs for no customer."""
    client = client_of(SENT, SENT, DONE, date=NOW)
    with Recorded() as tracked:
        outlay.instrument(client, client=tracked.client)
        with outlay.attribute(customer_id="cus_2"):
            send(client)
        assert tracked.client.stats().unpriced == 1
        for _ in range(3):
            client.messages(SID).fetch()
        outlay.uninstrument(client)

        event = tracked.only()
        assert (event.subject, event.type) == ("cus_2", "cost.messaging")
        assert event.data["amount"] == Decimal("0.01580")
        assert event.data["provenance"] == "reported"
        assert event.data["operationId"] == SID
        assert tracked.client.stats().unpriced == 0
        assert SECRET not in tracked.text()


def test_an_old_message_is_not_counted_once_more(capture: Capture) -> None:
    """Servers know a key for a day: what is older was counted, or is kept."""
    client = client_of(DONE, date=LATER)
    with capture(LIBRARY, client) as observed:
        client.messages(SID).fetch()

    assert observed == []


def test_a_list_is_not_counted(capture: Capture) -> None:
    """A look at last month's messages spends nothing."""
    page = {"messages": [DONE], "page": 0, "page_size": 50, "next_page_uri": None}
    client = client_of(page)
    with capture(LIBRARY, client) as observed:
        assert [one.sid for one in client.messages.list()] == [SID]

    assert observed == []


def test_an_error_costs_nothing(capture: Capture) -> None:
    """And is the caller's."""
    client = client_of((400, {"code": 21211, "message": SECRET, "status": 400}))
    with capture(LIBRARY, client) as observed, pytest.raises(TwilioRestException):
        send(client)

    assert observed == []


def test_an_asynchronous_client_is_observed_alike(capture: Capture) -> None:
    """Whichever HTTP client is below."""

    class Answering:
        is_async = True

        async def request(self, method: str, *_: Any, **__: Any) -> Response:
            return Response(200, json.dumps(SENT if method == "POST" else DONE), None)

    async def use() -> None:
        await client.messages.create_async(to="+1", from_="+1", body=SECRET)
        await client.messages(SID).fetch_async()

    client = Client("AC1", "secret", http_client=Answering())
    with capture(LIBRARY, client) as observed:
        asyncio.run(use())

    assert observed == [PENDING, PRICED]


def test_a_phone_call_is_observed_by_its_price(capture: Capture) -> None:
    """In the currency that it is told in."""
    made = {"sid": "CA1", "price": None, "price_unit": None, "duration": None}
    ended = {"sid": "CA1", "price": "-0.015", "price_unit": "eur", "duration": "61"}
    client = client_of(made, ended)
    with capture(LIBRARY, client) as observed:
        client.calls.create(to="+1", from_="+1", url="https://example.test")
        client.calls("CA1").fetch()

    begun, done = observed
    assert (begun.event_type, begun.operation_id) == ("cost.voice", "CA1")
    assert (begun.price_pending, begun.usage) == (True, {})
    assert (done.amount, done.currency) == (Decimal("0.015"), "EUR")
    assert (done.price_pending, done.usage) == (False, {"second": 61})


@pytest.mark.parametrize("status", ["pending", "approved"])
def test_a_verification_is_observed_by_the_attempt(
    status: str, capture: Capture
) -> None:
    """A code that is sent again costs again; the right one costs something more."""
    attempts = [{"attempt_sid": "VL1"}, {"attempt_sid": "VL2"}]
    made = {"sid": "VE1", "channel": "sms", "send_code_attempts": attempts}
    client = client_of(made, {"sid": "VE1", "status": status})
    with capture(LIBRARY, client) as observed:
        service = client.verify.v2.services("VA1")
        service.verifications.create(to="+15017122661", channel="sms")
        service.verification_checks.create(to="+15017122661", code="1234")

    costs = [(one.operation_id, one.line, one.model, one.usage) for one in observed]
    sent = ("VL2", None, "verify/sms", {"call": 1})
    approved = ("VE1", "approved", "verify/approved", {"call": 1})
    assert costs == ([sent, approved] if status == "approved" else [sent])
    assert {one.event_type for one in observed} == {"cost.verification"}


@pytest.mark.parametrize(
    ("fields", "usage"),
    [
        (None, []),
        ("caller_name", [{"caller_name": 1}]),
        ("caller_name,sim_swap", [{"caller_name": 1, "sim_swap": 1}]),
    ],
)
def test_a_look_up_is_observed_by_the_package(
    fields: str | None, usage: list[dict[str, int]], capture: Capture
) -> None:
    """The plain one is free. The number that was asked about is private."""
    answer = {"phone_number": "+15017122661", "caller_name": {"caller_name": SECRET}}
    client = client_of(answer, twilio_request_id="RQ1")
    with capture(LIBRARY, client) as observed:
        number = client.lookups.v2.phone_numbers("+15017122661")
        number.fetch(fields=fields) if fields else number.fetch()

    assert [one.usage for one in observed] == usage
    assert {one.request_id for one in observed} <= {"RQ1"}
    assert "15017122661" not in repr(observed)


def test_a_fetched_message_can_be_handed_over() -> None:
    """By who fetched it without a captured client, as an object or as JSON."""
    message = client_of(DONE, date=LATER).messages(SID).fetch()
    with Recorded() as tracked:
        outlay.observe(message, provider="twilio", client=tracked.client)
        outlay.observe(DONE, provider="twilio", client=tracked.client)
        outlay.observe(
            {"MessageSid": SID, "MessageStatus": "sent"},
            provider="twilio",
            client=tracked.client,
        )

    assert tracked.only().data["amount"] == Decimal("0.01580")


def test_a_session_of_requests_observes_the_same() -> None:
    """For code that calls the API without the package, in any region of Twilio's."""
    session = ScriptedAdapter(SENT).session()
    with observing(session) as observed:
        session.post(
            "https://api.dublin.ie1.twilio.com/2010-04-01/Accounts/AC1/Messages.json",
            data={"Body": SECRET},
        )

    assert observed == [PENDING]


def test_all_clients_can_be_captured_and_released(capture: Capture) -> None:
    """No trace stays."""
    before = Client.request
    with capture(LIBRARY) as observed:
        send(client_of(SENT))
    send(client_of(SENT))

    assert observed == [PENDING]
    assert Client.request is before
    assert "request" not in vars(Client)
