"""Make requests of events, and read what a response says about each event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay._shipping.outcomes import (
    FOREIGN,
    NO_RESPONSE,
    NOT_SENT,
    Decision,
    Outcome,
    Received,
    ServerEffect,
    decide,
)
from outlay.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay._journal.segment_reader import PendingEvent
    from outlay._shipping.transport import Transport, TransportResponse

_DUPLICATE_HEADER: Final = "outlay-duplicate"

_MESSAGE_CHARS: Final = 500  # of a server's message; more is a page, not a message
_PAGE_CHARS: Final = 80  # of a page that is not the service's

# The members of the contract's response. One suffices in a 202 that has errors.
_EVENT_MEMBERS: Final = frozenset(
    {
        "id",
        "object",
        "type",
        "source",
        "subject",
        "externalSubject",
        "namespace",
        "timestamp",
        "idempotencyKey",
        "externalId",
    }
)

# All that decoding bytes as JSON can raise. RecursionError: nested too deeply.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_RESEND_SINGLY: Final = Decision(
    Outcome.RETRY, ServerEffect.NONE, Received.NO, "no_batch"
)
_SPLIT_BATCH: Final = Decision(
    Outcome.RETRY, ServerEffect.NONE, Received.NO, "batch_too_large"
)


class PlannedRequest(NamedTuple):
    """One request to make.

    Attributes:
        events: The events that it carries, oldest first, at least one.
        first_attempts: Their ``first_attempt_ms`` before this attempt.
        path: The path to post it to.
        batched: Whether it uses the batch extension.
    """

    events: list[PendingEvent]
    first_attempts: list[int | None]
    path: str
    batched: bool

    def body(self) -> bytes:
        """Return the request's body."""
        if not self.batched:
            return self.events[0].payload
        return batch_body([event.payload for event in self.events])


class EventResult(NamedTuple):
    """The result of one event, by a response.

    Attributes:
        decision: The treatment of the event.
        message: The server's words, for logs and dead letters.
    """

    decision: Decision
    message: str


class ResponseResult(NamedTuple):
    """The results of a response, in the order of the events sent.

    Attributes:
        results: One result for each event.
        duplicates: The number of delivered events that the server knew already.
        batch_failed: Whether the batch extension must not be used again.
        too_large: Whether the batch was refused for its size alone.
    """

    results: Sequence[EventResult]
    duplicates: int = 0
    batch_failed: bool = False
    too_large: bool = False


class _ErrorBody(msgspec.Struct):
    message: str | None = None
    error: str | None = None


_ABSENT: Final = msgspec.Raw()


class _AcceptedBody(msgspec.Struct):
    """The body of a 202. Other members do not matter unless it has one of these."""

    error: msgspec.Raw = _ABSENT
    errors: msgspec.Raw = _ABSENT
    errorMessage: msgspec.Raw = _ABSENT  # noqa: N815 - as servers write it

    @property
    def has_errors(self) -> bool:
        members = (self.error, self.errors, self.errorMessage)
        return any(member is not _ABSENT for member in members)


class _KeyBody(msgspec.Struct):
    idempotencyKey: str | None = None  # noqa: N815 - the wire's name


class _FailedItem(msgspec.Struct):
    index: int
    status: int
    message: str = ""
    error: str = ""


class _Summary(msgspec.Struct):
    total: int
    successful: int
    failed: int
    duplicates: int = 0


class _BatchBody(msgspec.Struct):
    failed: list[_FailedItem]
    summary: _Summary


_decode_accepted = msgspec.json.Decoder(_AcceptedBody).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_key = msgspec.json.Decoder(_KeyBody).decode
_decode_error = msgspec.json.Decoder(_ErrorBody).decode
_decode_batch = msgspec.json.Decoder(_BatchBody).decode


def batch_body(payloads: Sequence[bytes]) -> bytes:
    """Return the body of a batch request. Payloads go in byte for byte."""
    return b'{"events":[%b]}' % b",".join(payloads)


def send(
    request: PlannedRequest, transport: Transport
) -> tuple[TransportResponse | None, ResponseResult]:
    """Make the request, and return its response, if any, and what it says.

    This raises nothing. An error of the transport counts as no response.
    """
    count = len(request.events)
    try:
        response = transport.post(request.path, request.body())
        if request.batched:
            return response, read_batch_response(response, count)
        return response, read_event_response(response, request.events[0].payload)
    except UnavailableError as error:
        decision = NO_RESPONSE if error.sent else NOT_SENT
        return None, no_response(decision, str(error), count)
    except BaseException as error:  # noqa: BLE001 - a user's transport may raise anything,
        # such as a cancellation. A sender that ended here would keep its place, and in
        # time nothing would be sent.
        return None, no_response(NO_RESPONSE, f"transport failed: {error!r}", count)


def read_event_response(response: TransportResponse, payload: bytes) -> ResponseResult:
    """Return what the response to one event's request says.

    Args:
        response: The server's response.
        payload: The request's body, the event.
    """
    if 200 <= response.status < 300 and not _takes_event(response, payload):
        message = f"HTTP {response.status} without the event: {_page(response)}"
        return no_response(NO_RESPONSE, message, 1)
    body = _error_body(response)
    decision = decide(response.status, body.error or "")
    if decision.outcome is Outcome.DEAD and body.message is None and body.error is None:
        # Some hop between us and the service refused the request, and may refuse all.
        return no_response(FOREIGN, f"HTTP {response.status}: {_page(response)}", 1)
    duplicate = response.headers.get(_DUPLICATE_HEADER) == "true"
    return ResponseResult(
        [EventResult(decision, _message(response, body))], int(duplicate)
    )


def _takes_event(response: TransportResponse, payload: bytes) -> bool:
    """Return whether a 2xx response says that the server took the event.

    A portal, a proxy or a failed function may respond 2xx to anything. Costs would
    vanish if that counted as delivered. A response that has the event's key is from a
    service that read the event. Otherwise only a 202 is the contract's.
    """
    try:
        if response.status == 202 and not _decode_accepted(response.body).has_errors:
            return True
        members = _decode_members(response.body).keys()
        if response.status == 202 and members & _EVENT_MEMBERS:
            return True
        key = _decode_key(response.body).idempotencyKey
        return key is not None and key == _decode_key(payload).idempotencyKey
    except _UNREADABLE:
        return False


def _page(response: TransportResponse) -> str:
    """Return the first words of a response that is not the service's, and its server.

    They tell a person which hop responded.
    """
    text = " ".join(response.body[: 4 * _PAGE_CHARS].decode(errors="replace").split())
    words = repr(text[:_PAGE_CHARS]) if text else "an empty body"
    server = response.headers.get("server")
    return f"{words} from {server[:_PAGE_CHARS]}" if server else words


def read_batch_response(response: TransportResponse, count: int) -> ResponseResult:
    """Return what the response to a batch says about each of its events.

    Args:
        response: The server's response.
        count: The number of events in the batch.
    """
    if 200 <= response.status < 300:
        return _read_items(response, count)
    body = _error_body(response)
    message = _message(response, body)
    if response.status == 413:
        return ResponseResult(
            [EventResult(_SPLIT_BATCH, message)] * count, too_large=True
        )
    decision = decide(response.status, body.error or "")
    if decision.effect is ServerEffect.NONE or response.status == 501:
        # 400, 404, 405: the server refuses the envelope, and not the events. A 500 may
        # be one event's fault. Singly, that event does not hold up the others.
        resend = _RESEND_SINGLY._replace(received=decision.received)
        return ResponseResult([EventResult(resend, message)] * count, batch_failed=True)
    return ResponseResult([EventResult(decision, message)] * count)


def no_response(decision: Decision, message: str, count: int) -> ResponseResult:
    """Return the result of a request without a usable response.

    Args:
        decision: The treatment of its events.
        message: The reason for logs.
        count: The number of its events.
    """
    return ResponseResult([EventResult(decision, message)] * count)


def _read_items(response: TransportResponse, count: int) -> ResponseResult:
    try:
        body = _decode_batch(response.body)
    except _UNREADABLE:
        body = None
    if body is None or not _is_consistent(body, count):
        # As with single events: believe none of it.
        message = f"HTTP {response.status} without a batch result: {_page(response)}"
        unknown = [EventResult(NO_RESPONSE, message)] * count
        return ResponseResult(unknown, batch_failed=True)
    results = [EventResult(decide(response.status), "")] * count
    for item in body.failed:
        message = item.message[:_MESSAGE_CHARS]
        results[item.index] = EventResult(decide(item.status, item.error), message)
    return ResponseResult(results, body.summary.duplicates)


def _is_consistent(body: _BatchBody, count: int) -> bool:
    indexes = {item.index for item in body.failed}
    return (
        body.summary.total == count
        and body.summary.successful + len(body.failed) == count
        and len(indexes) == len(body.failed)
        and all(0 <= index < count for index in indexes)
        and not any(200 <= item.status < 300 for item in body.failed)
    )


def _error_body(response: TransportResponse) -> _ErrorBody:
    if response.status < 300:
        return _ErrorBody()
    try:
        return _decode_error(response.body)
    except _UNREADABLE:  # a proxy's HTML, or nothing
        return _ErrorBody()


def _message(response: TransportResponse, body: _ErrorBody) -> str:
    if not body.message:
        return f"HTTP {response.status}"
    return f"HTTP {response.status}: {body.message[:_MESSAGE_CHARS]}"
