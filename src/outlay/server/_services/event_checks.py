"""Decode and check events, and describe the reasons of a refusal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay.server._wire.problems import (
    FieldError,
    HttpProblem,
    invalid_fields,
    malformed_body,
)
from outlay.server._wire.response_models import (
    EventBody,
    decode_data,
    decode_event,
    decode_undated_event,
    parse_instant,
    to_microseconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT_CHARS: Final = 255
"""The longest type, source, subject and key. In the contract, external ids and the
idempotency header of invoices have the same limit."""

MAX_DEPTH: Final = 100
"""The deepest nesting of data. No client of outlay sends as much."""

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The errors of decoding JSON. RecursionError means that it is nested too deeply."""

# The decoder rounds to microseconds.
_LONG_FRACTION: Final = re.compile(rb'"timestamp"\s*:\s*"[^"]{19}\.\d{7}')

_EXTERNAL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,255}")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")

# msgspec names the field so: "Expected `str`, got `int` - at `$.type`".
_AT_FIELD: Final = re.compile(r"(?P<message>.*?) - at `\$\.?(?P<field>.*)`")
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(?P<field>.+)`")


class CheckedEvent(NamedTuple):
    """One event that passed every check.

    Attributes:
        body: The event's fields.
        at: The event's time, in microseconds since 1970.
        data: The event's data, exactly as it was sent.
        fields: The event's data, decoded.
    """

    body: EventBody
    at: int
    data: str
    fields: dict[str, Any]


def check_event(
    raw: bytes | msgspec.Raw, now: int, *, strict_timestamps: bool
) -> CheckedEvent:
    """Decode one event and check its fields.

    Args:
        raw: The JSON text of the event.
        now: The time of an event without timestamp, in microseconds since 1970.
        strict_timestamps: Whether a timestamp needs an offset.

    Raises:
        HttpProblem: 400, with every invalid field.
    """
    body, data, fields = _decode(raw)
    errors = [] if _has_valid_texts(body) else list(_text_errors(body))
    at = now
    if body.timestamp is not None:
        fault = ""
        try:
            at = to_microseconds(body.timestamp)
        except ValueError as error:
            fault = str(error)
        if strict_timestamps and body.timestamp.tzinfo is None:
            fault = "add an offset, such as Z"
        if fault:
            errors.append(FieldError("timestamp", fault, "INVALID_TIMESTAMP"))
    if errors:
        raise invalid_fields(errors)
    return CheckedEvent(body, at, data, fields)


def check_utf8(body: bytes) -> None:
    """Refuse a body that is not UTF-8. msgspec does not check the strings of a Raw.

    Raises:
        HttpProblem: 400.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        raise malformed_body("the body is not UTF-8; send JSON in UTF-8") from None


def key_of(raw: msgspec.Raw) -> str | None:
    """Return the idempotency key of a refused event, if it can be decoded."""
    try:
        return _decode_key(raw).idempotency_key
    except UNREADABLE:
        return None


def _decode(raw: bytes | msgspec.Raw) -> tuple[EventBody, str, dict[str, Any]]:
    """Return an event, its data as text, and its data decoded, or raise a 400."""
    try:
        body = decode_event(raw)
    except msgspec.ValidationError as error:
        exact = _with_exact_time(raw)
        if exact is None:
            raise _field_problem(str(error), "") from None
        body = exact
    except UNREADABLE as error:
        raise malformed_body(f"the event is not JSON ({error})") from None
    if _LONG_FRACTION.search(raw) and (exact := _with_exact_time(raw)):
        body = exact
    try:
        fields = decode_data(body.data)
    except msgspec.ValidationError as error:
        raise _field_problem(str(error), "data") from None
    except UNREADABLE as error:
        raise malformed_body(f"data is not JSON ({error})") from None
    data = str(body.data, "utf-8")
    if _is_too_deep(data, fields):
        raise malformed_body(f"data is nested over {MAX_DEPTH} levels; flatten it")
    return body, data, fields


def _with_exact_time(raw: bytes | msgspec.Raw) -> EventBody | None:
    """Return an event whose timestamp the decoder rounds or refuses, or None."""
    try:
        undated = decode_undated_event(raw)
        moment = parse_instant(undated.timestamp or "")
    except (ValueError, RecursionError):
        return None
    fields = msgspec.structs.asdict(undated)
    return EventBody(**{**fields, "timestamp": moment})


def _is_too_deep(text: str, fields: dict[str, Any]) -> bool:
    """Return whether data is nested over `MAX_DEPTH` levels.

    The decoder's own limit is the rest of the stack. Data that it just accepts here
    could be unreadable from the deeper stack of a later query.
    """
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    level: list[Any] = [fields]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
    return bool(level)


def _field_problem(text: str, parent: str) -> HttpProblem:
    """Return the 400 for a field of the wrong type, with its name on the wire."""
    if found := _MISSING_FIELD.fullmatch(text):
        field, message, code = found["field"], "is required", "REQUIRED"
    elif found := _AT_FIELD.fullmatch(text):
        field, message, code = found["field"], found["message"], "INVALID_TYPE"
        if "RFC3339" in message:
            message = "must be an RFC 3339 instant, such as 2026-01-01T12:00:00Z"
    else:
        field, message, code = "", text, "INVALID_TYPE"
    name = ".".join(filter(None, (parent, field))) or "body"
    return invalid_fields([FieldError(name, message, code)])


def _has_valid_texts(body: EventBody) -> bool:
    """Return whether the texts of an event of the usual form are valid; it is fast."""
    event_type, source, subject = body.type, body.source, body.subject
    key = body.idempotency_key
    return bool(
        event_type
        and source
        and subject
        and key
        and body.external_subject is None
        and body.external_id is None
        and (event_type + source + subject + key).isprintable()
        and len(event_type) <= MAX_TEXT_CHARS
        and len(source) <= MAX_TEXT_CHARS
        and len(subject) <= MAX_TEXT_CHARS
        and len(key) <= MAX_TEXT_CHARS
    )


def _text_errors(body: EventBody) -> Iterator[FieldError]:
    """Yield the errors in the texts of an event."""
    for field, text in (
        ("type", body.type),
        ("source", body.source),
        ("subject", body.subject),
        ("idempotencyKey", body.idempotency_key),
    ):
        if text is None:
            continue
        if not text.isprintable() and _CONTROL.search(text):
            yield FieldError(field, "must hold no control characters", "INVALID_FORMAT")
        if not 1 <= len(text) <= MAX_TEXT_CHARS:
            yield FieldError(
                field,
                f"has {len(text)} characters, 1 to {MAX_TEXT_CHARS} are allowed",
                "INVALID_LENGTH",
            )
    for field, text in (
        ("externalSubject", body.external_subject),
        ("externalId", body.external_id),
    ):
        if text is not None and not _EXTERNAL_ID.fullmatch(text):
            yield FieldError(
                field, "has 1 to 255 letters, digits, '_' and '-'", "INVALID_FORMAT"
            )
    if body.subject is None and body.external_subject is None:
        yield FieldError("subject", "give subject or externalSubject", "REQUIRED")


class _Keyed(msgspec.Struct, rename="camel"):
    idempotency_key: str | None = None


_decode_key: Final = msgspec.json.Decoder(_Keyed).decode
