"""Accept events: decode and check them, commit them, and respond.

Each step is a function from a value to a value. A single post and an event of a batch
pass the same steps, so that both paths give the same event the same outcome.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from outlay.server._records import ApiKey, Event, IngestResult
from outlay.server._services.event_checks import (
    UNREADABLE,
    check_event,
    check_utf8,
    key_of,
)
from outlay.server._services.event_ids import EventIds
from outlay.server._services.ingest_activity import ActivityLog
from outlay.server._services.writing import WritingService
from outlay.server._wire.problems import (
    HttpProblem,
    malformed_body,
    too_large,
    unmatched_event_type,
)
from outlay.server._wire.response_models import (
    BatchCounts,
    BatchFailure,
    BatchResponse,
    EventResponse,
    decode_batch,
    format_instant,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import msgspec


log = logging.getLogger("outlay.server")


@dataclass(slots=True)
class IngestCounts:
    """Counts of received events since the start. Only the event loop writes them.

    Attributes:
        accepted: The number of new events.
        duplicates: The number of events whose key was received before.
        conflicts: The number of duplicates that differ from the first event.
        refused: The number of events that were refused.
    """

    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0


class IngestService(WritingService):
    """Accepts events. Thread safety: the event loop's thread."""

    @cached_property
    def _ids(self) -> EventIds:
        return EventIds()

    @cached_property
    def counts(self) -> IngestCounts:
        """The counts since the start."""
        return IngestCounts()

    @cached_property
    def activity(self) -> ActivityLog:
        """The newest refusals of each organization."""
        return ActivityLog(self._now)

    @cached_property
    def stored(self) -> list[Callable[[str, Iterable[Event]], None]]:
        """The functions that are called with an organization and its new events."""
        return []

    async def ingest_event(
        self, key: ApiKey, body: bytes
    ) -> tuple[EventResponse, bool]:
        """Store one event. Return its response, and whether it is a duplicate.

        Raises:
            HttpProblem: The event was refused.
        """
        try:
            check_utf8(body)
            if body.lstrip()[:1] == b"[":
                raise malformed_body(
                    "send one event here, as a JSON object; "
                    "send several to /v0/events/batch"
                )
            now = self._now()
            [event_id] = self._ids.draw(1, now)
            event = self._parse_event(key, body, event_id, now)
        except HttpProblem as problem:
            self.counts.refused += 1
            self.activity.of(key.namespace).refuse(problem, self._now())
            raise
        [result] = await self._commits.append([event])
        self._count(key, [result], now)
        return _event_response(result.event), result.duplicate

    async def ingest_batch(
        self, key: ApiKey, body: bytes, *, minimal: bool = False
    ) -> BatchResponse:
        """Store the valid events of a batch. Return the outcome of each event.

        Args:
            key: The request's API key.
            body: The batch.
            minimal: Whether the response leaves the accepted events out. It still
                counts them.

        Raises:
            HttpProblem: The batch was refused, and none of it was stored.
        """
        events: list[Event] = []
        failed: list[BatchFailure] = []
        bodies = self._decode_batch(body)
        now = self._now()
        for raw, event_id in zip(bodies, self._ids.draw(len(bodies), now), strict=True):
            try:
                events.append(self._parse_event(key, raw, event_id, now))
            except HttpProblem as problem:
                index = len(events) + len(failed)
                failed.append(_failure(index, raw, problem))
                self.activity.of(key.namespace).refuse(problem, now)
        results = await self._commits.append(events) if events else []
        duplicates = self._count(key, results, now)
        self.counts.refused += len(failed)
        return BatchResponse(
            [] if minimal else [_event_response(result.event) for result in results],
            failed,
            BatchCounts(len(bodies), len(results), len(failed), duplicates),
        )

    def _decode_batch(self, body: bytes) -> Sequence[msgspec.Raw]:
        check_utf8(body)
        most = self._settings.max_batch_events
        try:
            events = decode_batch(body).events
        except UNREADABLE as error:
            raise malformed_body(
                f'send {{"events": […]}} with 1 to {most} events ({error})'
            ) from None
        if not 1 <= len(events) <= most:
            raise malformed_body(
                f"a batch has 1 to {most} events, this one has {len(events)}"
            )
        return events

    def _parse_event(
        self, key: ApiKey, raw: bytes | msgspec.Raw, event_id: str, now: int
    ) -> Event:
        """Return the event in ``raw``, or raise the reason of its refusal."""
        settings = self._settings
        if len(memoryview(raw)) > settings.max_event_bytes:
            raise too_large(settings.max_event_bytes)
        body, at, data, fields = check_event(
            raw, now, strict_timestamps=settings.strict_timestamps
        )
        self._auth.check_namespace(key, "namespace", body.namespace)
        if not self._store.has_metric_for(
            key.namespace, body.type
        ) and not settings.accepts_unmatched(body.type):
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

    def _count(self, key: ApiKey, results: Sequence[IngestResult], now: int) -> int:
        """Count the results, and return the number of duplicates."""
        self.activity.of(key.namespace).add(results, now)
        duplicates = [result for result in results if result.duplicate]
        self.counts.accepted += len(results) - len(duplicates)
        self.counts.duplicates += len(duplicates)
        for result in duplicates:
            if result.conflict:
                self.counts.conflicts += 1
                log.warning(
                    "a key was received again with another payload; the first event "
                    "is kept: namespace=%s key=%r first=%s",
                    result.event.namespace,
                    result.event.key,
                    result.event.id,
                )
        if self.stored and len(duplicates) < len(results):
            fresh = [result.event for result in results if not result.duplicate]
            for tell in self.stored:
                tell(key.namespace, fresh)
        return len(duplicates)


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
        key_of(raw),
    )
