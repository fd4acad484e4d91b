"""Accept events: decode and check them, commit them, and respond.

Each step is a function from a value to a value. A single post and an event of a batch
pass the same steps, so both get the same outcome.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
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

    from outlay.server._services.auth import Authenticator
    from outlay.server._settings import ServerSettings
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store
    from outlay.server._wire.response_models import EventBody

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


class IngestService:
    """Accepts events. Thread safety: the event loop's thread.

    Args:
        store: The store.
        commits: The thread that writes.
        auth: The authenticator, which knows the organizations.
        settings: The server's settings.
        now: The source of the time, in microseconds since 1970.
        on_stored: A function that is called with an organization and its new events.

    Attributes:
        counts: The counts since the start.
        activity: The counts of each organization.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        auth: Authenticator,
        settings: ServerSettings,
        now: Callable[[], int],
        *,
        on_stored: Callable[[str, Iterable[Event]], None],
    ) -> None:
        self._store = store
        self._commits = commits
        self._auth = auth
        self._settings = settings
        self._now = now
        self._on_stored = on_stored
        self._ids = EventIds()
        self.counts = IngestCounts()
        self.activity = ActivityLog(now)

    async def ingest_event(
        self, key: ApiKey, body: bytes
    ) -> tuple[EventResponse, bool]:
        """Store one event. Return its response, and whether it is a duplicate.

        Raises:
            HttpProblem: The event was refused.
        """
        now = self._now()
        try:
            check_utf8(body)
            if body.lstrip()[:1] == b"[":
                raise malformed_body(
                    "send one event here, as a JSON object; "
                    "send several to /v0/events/batch"
                )
            [event_id] = self._ids.draw(1, now)
            event = self._parse_event(key, body, event_id, now)
        except HttpProblem as problem:
            self._refuse(key, problem, now)
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
        now = self._now()
        try:
            bodies = self._decode_batch(body)
        except HttpProblem as problem:
            self._refuse(key, problem, now)
            raise
        for raw, event_id in zip(bodies, self._ids.draw(len(bodies), now), strict=True):
            try:
                events.append(self._parse_event(key, raw, event_id, now))
            except HttpProblem as problem:
                index = len(events) + len(failed)
                failed.append(_failure(index, raw, problem))
                self._refuse(key, problem, now)
        results = await self._commits.append(events) if events else []
        duplicates = self._count(key, results, now)
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
        self._admit(key, body)
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

    def _admit(self, key: ApiKey, body: EventBody) -> None:
        """Refuse an event of another organization, or one that no metric reads."""
        self._auth.check_namespace(key, "namespace", body.namespace)
        if not self._store.has_metric_for(
            key.namespace, body.type
        ) and not self._settings.accepts_unmatched(body.type):
            raise unmatched_event_type(body.type)

    def _refuse(self, key: ApiKey, problem: HttpProblem, now: int) -> None:
        """Count an event, or a batch that cannot be read, as refused."""
        self.counts.refused += 1
        self.activity.of(key.namespace).refuse(problem, now)

    def _count(self, key: ApiKey, results: Sequence[IngestResult], now: int) -> int:
        """Count the results, and return the number of duplicates."""
        self.activity.of(key.namespace).add(results, now)
        fresh = [result.event for result in results if not result.duplicate]
        duplicates = len(results) - len(fresh)
        self.counts.accepted += len(fresh)
        self.counts.duplicates += duplicates
        if duplicates:
            self._count_conflicts(results)
        if fresh:
            self._on_stored(key.namespace, fresh)
        return duplicates

    def _count_conflicts(self, results: Iterable[IngestResult]) -> None:
        for result in results:
            if result.conflict:
                self.counts.conflicts += 1
                log.warning(
                    "a key was received again with another payload; the first event "
                    "is kept: namespace=%s key=%r first=%s",
                    result.event.namespace,
                    result.event.key,
                    result.event.id,
                )


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
