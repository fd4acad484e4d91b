"""Store corrections and closed periods in SQLite, and add them to quantities."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

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
from outlay.server._storage.sqlite.event_table import EVENT_COLUMNS
from outlay.server._storage.sqlite.rollups import TOTAL
from outlay.server._storage.store import NO_FILTER
from outlay.server._wire.problems import events_removed
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    import sqlite3
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
    from outlay.server._storage.store import Page
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
_ENTRY: Final = "effective_at, sign, cost_id, delta, closed_start"
_INSERT_ENTRY: Final = (
    "INSERT INTO entries (correction, namespace, type, seq, event_id, event_at,"  # noqa: S608 - a constant
    f" customer, data, created_at, {_ENTRY}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_MOST_HOURS: Final = 500
"""The most hours to read again. Beyond it, all events of the period are read."""


class _Counted(NamedTuple):
    """An entry with the event that it belongs to."""

    entry: Entry
    seq: int
    event_at: int
    customer: str
    data: str


class SqliteCorrectionReader:
    """Reads corrections, and net quantities. It reads what a `SqliteReader` reads."""

    _connection: sqlite3.Connection

    def _gross_contributions(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        names: Collection[str],
        where: Mapping[str, frozenset[str]],
        window: Window | None,
    ) -> Iterator[Contribution]:
        """Yield the contributions of the events alone."""
        raise NotImplementedError

    def _from_events(
        self, metric: CompiledMetric, start: int, end: int, *, after: int | None = None
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event."""
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
                later = self._from_events(
                    metric, start, end, after=self._last_seq(as_of)
                )
                yield from filter(matches, map(negated, later))
            added = (_contribution(metric, one) for one in entries)
            yield from filter(matches, added)
            return
        excluded, added_again = _presence(entries)
        yield from filter(matches, (_copy(metric, one) for one in added_again))
        if as_of is not None or len(excluded) > _MOST_HOURS:
            last = None if as_of is None else self._last_seq(as_of)
            yield from filter(
                lambda one: (
                    matches(one)
                    and one.at[1] not in excluded
                    and (last is None or one.at[1] <= last)
                ),
                self._from_events(metric, start, end),
            )
            return
        for part_start, part_end, is_affected in _segments(start, end, excluded):
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
            contribution = _contribution(metric, one)
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
    ) -> list[_Counted]:
        """Return the entries that count in a period.

        Args:
            metric: The metric that counts them.
            start: The start of the period, in microseconds since 1970.
            end: The first instant after the period, in the same unit.
            gross: Whether only the entries of late events count.
            as_of: The instant whose state is read. If None, it is the current state.
        """
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
                "gross": gross,
            },
        )
        return [_Counted(_entry_of(row[:5]), *row[5:]) for row in rows]

    def _last_seq(self, as_of: int) -> int:
        """Return the order of receipt of the last event that ``as_of`` knew."""
        low = 0
        (high,) = self._connection.execute(
            "SELECT coalesce(max(seq), 0) FROM events"
        ).fetchone()
        # Times of receipt grow with the order of receipt.
        while low < high:
            middle = (low + high + 1) // 2
            row = self._connection.execute(
                "SELECT seq, received_at FROM events WHERE seq <= ?"
                " ORDER BY seq DESC LIMIT 1",
                (middle,),
            ).fetchone()
            if row is None or row[1] <= as_of:
                low = middle
            else:
                high = row[0] - 1
        return int(low)

    def _check_complete(self, metric: CompiledMetric, start: int, end: int) -> None:
        """Check that all events of some whole hours are still stored.

        Raises:
            HttpProblem: 409, because the rollups have more events.
        """
        first = -(-start // MICROSECONDS_PER_HOUR)
        last = end // MICROSECONDS_PER_HOUR
        (rolled_up,) = self._connection.execute(
            "SELECT coalesce(sum(events), 0) FROM rollups"
            " JOIN costs ON costs.definition = rollups.metric"
            " WHERE costs.id = ? AND cube = ? AND grain = 0"
            " AND bucket >= ? AND bucket < ?",
            (metric.cost.id, TOTAL, first, last),
        ).fetchone()
        if not rolled_up:
            return
        (stored,) = self._connection.execute(
            "SELECT count(*) FROM events WHERE namespace = ? AND type = ?"
            " AND at >= ? AND at < ?",
            (
                metric.cost.namespace,
                metric.cost.event_type,
                first * MICROSECONDS_PER_HOUR,
                last * MICROSECONDS_PER_HOUR,
            ),
        ).fetchone()
        if stored < rolled_up:
            raise events_removed(metric.cost.name)


class SqliteCorrectionWriter:
    """Writes corrections in the commit thread of a `SqliteStore`."""

    _connection: sqlite3.Connection

    def _transaction(self) -> AbstractContextManager[None]:
        """Return the store's transaction, which commits or rolls back."""
        raise NotImplementedError

    def correct(
        self, namespace: str, event_ids: Sequence[str], decide: Decide, now: int
    ) -> list[Correction | None]:
        """Decide about events, and store the new corrections, all or none."""
        closed = _closed_periods(self._connection, namespace)
        results: list[Correction | None] = []
        with self._transaction():
            for event_id in event_ids:
                row = self._connection.execute(
                    f"SELECT seq, {EVENT_COLUMNS} FROM events"  # noqa: S608 - a constant
                    " WHERE id = ? AND namespace = ?",
                    (event_id, namespace),
                ).fetchone()
                if row is None:
                    results.append(None)
                    continue
                seq, event = row[0], Event(*row[1:])
                decision = decide(self._history(event, closed))
                if isinstance(decision, Decision):
                    self._insert_correction(seq, event, decision, now)
                    results.append(decision.correction)
                else:
                    results.append(decision)
        return results

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
        cursor = self._connection.execute(
            f"INSERT INTO corrections ({_CORRECTION}) VALUES (?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 - a constant
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
        )
        self._insert_entries(cursor.lastrowid, seq, event, decision.entries, now)

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
        with self._transaction():
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

    def _insert_late(self, events: Sequence[Event], start: int, now: int) -> None:
        """Store the entries of new events that belong to closed periods.

        Args:
            events: The new events, in order of receipt.
            start: The order of receipt of the first one.
            now: The time of receipt, in microseconds since 1970.
        """
        if not self._closed:
            return
        for seq, event in enumerate(events, start):
            closed = period_at(self._closed.get(event.namespace, ()), event.at)
            if closed is not None:
                entries = late_entries(event.at, now, closed)
                self._insert_entries(None, seq, event, entries, now)


def period_at(closed: Iterable[ClosedPeriod], at: int) -> ClosedPeriod | None:
    """Return the closed period that contains an instant, or None."""
    return next((one for one in closed if one.start <= at < one.end), None)


def late_entries(at: int, now: int, closed: ClosedPeriod) -> list[Entry]:
    """Return the entries of an event that arrives after its period was closed."""
    return [
        Entry(at, -1, closed_start=closed.start),
        Entry(now, 1, closed_start=closed.start),
    ]


def negated(one: Contribution) -> Contribution:
    """Return the contribution that takes another one back."""
    value = one.value
    return msgspec.structs.replace(
        one,
        events=-one.events,
        skipped=-one.skipped,
        other_currency=-one.other_currency,
        value=value.copy_negate() if isinstance(value, Decimal) else value,
    )


def entry_contribution(
    metric: CompiledMetric, entry: Entry, seq: int, customer: str, data: str
) -> Contribution:
    """Return what an entry adds to a metric whose values can be subtracted."""
    one = metric.contribution(seq, entry.effective_at, customer, decode_data(data))
    if entry.delta is not None:
        return msgspec.structs.replace(
            one, events=0, skipped=0, other_currency=0, value=entry.delta
        )
    return one if entry.sign > 0 else negated(one)


def _contribution(metric: CompiledMetric, one: _Counted) -> Contribution:
    return entry_contribution(metric, one.entry, one.seq, one.customer, one.data)


def _copy(metric: CompiledMetric, one: _Counted) -> Contribution:
    """Return the contribution of an event at the time of an entry."""
    data = decode_data(one.data)
    return metric.contribution(one.seq, one.entry.effective_at, one.customer, data)


def _presence(entries: Iterable[_Counted]) -> tuple[dict[int, int], list[_Counted]]:
    """Return the events that do not count at their time, and those at another one.

    The first are times of events by order of receipt.
    """
    signs: defaultdict[tuple[int, int], int] = defaultdict(int)
    last: dict[tuple[int, int], _Counted] = {}
    for one in entries:
        place = (one.seq, one.entry.effective_at)
        signs[place] += one.entry.sign
        last[place] = one
    excluded = {
        seq: at
        for (seq, at), sign in signs.items()
        if sign < 0 and at == last[seq, at].event_at
    }
    added = [last[place] for place, sign in signs.items() if sign > 0]
    return excluded, added


def _segments(
    start: int, end: int, excluded: Mapping[int, int]
) -> Iterator[tuple[int, int, bool]]:
    """Split a period into hours with excluded events, and the parts between them."""
    for hour in sorted({at // MICROSECONDS_PER_HOUR for at in excluded.values()}):
        first = max(start, hour * MICROSECONDS_PER_HOUR)
        last = min(end, (hour + 1) * MICROSECONDS_PER_HOUR)
        if start < first:
            yield start, first, False
        yield first, last, True
        start = last
    if start < end:
        yield start, end, False


def _closed_periods(
    connection: sqlite3.Connection, namespace: str
) -> list[ClosedPeriod]:
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


def _entry_of(row: Sequence[Any]) -> Entry:
    effective_at, sign, cost_id, delta, closed_start = row
    number = None if delta is None else Decimal(delta)
    return Entry(effective_at, sign, cost_id, number, closed_start)
