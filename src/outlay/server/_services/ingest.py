"""Taking in events: what is checked, in which order, and what is answered.

A single post and an event of a batch go through the same function, so both paths give
the same event the same fate.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay.server._records import ApiKey, Event, IngestResult
from outlay.server._wire.problems import (
    FieldError,
    HttpProblem,
    invalid_fields,
    malformed_body,
    too_large,
    unmatched_event_type,
)
from outlay.server._wire.response_models import (
    BatchCounts,
    BatchFailure,
    BatchResponse,
    EventBody,
    EventResponse,
    decode_batch,
    decode_data,
    decode_event,
    format_instant,
    to_microseconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outlay.server._services.auth import Authenticator
    from outlay.server._settings import ServerSettings
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store

log = logging.getLogger("outlay.server")

MAX_TEXT_CHARS: Final = 255
"""Of type, source, subject and key. Precedent in the contract: external ids and the
idempotency header of invoices."""

MAX_DEPTH: Final = 100
"""Levels that data may be nested: more than any client of ours sends."""

_ID_BYTES: Final = 12  # 96 random bits

_EXTERNAL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,255}")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")

# Where msgspec says which field is at fault: "Expected `str`, got `int` - at `$.type`".
_AT_FIELD: Final = re.compile(r"(?P<message>.*?) - at `\$\.?(?P<field>.*)`")
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(?P<field>.+)`")

# Everything that decoding bytes as JSON can raise; RecursionError: nested too deeply.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(slots=True)
class IngestCounts:
    """What came in since the start. Written on the event loop only.

    Attributes:
        accepted: events that were new.
        duplicates: events whose key had been received before.
        conflicts: duplicates that said something else than the first.
        refused: events answered with an error.
    """

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0


class IngestService:
    """Takes in events. Thread safety: the event loop's thread."""

    def __init__(
        self,
        store: Store,
        writer: CommitThread,
        access: Authenticator,
        settings: ServerSettings,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._writer = writer
        self._access = access
        self._settings = settings
        self._now = now
        self.counts = IngestCounts()

    async def ingest_event(
        self, key: ApiKey, body: bytes
    ) -> tuple[EventResponse, bool]:
        """Keep one event; return its answer, and whether it is a duplicate.

        Raises:
            Problem: it was refused.
        """
        try:
            _check_text(body)
            if body.lstrip()[:1] == b"[":
                raise malformed_body(
                    "one event is posted here, as a JSON object; "
                    "send several to /v0/events/batch"
                )
            event = self._parse_event(key, body, *_new_ids(1))
        except HttpProblem:
            self.counts.refused += 1
            raise
        [receipt] = await self._writer.append([event])
        self._count([receipt])
        return _event_response(receipt.event), receipt.duplicate

    async def ingest_batch(
        self, key: ApiKey, body: bytes, *, minimal: bool = False
    ) -> BatchResponse:
        """Keep those events of a batch that are in order; answer for each.

        Args:
            key: of the request.
            body: the envelope.
            minimal: leave out the events that were accepted; they are counted, and
                what is not among the failed is among them.

        Raises:
            Problem: the envelope was refused, and nothing of it was kept.
        """
        events: list[Event] = []
        failed: list[BatchFailure] = []
        bodies = self._open_envelope(body)
        for raw, event_id in zip(bodies, _new_ids(len(bodies)), strict=True):
            try:
                events.append(self._parse_event(key, raw, event_id))
            except HttpProblem as problem:
                index = len(events) + len(failed)
                failed.append(_failure(index, raw, problem))
        receipts = await self._writer.append(events) if events else []
        duplicates = self._count(receipts)
        self.counts.refused += len(failed)
        return BatchResponse(
            [] if minimal else [_event_response(receipt.event) for receipt in receipts],
            failed,
            BatchCounts(
                len(bodies),
                len(receipts),
                len(failed),
                duplicates,
            ),
        )

    def _open_envelope(self, body: bytes) -> Sequence[msgspec.Raw]:
        _check_text(body)
        try:
            events = decode_batch(body).events
        except _UNREADABLE as error:
            raise malformed_body(
                f'send {{"events": […]}} with 1 to {self._settings.max_batch_events} '
                f"events ({error})"
            ) from None
        if not 1 <= len(events) <= self._settings.max_batch_events:
            raise malformed_body(
                f"a batch has 1 to {self._settings.max_batch_events} events, "
                f"this one has {len(events)}"
            )
        return events

    def _parse_event(
        self, key: ApiKey, raw: bytes | msgspec.Raw, event_id: str
    ) -> Event:
        """Return the event that ``raw`` spells, or raise why it is refused."""
        if len(memoryview(raw)) > self._settings.max_event_bytes:
            raise too_large(self._settings.max_event_bytes)
        body, data, fields = _decode(raw)
        at = self._validated_time(body)
        self._access.check_namespace(key, "namespace", body.namespace)
        if not self._settings.accept_unmatched and not self._store.has_metric_for(
            key.namespace, body.type
        ):
            raise unmatched_event_type(body.type)
        return Event(
            event_id,
            key.namespace,
            body.idempotency_key or event_id,
            body.type,
            body.source,
            body.subject,
            body.external_subject,
            body.external_id,
            at,
            data,
            fields,
        )

    def _validated_time(self, body: EventBody) -> int:
        """Return the event's instant, or raise a 400 naming every field at fault."""
        errors = [] if _texts_are_valid(body) else _text_errors(body)
        at = 0
        if body.timestamp is None:
            at = self._now()
        elif body.timestamp.tzinfo is None and self._settings.strict_timestamps:
            errors.append(
                FieldError("timestamp", "add an offset, such as Z", "INVALID_TIMESTAMP")
            )
        else:
            try:
                at = to_microseconds(body.timestamp)
            except OverflowError:
                errors.append(
                    FieldError(
                        "timestamp",
                        "must be in the years 1 to 9999 in UTC",
                        "INVALID_TIMESTAMP",
                    )
                )
        if errors:
            raise invalid_fields(errors)
        return at

    def _count(self, receipts: Sequence[IngestResult]) -> int:
        """Count what came in, and return how many duplicates there are."""
        again = [receipt for receipt in receipts if receipt.duplicate]
        self.counts.accepted += len(receipts) - len(again)
        self.counts.duplicates += len(again)
        for receipt in again:
            if receipt.conflict:
                self.counts.conflicts += 1
                log.warning(
                    "a key came again with another payload; the first is kept: "
                    "namespace=%s key=%r first=%s",
                    receipt.event.namespace,
                    receipt.event.key,
                    receipt.event.id,
                )
        return len(again)


def _check_text(body: bytes) -> None:
    # msgspec does not look into the strings of a Raw, so it must be done up front.
    try:
        body.decode()
    except UnicodeDecodeError:
        raise malformed_body("the body is not UTF-8; send JSON in UTF-8") from None


def _new_ids(count: int) -> list[str]:
    digits = 2 * _ID_BYTES
    drawn = os.urandom(count * _ID_BYTES).hex()  # at once: it is a system call
    return ["evt_" + drawn[at : at + digits] for at in range(0, len(drawn), digits)]


def _decode(raw: bytes | msgspec.Raw) -> tuple[EventBody, str, dict[str, Any]]:
    """Return an event, its data to the letter, and decoded; or raise a 400."""
    try:
        body = decode_event(raw)
    except msgspec.ValidationError as error:
        raise _field_problem(str(error), "") from None
    except _UNREADABLE as error:
        raise malformed_body(f"the event is not JSON ({error})") from None
    try:
        fields = decode_data(body.data)
    except msgspec.ValidationError as error:
        raise _field_problem(str(error), "data") from None
    except _UNREADABLE as error:
        raise malformed_body(f"data is not JSON ({error})") from None
    data = str(body.data, "utf-8")
    if _too_deep(data, fields):
        raise malformed_body(f"data is nested over {MAX_DEPTH} levels")
    return body, data, fields


def _too_deep(text: str, fields: dict[str, Any]) -> bool:
    """Say whether data is nested over `MAX_DEPTH` levels.

    The decoder's own limit is what is left of the stack, so data that it just accepts
    here might be unreadable from where it is summed up later.
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
    """Return the 400 for a field of the wrong type, named as on the wire."""
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


def _texts_are_valid(body: EventBody) -> bool:
    """Say whether the texts of an event are right, and such as most; mostly True."""
    kind, source, subject = body.type, body.source, body.subject
    key = body.idempotency_key
    return bool(
        kind
        and source
        and subject
        and key
        and body.external_subject is None
        and body.external_id is None
        and (kind + source + subject + key).isprintable()
        and len(kind) <= MAX_TEXT_CHARS
        and len(source) <= MAX_TEXT_CHARS
        and len(subject) <= MAX_TEXT_CHARS
        and len(key) <= MAX_TEXT_CHARS
    )


def _text_errors(body: EventBody) -> list[FieldError]:
    """Return what is wrong with the texts of an event."""
    errors: list[FieldError] = []
    for field, text in (
        ("type", body.type),
        ("source", body.source),
        ("subject", body.subject),
        ("idempotencyKey", body.idempotency_key),
    ):
        if text is None:
            continue
        if not text.isprintable() and _CONTROL.search(text):
            errors.append(
                FieldError(field, "must hold no control characters", "INVALID_FORMAT")
            )
        if not 1 <= len(text) <= MAX_TEXT_CHARS:
            errors.append(
                FieldError(
                    field,
                    f"has {len(text)} characters, 1 to {MAX_TEXT_CHARS} are allowed",
                    "INVALID_LENGTH",
                )
            )
    for field, text in (
        ("externalSubject", body.external_subject),
        ("externalId", body.external_id),
    ):
        if text is not None and not _EXTERNAL_ID.fullmatch(text):
            errors.append(
                FieldError(
                    field,
                    "has 1 to 255 letters, digits, '_' and '-'",
                    "INVALID_FORMAT",
                )
            )
    if body.subject is None and body.external_subject is None:
        errors.append(
            FieldError("subject", "give subject or externalSubject", "REQUIRED")
        )
    return errors


def _event_response(event: Event) -> EventResponse:
    return EventResponse(
        event.id,
        event.type,
        event.source,
        event.namespace,
        format_instant(event.at),
        event.key,
        event.subject,
        event.external_subject,
        event.external_id,
    )


def _failure(index: int, raw: msgspec.Raw, problem: HttpProblem) -> BatchFailure:
    return BatchFailure(
        index,
        problem.status,
        problem.body.error,
        str(problem),
        problem.body.code,
        _key_of(raw),
    )


def _key_of(raw: msgspec.Raw) -> str | None:
    """Return the key of a refused event if it can be made out at all."""
    try:
        return _decode_key(raw).idempotency_key
    except (*_UNREADABLE,):
        return None


class _Keyed(msgspec.Struct, rename="camel"):
    idempotency_key: str | None = None


_decode_key: Final = msgspec.json.Decoder(_Keyed).decode
