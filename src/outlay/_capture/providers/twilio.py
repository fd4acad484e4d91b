"""Extract costs from Twilio: messages, calls, recordings, verifications, lookups.

The price of a message or a call is known when it has ended, or hours later. Until then
its cost is pending. The price is negative, because it is taken off the account.
Callbacks do not contain it. Code that needs it retrieves the resource.
Source: https://www.twilio.com/docs/messaging/api/message-resource
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from outlay._capture import event_types
from outlay._capture.extraction.age import is_past_dedupe_window
from outlay._capture.extraction.fields import to_amount, to_quantity
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.instrumentation.http_exchange import observe_exchange, query_of
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.wrappers import observe_result
from outlay._capture.observation import Observation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal
    from types import ModuleType

    from outlay._capture.instrumentation.streams import StreamSink

Response = Mapping[str, Any]


def message(response: Response, call: Call) -> Observation | None:
    """Read a message that was sent or retrieved."""
    return _resource(response, call, event_types.MESSAGING, "num_segments", "segment")


def phone_call(response: Response, call: Call) -> Observation | None:
    """Read a call or a recording that was created or retrieved."""
    return _resource(response, call, event_types.VOICE, "duration", "second")


def resource(response: Response, call: Call) -> Observation | None:
    """Read a retrieved resource, whose id shows its kind."""
    is_message = str(response.get("sid")).startswith(("SM", "MM"))
    return message(response, call) if is_message else phone_call(response, call)


def verification(response: Response, call: Call) -> Observation:
    """Read a code that was sent: billed by the attempt, which has its own id."""
    attempts = [sid for sid in response.get(_ATTEMPTS) or () if sid]
    return Observation(
        provider=call.provider,
        event_type=event_types.VERIFICATION,
        operation_id=attempts[-1] if attempts else None,
        request_id=_request_id(call),
        model=f"verify/{response.get('channel') or 'unknown'}",
        usage={"call": 1},
    )


def check(response: Response, call: Call) -> Observation | None:
    """Read the check of a code: billed if the code was right."""
    if response.get("status") != "approved":
        return None
    return Observation(
        provider=call.provider,
        event_type=event_types.VERIFICATION,
        operation_id=response.get("sid"),
        line="approved",
        model="verify/approved",
        usage={"call": 1},
    )


def lookup(_response: Response, call: Call) -> Observation | None:
    """Read a look-up of a number: billed by the requested package of data."""
    requested = call.query.get("Fields") or call.query.get("Type") or ""
    packages = [name.strip() for name in requested.split(",") if name.strip()]
    if not packages:
        return None
    return Observation(
        provider=call.provider,
        event_type=event_types.ENRICHMENT,
        request_id=_request_id(call),
        model="lookup",
        usage=dict.fromkeys(packages, 1),
    )


def _resource(
    response: Response, call: Call, event_type: str, count: str, unit: str
) -> Observation | None:
    price = _price(response.get("price"))
    is_new = call.method == "POST"
    if price is None and not is_new:
        return None  # nothing is known that was not known at the start
    if is_past_dedupe_window(next(filter(None, map(response.get, _ENDS)), None), call):
        return None
    quantity = to_quantity(response.get(count))
    return Observation(
        provider=call.provider,
        event_type=event_type,
        operation_id=response.get("sid"),
        usage={unit: int(quantity)} if quantity else {},
        amount=price,
        currency=str(response.get("price_unit") or "USD").upper(),
        price_pending=price is None,
        is_lookup=not is_new,
    )


def _price(value: object) -> Decimal | None:
    return to_amount(value.removeprefix("-") if isinstance(value, str) else value)


def _request_id(call: Call) -> str | None:
    return call.headers.get("twilio-request-id")


_ATTEMPTS: Final = "send_code_attempts.attempt_sid"
_ENDS: Final = (
    "date_sent",
    "end_time",
    "date_created",
)  # the first that is set
_PRICED: Final = ("sid", "price", "price_unit", *_ENDS)
_MESSAGE: Final = Endpoint(message, (*_PRICED, "num_segments"))
_CALL: Final = Endpoint(phone_call, (*_PRICED, "duration"))

ENDPOINTS: Final = {
    "POST /Messages.json": _MESSAGE,
    "GET /Messages/{sid}.json": _MESSAGE,
    "POST /Calls.json": _CALL,
    "GET /Calls/{sid}.json": _CALL,
    "GET /Recordings/{sid}.json": _CALL,
    "POST /v2/Services/{sid}/Verifications": Endpoint(
        verification, (_ATTEMPTS, "channel")
    ),
    "POST /v2/Services/{sid}/VerificationCheck": Endpoint(check, ("sid", "status")),
    "GET /v2/PhoneNumbers/{number}": Endpoint(lookup, ()),
    "GET /v1/PhoneNumbers/{number}": Endpoint(lookup, ()),
    "CALLBACK /": Endpoint(resource, (*_PRICED, "num_segments", "duration")),
}
"""Other operations cost nothing, or are not captured: lists, which would count
operations again, phone numbers by the month, video, conversations, e-mail."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("twilio", _pattern, _endpoint)


class _Exchange:
    """A request and its response, as Twilio's clients represent them."""

    request_json: Mapping[str, Any] = {}  # forms, which no extractor reads

    def __init__(self, response: Any, method: str, uri: str, params: Any) -> None:
        url = urlsplit(uri)
        given = {} if params is None else params
        self.method = method
        self.host = url.hostname or ""
        self.path = url.path
        self.query = {**query_of(url.query), **{n: str(v) for n, v in given.items()}}
        self.status: int = response.status_code
        headers = (response.headers or {}).items()
        self.headers = {name.lower(): value for name, value in headers}
        self.body: bytes = response.text.encode()

    def observe_body(self, what: str, reader: StreamSink[bytes]) -> None:
        """Do nothing. The body has been read."""


def _patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    def on_response(
        response: Any,
        client: Any,
        method: str,
        uri: str,
        params: Any = None,
        *_args: Any,
        **_kwargs: Any,
    ) -> None:
        options = scope.options_for(client)
        if options is not None:
            exchange = _Exchange(response, method, uri, params)
            observe_exchange("twilio", options, options.provider or "twilio", exchange)

    yield Patch(module.Client, "request", observe_result("twilio", on_response))
    yield Patch(module.Client, "request_async", observe_result("twilio", on_response))


LIBRARY: Final = Library("twilio", _patches, module="twilio.rest")
