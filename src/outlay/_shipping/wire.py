"""Requests made of events, and what their answers say about each of them.

One event a request is what every compatible service takes. The batch extension is used
only where the server itself has advertised it, in a response header: a service that
does not know it never receives a request that it did not document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay._shipping.outcomes import (
    NO_RESPONSE,
    Decision,
    Outcome,
    Received,
    ServerEffect,
    decide,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay._shipping.transport import TransportResponse

_BATCH_HEADER: Final = "outlay-batch"  # /v0/events/batch; max=1000
_DUPLICATE_HEADER: Final = "outlay-duplicate"

_MESSAGE_CHARS: Final = 500  # of what a server says; more is a page, not a message
_NUMBER_DIGITS: Final = 9  # of a header's parameter; Python takes no endless ones

# Everything that decoding bytes as JSON can raise; RecursionError: nested too deeply.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_RESEND_SINGLY: Final = Decision(
    Outcome.RETRY, ServerEffect.NONE, Received.NO, "no_batch"
)
_SPLIT_BATCH: Final = Decision(
    Outcome.RETRY, ServerEffect.NONE, Received.NO, "batch_too_large"
)


class BatchOffer(NamedTuple):
    """What a server says about its batch extension."""

    path: str
    max_events: int


DEFAULT_OFFER: Final = BatchOffer("/v0/events/batch", 1000)
"""The batch extension as the reference server serves it."""


class EventResult(NamedTuple):
    """One event's share of an answer."""

    verdict: Decision
    message: str


class ResponseResult(NamedTuple):
    """What an answer says, in the order of the events sent.

    Attributes:
        replies: one for each event.
        duplicates: how many of the delivered events the server knew already.
        batch_failed: the batch extension is not to be used again.
        too_large: the batch was refused for its size alone.
    """

    replies: Sequence[EventResult]
    duplicates: int = 0
    batch_failed: bool = False
    too_large: bool = False


class _ErrorBody(msgspec.Struct):
    message: str = ""
    error: str = ""


class _EventBody(msgspec.Struct):
    """The event as the server took it: an object, with nothing in it for us."""


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


_decode_event = msgspec.json.Decoder(_EventBody).decode
_decode_error = msgspec.json.Decoder(_ErrorBody).decode
_decode_batch = msgspec.json.Decoder(_BatchBody).decode


def batch_body(payloads: Sequence[bytes]) -> bytes:
    """Return the body of a batch request; payloads go in byte for byte."""
    return b'{"events":[%b]}' % b",".join(payloads)


def batch_offer(headers: Mapping[str, str]) -> BatchOffer | None:
    """Return the batch extension that the answer's headers advertise, if any."""
    value = headers.get(_BATCH_HEADER)
    if value is None:
        return None
    path, _, parameter = value.partition(";")
    name, _, number = parameter.strip().partition("=")
    most = DEFAULT_OFFER.max_events
    if name == "max" and number.isdecimal() and len(number) <= _NUMBER_DIGITS:
        most = int(number)
    path = path.strip()
    # What is no path of a request (RFC 9112, section 3.2) could never be posted to.
    sendable = path.isascii() and path.isprintable() and " " not in path
    if not path.startswith("/") or not sendable or most < 1:
        return None
    return BatchOffer(path, most)


def read_event_response(answer: TransportResponse) -> ResponseResult:
    """Return what the answer to one event's request says."""
    if 200 <= answer.status < 300 and not _is_event(answer):
        return no_response(NO_RESPONSE, f"HTTP {answer.status} without an event", 1)
    body = _error_body(answer)
    verdict = decide(answer.status, body.error)
    duplicate = answer.headers.get(_DUPLICATE_HEADER) == "true"
    return ResponseResult(
        [EventResult(verdict, _message(answer, body))], int(duplicate)
    )


def _is_event(answer: TransportResponse) -> bool:
    # Something in between answers 2xx to anything: a portal, a proxy, a web site. Taken
    # at its word, it would make the costs vanish.
    try:
        _decode_event(answer.body)
    except _UNREADABLE:
        return False
    return True


def read_batch_response(answer: TransportResponse, count: int) -> ResponseResult:
    """Return what the answer to a batch of ``count`` events says about each."""
    if 200 <= answer.status < 300:
        return _judge_items(answer, count)
    body = _error_body(answer)
    message = _message(answer, body)
    if answer.status == 413:
        return ResponseResult(
            [EventResult(_SPLIT_BATCH, message)] * count, too_large=True
        )
    verdict = decide(answer.status, body.error)
    if verdict.effect is ServerEffect.NONE or answer.status == 501:
        # 400, 404, 405 …: it is the envelope that is refused, and not the events. A
        # 500 may be one event's doing: singly, it does not hold up the others.
        replies = [
            EventResult(_RESEND_SINGLY._replace(counted=verdict.counted), message)
        ]
        return ResponseResult(replies * count, batch_failed=True)
    return ResponseResult([EventResult(verdict, message)] * count)


def no_response(verdict: Decision, message: str, count: int) -> ResponseResult:
    """Return the judgement on ``count`` events whose request got no answer."""
    return ResponseResult([EventResult(verdict, message)] * count)


def _judge_items(answer: TransportResponse, count: int) -> ResponseResult:
    try:
        body = _decode_batch(answer.body)
    except _UNREADABLE:
        body = None
    if body is None or not _is_consistent(body, count):
        # As with single events: believe none of it.
        message = f"HTTP {answer.status} without a batch result"
        replies = [EventResult(NO_RESPONSE, message)] * count
        return ResponseResult(replies, batch_failed=True)
    replies = [EventResult(decide(answer.status), "")] * count
    for item in body.failed:
        message = item.message[:_MESSAGE_CHARS]
        replies[item.index] = EventResult(decide(item.status, item.error), message)
    return ResponseResult(replies, body.summary.duplicates)


def _is_consistent(body: _BatchBody, count: int) -> bool:
    indexes = {item.index for item in body.failed}
    return (
        body.summary.total == count
        and body.summary.successful + len(body.failed) == count
        and len(indexes) == len(body.failed)
        and all(0 <= index < count for index in indexes)
        and not any(200 <= item.status < 300 for item in body.failed)
    )


def _error_body(answer: TransportResponse) -> _ErrorBody:
    if answer.status < 300:
        return _ErrorBody()
    try:
        return _decode_error(answer.body)
    except _UNREADABLE:  # HTML of a proxy, or nothing
        return _ErrorBody()


def _message(answer: TransportResponse, body: _ErrorBody) -> str:
    if not body.message:
        return f"HTTP {answer.status}"
    return f"HTTP {answer.status}: {body.message[:_MESSAGE_CHARS]}"
