"""Store corrections and closed periods, and add them to quantities."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay.server._metering.decimals import format_plain
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
    ClosedPeriod,
    Correction,
    CorrectionKind,
    Entry,
    Event,
)
from outlay.server._storage.correction_store import (
    Decision,
    EventHistory,
)
from outlay.server._storage.event_filter import contribution_matcher
from outlay.server._storage.net_quantities import (
    CountedEntry,
    copied_contribution,
    counted_contribution,
    late_entries,
    negated,
    period_at,
    presence,
    segments,
)
from outlay.server._storage.sql.events import EVENT_COLUMNS
from outlay.server._storage.sql.gross_quantities import SqlQuantityReader
from outlay.server._storage.store import NO_FILTER
from outlay.server._wire.problems import events_removed

if TYPE_CHECKING:
    from collections.abc import (
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from contextlib import AbstractContextManager

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._storage.correction_store import Decide, DecideClosing
    from outlay.server._storage.page import Page
    from outlay.server._storage.sql.connection import Connection
    from outlay.server._wire.request_models import Window

TABLES: Final = """
    -- Append only. reverts: the id of the reverted correction.
    CREATE TABLE corrections (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        kind TEXT NOT NULL,
        event_id TEXT NOT NULL,
        reason TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        cost_id TEXT,
        delta TEXT,
        reverts TEXT
    );
    CREATE INDEX corrections_by_event ON corrections (event_id, number);
    CREATE INDEX corrections_by_namespace ON corrections (namespace, number);

    -- What an event counts beside its own amount. It has a copy of the event, because
    -- it counts for longer than events may be kept. correction: NULL for a late event.
    CREATE TABLE entries (
        number INTEGER PRIMARY KEY,
        correction INTEGER,
        namespace TEXT NOT NULL,
        type TEXT NOT NULL,
        seq INTEGER NOT NULL,
        event_id TEXT NOT NULL,
        event_at INTEGER NOT NULL,
        customer TEXT NOT NULL,
        data TEXT NOT NULL,
        effective_at INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        sign INTEGER NOT NULL,
        cost_id TEXT,
        delta TEXT,
        closed_start INTEGER
    );
    CREATE INDEX entries_by_time ON entries (namespace, type, effective_at);
    CREATE INDEX entries_by_event ON entries (event_id, number);

    CREATE TABLE closed_periods (
        namespace TEXT NOT NULL,
        start_at INTEGER NOT NULL,
        end_at INTEGER NOT NULL,
        closed_at INTEGER NOT NULL,
        closed_by TEXT NOT NULL,
        PRIMARY KEY (namespace, start_at)
    ) WITHOUT ROWID;
"""
"""The migration that creates the tables."""

_CORRECTION: Final = (
    "id, namespace, key, kind, event_id, reason, created_at, created_by, cost_id,"
    " delta, reverts"
)
_EVENTS_A_QUERY: Final = 500
_ENTRY: Final = "effective_at, sign, cost_id, delta, closed_start"
_INSERT_ENTRY: Final = (
    "INSERT INTO entries (correction, namespace, type, seq, event_id, event_at,"  # noqa: S608 - a constant
    f" customer, data, created_at, {_ENTRY}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_MOST_HOURS: Final = 500
"""The most hours to read again. Beyond it, all events of the period are read."""


class SqlCorrectionReader(SqlQuantityReader):
    """Reads corrections, and net quantities. It reads what a `SqliteReader` reads."""

    def _received_later(
        self, metric: CompiledMetric, start: int, end: int, as_of: int
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event that was received after ``as_of``."""
        raise NotImplementedError

    def _received_until(
        self, metric: CompiledMetric, start: int, end: int, as_of: int
    ) -> Iterator[Contribution]:
        """Yield the contribution of each other event."""
        raise NotImplementedError

    def _rolled_up(self, metric: CompiledMetric, first: int, last: int) -> int:
        """Return the number of events in the rollups of ``first <= hour < last``."""
        raise NotImplementedError

    def correction(self, namespace: str, correction_id: str) -> Correction | None:
        """Return the correction with this id."""
        row = self._connection.execute(
            f"SELECT {_CORRECTION} FROM corrections WHERE id = ? AND namespace = ?",  # noqa: S608 - a constant
            (correction_id, namespace),
        ).fetchone()
        return None if row is None else _correction_of(row)

    def corrections(
        self, namespace: str, page: Page, *, event_id: str | None = None
    ) -> tuple[list[Correction], int]:
        """Return a page of corrections, newest first, and their number."""
        where = (
            " FROM corrections WHERE namespace = :namespace"
            " AND (:event_id IS NULL OR event_id = :event_id)"
        )
        wanted = {"namespace": namespace, "event_id": event_id}
        rows = self._connection.execute(
            f"SELECT {_CORRECTION}{where}"
            " ORDER BY number DESC LIMIT :limit OFFSET :offset",
            {**wanted, **page._asdict()},
        )
        found = [_correction_of(row) for row in rows]
        (total,) = self._connection.execute(
            f"SELECT count(*){where}", wanted
        ).fetchone()
        return found, int(total)

    def corrections_of(
        self, namespace: str, event_ids: Collection[str]
    ) -> list[Correction]:
        """Return all corrections of some events, in any order."""
        found: list[Correction] = []
        wanted = [*event_ids]
        for start in range(0, len(wanted), _EVENTS_A_QUERY):
            some = wanted[start : start + _EVENTS_A_QUERY]
            rows = self._connection.execute(
                f"SELECT {_CORRECTION} FROM corrections WHERE namespace = ?"  # noqa: S608 - a constant and question marks
                f" AND event_id IN ({', '.join('?' * len(some))})",
                (namespace, *some),
            )
            found += map(_correction_of, rows)
        return found

    def closed_periods(self, namespace: str) -> list[ClosedPeriod]:
        """Return the closed periods, oldest first."""
        return _closed_periods(self._connection, namespace)

    def contributions(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        names: Collection[str] = (),
        where: Mapping[str, frozenset[str]] = NO_FILTER,
        window: Window | None = None,
        gross: bool = False,
        as_of: int | None = None,
    ) -> Iterator[Contribution]:
        """Yield contributions that add up to the net quantity of a period."""
        entries = self._entries(metric, start, end, gross=gross, as_of=as_of)
        matches = contribution_matcher(metric, where)
        if metric.can_subtract:
            yield from self._gross_contributions(
                metric, start, end, names=names, where=where, window=window
            )
            if as_of is not None:
                later = self._received_later(metric, start, end, as_of)
                yield from filter(matches, map(negated, later))
            added = (counted_contribution(metric, one) for one in entries)
            yield from filter(matches, added)
            return
        excluded, added_again = presence(entries)
        yield from filter(
            matches, (copied_contribution(metric, one) for one in added_again)
        )
        if as_of is not None or len(excluded) > _MOST_HOURS:
            known = (
                self._from_events(metric, start, end)
                if as_of is None
                else self._received_until(metric, start, end, as_of)
            )
            yield from filter(
                lambda one: matches(one) and one.at[1] not in excluded, known
            )
            return
        for part_start, part_end, is_affected in segments(start, end, excluded):
            if is_affected:
                self._check_complete(metric, part_start, part_end)
                contributions = self._from_events(metric, part_start, part_end)
            else:
                contributions = self._gross_contributions(
                    metric,
                    part_start,
                    part_end,
                    names=names,
                    where=where,
                    window=window,
                )
            yield from (
                one
                for one in contributions
                if matches(one) and one.at[1] not in excluded
            )

    def closed_adjustments(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        where: Mapping[str, frozenset[str]] = NO_FILTER,
        as_of: int | None = None,
    ) -> Iterator[tuple[int, Contribution]]:
        """Yield what counts in a period, and belongs to a closed one before it.

        Each contribution comes with the start of the closed period. Only quantities
        that can be subtracted have any.
        """
        if not metric.can_subtract:
            return
        matches = contribution_matcher(metric, where)
        for one in self._entries(metric, start, end, gross=False, as_of=as_of):
            closed = one.entry.closed_start
            if closed is None or one.entry.effective_at == one.event_at:
                continue
            contribution = counted_contribution(metric, one)
            if matches(contribution):
                yield closed, contribution

    def _entries(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        gross: bool,
        as_of: int | None,
    ) -> list[CountedEntry]:
        """Return the entries that count in a period.

        Args:
            metric: The metric that counts them.
            start: The start of the period, in microseconds since 1970.
            end: The first instant after the period, in the same unit.
            gross: Whether only the entries of late events count.
            as_of: The instant whose state is read. If None, it is the current state.
        """
        # Few types have any.
        if not self._once(_has_entries, metric.cost.namespace, metric.cost.event_type):
            return []
        rows = self._connection.execute(
            f"SELECT {_ENTRY}, seq, event_at, customer, data FROM entries"  # noqa: S608 - a constant
            " WHERE namespace = :namespace AND type = :type"
            " AND effective_at >= :start AND effective_at < :end"
            " AND (cost_id IS NULL OR cost_id = :cost)"
            " AND (:as_of IS NULL OR created_at <= :as_of)"
            " AND (:gross = 0 OR correction IS NULL) ORDER BY number",
            {
                "namespace": metric.cost.namespace,
                "type": metric.cost.event_type,
                "start": start,
                "end": end,
                "cost": metric.cost.id,
                "as_of": as_of,
                "gross": int(gross),
            },
        )
        return [CountedEntry(_entry_of(row[:5]), *row[5:]) for row in rows]

    def _check_complete(self, metric: CompiledMetric, start: int, end: int) -> None:
        """Check that all events of some whole hours are still stored.

        Raises:
            HttpProblem: 409, because the rollups have more events.
        """
        first = -(-start // MICROSECONDS_PER_HOUR)
        last = end // MICROSECONDS_PER_HOUR
        rolled_up = self._rolled_up(metric, first, last)
        if not rolled_up:
            return
        stored = self._stored_events(
            metric, first * MICROSECONDS_PER_HOUR, last * MICROSECONDS_PER_HOUR
        )
        if stored < rolled_up:
            raise events_removed(metric.cost.name)

    def _stored_events(self, metric: CompiledMetric, start: int, end: int) -> int:
        """Return the number of events of a metric's type in a period."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM events WHERE namespace = ? AND type = ?"
            " AND at >= ? AND at < ?",
            (metric.cost.namespace, metric.cost.event_type, start, end),
        ).fetchone()
        return int(count)


class SqlCorrectionWriter:
    """Writes corrections in the commit thread of a `SqliteStore`."""

    _connection: Connection

    def _transaction(self) -> AbstractContextManager[None]:
        """Return the store's transaction, which commits or rolls back."""
        raise NotImplementedError

    def _redefining(self) -> AbstractContextManager[None]:
        """Return a transaction between whose reads and writes no event is stored."""
        raise NotImplementedError

    def prepare_correction(self, namespace: str, event_ids: Collection[str]) -> None:
        """Do nothing, because the events are near."""

    def correct(
        self, namespace: str, event_ids: Sequence[str], decide: Decide, now: int
    ) -> list[Correction | None]:
        """Decide about events, and store the new corrections, all or none."""
        results: list[Correction | None] = []
        with self._transaction():
            closed = _closed_periods(self._connection, namespace)
            for event_id in event_ids:
                found = self._find_event(namespace, event_id)
                if found is None:
                    results.append(None)
                    continue
                seq, event = found
                decision = decide(self._history(event, closed))
                if isinstance(decision, Decision):
                    self._insert_correction(seq, event, decision, now)
                    results.append(decision.correction)
                else:
                    results.append(decision)
        return results

    def _find_event(self, namespace: str, event_id: str) -> tuple[int, Event] | None:
        """Return an event, after its order of receipt."""
        row = self._connection.execute(
            f"SELECT seq, {EVENT_COLUMNS} FROM events"  # noqa: S608 - a constant
            " WHERE id = ? AND namespace = ?",
            (event_id, namespace),
        ).fetchone()
        return None if row is None else (row[0], Event(*row[1:]))

    def _history(self, event: Event, closed: Sequence[ClosedPeriod]) -> EventHistory:
        rows = self._connection.execute(
            f"SELECT number, {_CORRECTION} FROM corrections"  # noqa: S608 - a constant
            " WHERE event_id = ? ORDER BY number",
            (event.id,),
        ).fetchall()
        entries: defaultdict[int | None, list[Entry]] = defaultdict(list)
        for number, *entry in self._connection.execute(
            f"SELECT correction, {_ENTRY} FROM entries"  # noqa: S608 - a constant
            " WHERE event_id = ? ORDER BY number",
            (event.id,),
        ):
            entries[number].append(_entry_of(entry))
        numbers = [None, *(number for number, *_ in rows)]
        return EventHistory(
            event,
            [_correction_of(row[1:]) for row in rows],
            [entries[number] for number in numbers],
            closed,
        )

    def _insert_correction(
        self, seq: int, event: Event, decision: Decision, now: int
    ) -> None:
        one = decision.correction
        (number,) = self._connection.execute(
            f"INSERT INTO corrections ({_CORRECTION}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - a constant
            " RETURNING number",
            (
                one.id,
                one.namespace,
                one.key,
                one.kind,
                one.event_id,
                one.reason,
                one.created_at,
                one.created_by,
                one.cost_id,
                None if one.delta is None else format_plain(one.delta),
                one.reverts,
            ),
        ).fetchone()
        self._insert_entries(number, seq, event, decision.entries, now)

    def _insert_entries(
        self,
        correction: int | None,
        seq: int,
        event: Event,
        entries: Iterable[Entry],
        now: int,
    ) -> None:
        self._connection.executemany(
            _INSERT_ENTRY,
            [
                (
                    correction,
                    event.namespace,
                    event.type,
                    seq,
                    event.id,
                    event.at,
                    event.customer,
                    event.data,
                    now,
                    one.effective_at,
                    one.sign,
                    one.cost_id,
                    None if one.delta is None else format_plain(one.delta),
                    one.closed_start,
                )
                for one in entries
            ],
        )

    def close_period(self, namespace: str, decide: DecideClosing) -> None:
        """Close a period, from the next event and the next correction on."""
        with self._redefining():
            closed = decide(_closed_periods(self._connection, namespace))
            if closed is not None:
                self._connection.execute(
                    "INSERT INTO closed_periods VALUES (?,?,?,?,?)",
                    (
                        namespace,
                        closed.start,
                        closed.end,
                        closed.closed_at,
                        closed.closed_by,
                    ),
                )
        self._load_closed()

    def _load_closed(self) -> None:
        """Read the closed periods of all organizations into memory."""
        closed: defaultdict[str, list[ClosedPeriod]] = defaultdict(list)
        for namespace, *row in self._connection.execute(
            "SELECT namespace, start_at, end_at, closed_at, closed_by"
            " FROM closed_periods ORDER BY start_at"
        ):
            closed[namespace].append(ClosedPeriod(*row))
        self._closed = dict(closed)

    def _insert_late(self, events: Iterable[tuple[int, Event]], now: int) -> None:
        """Store the entries of new events that belong to closed periods.

        Args:
            events: The new events with their order of receipt.
            now: The time of receipt, in microseconds since 1970.
        """
        if not self._closed:
            return
        for seq, event in events:
            closed = period_at(self._closed.get(event.namespace, ()), event.at)
            if closed is not None:
                entries = late_entries(event.at, now, closed)
                self._insert_entries(None, seq, event, entries, now)


def _closed_periods(connection: Connection, namespace: str) -> list[ClosedPeriod]:
    rows = connection.execute(
        "SELECT start_at, end_at, closed_at, closed_by FROM closed_periods"
        " WHERE namespace = ? ORDER BY start_at",
        (namespace,),
    )
    return [ClosedPeriod(*row) for row in rows]


def _correction_of(row: Sequence[Any]) -> Correction:
    correction_id, namespace, key, kind, event_id, reason, at, by, *more = row
    cost_id, delta, reverts = more
    return Correction(
        correction_id,
        namespace,
        key,
        CorrectionKind(kind),
        event_id,
        reason,
        at,
        by,
        cost_id,
        None if delta is None else Decimal(delta),
        reverts,
    )


def _has_entries(
    connection: Connection, namespace: str, event_type: str | None
) -> bool:
    """Return whether a type has corrections or late events."""
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM entries WHERE namespace = ? AND type = ?)",
        (namespace, event_type),
    ).fetchone()
    return bool(found)


def _entry_of(row: Sequence[Any]) -> Entry:
    effective_at, sign, cost_id, delta, closed_start = row
    number = None if delta is None else Decimal(delta)
    return Entry(effective_at, sign, cost_id, number, closed_start)
