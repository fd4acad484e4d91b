"""Store everything in PostgreSQL, and keep the days that are over in ClickHouse.

ClickHouse is never on the way of a post. Only a background thread writes to it.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._errors import QueryStoppedError
from outlay.server._metering.metric import compile_metric
from outlay.server._storage.clickhouse.connection import (
    Connection,
    HistoryUnavailableError,
)
from outlay.server._storage.clickhouse.event_rows import MovedEvents
from outlay.server._storage.clickhouse.moved_ranges import MovedRanges
from outlay.server._storage.clickhouse.mover import HistoryMover, MoverThread
from outlay.server._storage.clickhouse.reader import HistoryReader, HistoryViews
from outlay.server._storage.postgres.history import history_state
from outlay.server._storage.postgres.store import PostgresStore
from outlay.server._storage.query_limit import QueryLimit
from outlay.server._storage.sql.corrections import SqlCorrectionWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from outlay.server._records import Correction, CostMetric, Event
    from outlay.server._storage.clickhouse.days import MovedEvent
    from outlay.server._storage.correction_store import Decide
    from outlay.server._storage.postgres.history import HistoryState
    from outlay.server._storage.postgres.views import PostgresViews
    from outlay.server._storage.store import Moving, Views

_MOST_RECALLED: Final = 50_000
_SILENT_SECONDS: Final = 5  # for which posts to this server wait


class _Recalled(NamedTuple):
    """A moved event that is about to be corrected, or None if there is none.

    Attributes:
        registry: The number that grows when an event's customer may be renamed.
    """

    registry: int
    moved: MovedEvent | None


class HistoryStore(PostgresStore):
    """Stores everything in PostgreSQL, and moves days that are over to ClickHouse.

    Args:
        url: The URL of the ledger.
        clickhouse_url: The URL of ClickHouse.
        dedupe_window: The time for which a key is remembered, in microseconds.
        follows_clock: As for `PostgresStore`.
        moves_days: Whether a thread of this store moves days. Defaults to False.

    Raises:
        DatabaseError: A database cannot be used. The message says what to do.
    """

    def __init__(
        self,
        url: str,
        clickhouse_url: str,
        *,
        dedupe_window: int,
        follows_clock: bool = False,
        moves_days: bool = False,
    ) -> None:
        self._clickhouse_url = clickhouse_url
        # Of the commit thread alone. Views have one of their own.
        self._clickhouse = Connection(clickhouse_url, response_seconds=_SILENT_SECONDS)
        self._patience = QueryLimit(_SILENT_SECONDS)  # of one correction of events
        self._recalled: dict[tuple[str, str], _Recalled] = {}  # guarded by the lock
        self._recalled_lock = threading.Lock()
        super().__init__(url, dedupe_window=dedupe_window, follows_clock=follows_clock)
        self._mover: MoverThread | None = None
        if moves_days:
            stopping = threading.Event()
            mover = HistoryMover(
                url,
                clickhouse_url,
                dedupe_window,
                stopping,
            )
            self._mover = MoverThread(mover, stopping)
            self._mover.start()

    def close(self) -> None:
        """Close all connections. No thread may be writing or reading."""
        if self._mover is not None:
            self._mover.stop()
        super().close()
        self._clickhouse.close()

    def reopener(self) -> Callable[[], Views]:
        """Return a function that opens both for reading, in another process."""
        return partial(HistoryViews, self._url, self._clickhouse_url)

    def moving(self) -> Moving | None:
        """Return how far days are moved, as the last step of the thread found it."""
        return None if self._mover is None else self._mover.moving

    def prepare_correction(self, namespace: str, event_ids: Collection[str]) -> None:
        """Read moved events, so that `correct` need not wait for ClickHouse.

        An event that is found nowhere will not have been moved later.
        """
        with self._views.reading() as reader:
            if not isinstance(reader, HistoryReader):
                return
            registry, found = reader.missing_events(namespace, event_ids)
        with self._recalled_lock:
            if len(self._recalled) > _MOST_RECALLED:
                self._recalled.clear()
            for event_id, moved in found.items():
                self._recalled[namespace, event_id] = _Recalled(registry, moved)

    def correct(
        self, namespace: str, event_ids: Sequence[str], decide: Decide, now: int
    ) -> list[Correction | None]:
        """Decide about events, and store the new corrections, all or none.

        All waits for ClickHouse together are bounded, and those of repetitions.
        """
        self._patience = QueryLimit(_SILENT_SECONDS)
        return super().correct(namespace, event_ids, decide, now)

    def _open_views(self) -> PostgresViews:
        return HistoryViews(self._url, self._clickhouse_url)

    def _check_history(self) -> None:
        """Read moved events as well."""

    def _find_moved(
        self, state: HistoryState, namespace: str, event_id: str
    ) -> MovedEvent | None:
        """Return a moved event, with what is left of the patience of a correction.

        Raises:
            HistoryUnavailableError: ClickHouse took too long.
        """
        limit = self._patience
        limit.begin()
        try:
            self._clickhouse.check_ledger(state.ledger, limit)
            moved = MovedEvents(self._clickhouse, state.place, limit)
            return next(iter(moved.events(namespace, [event_id])), None)
        except QueryStoppedError:
            raise HistoryUnavailableError(
                f"ClickHouse at {self._clickhouse} does not respond within "
                f"{_SILENT_SECONDS} s; nothing was corrected; send it again"
            ) from None

    def _find_event(self, namespace: str, event_id: str) -> tuple[int, Event] | None:
        """Return an event, after its order of receipt. It may be a moved one."""
        found = SqlCorrectionWriter._find_event(self, namespace, event_id)  # noqa: SLF001 - of this class
        state = history_state(self._writer)
        if found is not None or state is None:
            return found
        with self._recalled_lock:
            recalled = self._recalled.pop((namespace, event_id), None)
        (registry,) = self._writer.execute(
            "SELECT registry FROM outlay_state"
        ).fetchone()
        if recalled is not None and recalled.registry == registry:
            moved = recalled.moved
        else:
            # It was moved, or a customer was renamed, since it was prepared. If
            # ClickHouse is silent, the request is refused, so that posts go on.
            moved = self._find_moved(state, namespace, event_id)
        return None if moved is None else (moved.seq, moved.event)

    def _place_of(self, cost: CostMetric) -> tuple[int, int | None, int | None]:
        """Return the last event before a definition, and where its folding begins."""
        last, day, seq = super()._place_of(cost)
        state = history_state(self._writer)
        metric = compile_metric(cost)
        if state is None or metric is None or not metric.can_roll_up:
            return last, day, seq
        if MovedRanges(self._writer, cost.namespace).of(cost.event_type) is not None:
            return last, 0, 0
        return last, *((None, None) if day is None else state.place)
