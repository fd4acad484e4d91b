"""Claim the keys of arriving events, and number the events that are new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._records import IngestResult
from outlay.server._storage.deduping import ingest_result
from outlay.server._storage.postgres import receipts
from outlay.server._storage.postgres.receipts import key_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay.server._records import Event
    from outlay.server._storage.postgres.connecting import PostgresConnection

PLACES: Final = 1 << 14
"""The events of one batch number. Their order of receipt is batch << 14 | place."""


class Claims:
    """The keys of one append."""

    def __init__(
        self, connection: PostgresConnection, epoch: int, cutoff: int, now: int
    ) -> None:
        self._connection = connection
        self._epoch = epoch
        self._cutoff = cutoff
        self._now = now
        self._known: dict[str, tuple[str, str]] = {}

    def make(self, events: Sequence[Event], batch: int) -> list[tuple[int, Event]]:
        """Claim all keys. Return the new events with their order of receipt."""
        first: dict[str, Event] = {}
        for event in events:
            first.setdefault(key_hash(event.namespace, event.key), event)
        ordered = [*first.items()]
        fresh: list[tuple[int, Event]] = []
        for start in range(0, len(ordered), PLACES - 1):
            if start:
                batch = new_batch(self._connection)
            part = ordered[start : start + PLACES - 1]
            base = batch * PLACES
            new = receipts.claim(
                self._connection,
                [one for one, _ in part],
                base,
                epoch=self._epoch,
                cutoff=self._cutoff,
                now=self._now,
            )
            for seq, (one, event) in enumerate(part, base + 1):
                if seq in new:
                    fresh.append((seq, event))
                else:
                    self._known[one] = event.namespace, event.key
        return fresh

    def results(self, events: Sequence[Event]) -> list[IngestResult]:
        """Return the result of each event."""
        found = receipts.first_events(self._connection, [*self._known], self._cutoff)
        first = {self._known[one]: event for one, event in found.items()}
        lost = {*self._known.values()} - {*first}
        return [
            # The first event was deleted by hand. The key still says that it came.
            IngestResult(event, duplicate=True)
            if lost and (event.namespace, event.key) in lost
            else ingest_result(first, event)
            for event in events
        ]


def new_batch(connection: PostgresConnection) -> int:
    """Return the next batch number. No two servers get the same."""
    (batch,) = connection.execute("SELECT nextval('batches')").fetchone()
    return int(batch)
