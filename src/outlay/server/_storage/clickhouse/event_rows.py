"""Read single events of moved days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay.server._records import Event
from outlay.server._storage.clickhouse.connection import text, texts
from outlay.server._storage.clickhouse.days import MovedEvent
from outlay.server._storage.event_filter import event_matcher
from outlay.server._storage.net_quantities import contributions_from_rows
from outlay.server._storage.postgres.receipts import MICROSECONDS_PER_DAY
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._storage.clickhouse.connection import Connection
    from outlay.server._storage.combining import MeteredEvent
    from outlay.server._storage.event_store import EventFilter
    from outlay.server._storage.postgres.history import Place
    from outlay.server._storage.query_limit import QueryLimit

_COLUMNS: Final = (
    "seq, received_at, id, namespace, key, type, source, subject, external_subject,"
    " external_id, at, data"
)
_CHUNK: Final = 1000  # rows of one query


class MovedEvents:
    """The events that were moved up to a place. Thread safety: any thread.

    Later ones may be in ClickHouse already. They still count in the ledger.

    Args:
        connection: The connection.
        upto: The last place.
        limit: The limit that ends each query. Defaults to none.

    Raises:
        HistoryUnavailableError: ClickHouse does not respond. Each method may raise it.
        QueryStoppedError: The limit is over. Each method may raise it.
    """

    def __init__(
        self, connection: Connection, upto: Place, limit: QueryLimit | None = None
    ) -> None:
        self._connection = connection
        self._limit = limit
        self._from = (
            f"FROM {connection.database}.events WHERE (day < {upto.day:d}"
            f" OR day = {upto.day:d} AND seq <= {upto.seq:d})"
        )

    def contributions(
        self, metric: CompiledMetric, start: int, end: int, condition: str = "true"
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event in ``start <= at < end``, unordered.

        Args:
            metric: The metric.
            start: The first instant that counts, in microseconds since 1970.
            end: The first instant that no longer counts, in the same unit.
            condition: A further condition of SQL. Defaults to none.
        """
        rows = self._connection.stream(
            f"SELECT seq, at, customer, data {self._from}"
            f" AND {_of_metric(metric)} AND at >= {start:d} AND at < {end:d}"
            f" AND {condition}",
            self._limit,
        )
        return contributions_from_rows(metric, rows)

    def metered(
        self, metric: CompiledMetric, day: int, after: int, cutoff: int
    ) -> Iterator[MeteredEvent]:
        """Yield the events of a day that a metric reads, unordered.

        Args:
            metric: The metric.
            day: The day of receipt, in days since 1970.
            after: The order of receipt before them.
            cutoff: The last order of receipt that counts.
        """
        rows = self._connection.stream(
            f"SELECT seq, at, customer, data {self._from} AND {_of_metric(metric)}"
            f" AND day = {day:d} AND seq > {after:d} AND seq <= {cutoff:d}",
            self._limit,
        )
        for seq, at, customer, data in rows:
            yield seq, at, customer, decode_data(data)

    def events(self, namespace: str, event_ids: Iterable[str]) -> list[MovedEvent]:
        """Return the events with these ids, unordered."""
        rows = self._rows(
            f"SELECT {_COLUMNS} {self._from} AND id IN {texts(event_ids)}"
            f" AND namespace = {text(namespace)}"
        )
        return [_moved(row) for row in rows]

    def count(self, namespace: str, where: EventFilter) -> int:
        """Return the number of wanted events. The filter names no values."""
        [(count,)] = self._rows(
            f"SELECT count() {self._from} AND {_conditions(namespace, where)}"
        )
        return int(count)

    def count_of(self, metric: CompiledMetric, start: int, end: int) -> int:
        """Return the number of events in ``start <= at < end`` of a metric's type."""
        [(count,)] = self._rows(
            f"SELECT count() {self._from} AND {_of_metric(metric)}"
            f" AND at >= {start:d} AND at < {end:d}"
        )
        return int(count)

    def last_seq(self, as_of: int) -> int:
        """Return the order of receipt of the last event that ``as_of`` knew, or 0."""
        day = as_of // MICROSECONDS_PER_DAY
        [(last,)] = self._rows(
            f"SELECT max(seq) {self._from} AND day <= {day:d}"
            f" AND received_at <= {as_of:d}"
        )
        return int(last)

    def before(
        self, namespace: str, where: EventFilter, place: tuple[int, int]
    ) -> Iterator[MovedEvent]:
        """Yield the wanted events before a time and order of receipt, newest first."""
        matches = event_matcher(where)
        while True:
            at, seq = place
            rows = self._rows(
                f"SELECT {_COLUMNS} {self._from} AND {_conditions(namespace, where)}"
                f" AND at <= {at:d} AND (at, seq) < ({at:d}, {seq:d})"
                f" ORDER BY at DESC, seq DESC LIMIT {_CHUNK}"
            )
            for one in map(_moved, rows):
                place = (one.event.at, one.seq)
                if matches(one.event):
                    yield one
            if len(rows) < _CHUNK:
                return

    def types(
        self,
        namespace: str,
        types: Iterable[str],
        start: int,
        end: int,
        *,
        as_of: int | None = None,
    ) -> dict[str, int]:
        """Return the number of events in ``start <= at < end`` of some types."""
        received = "" if as_of is None else f" AND received_at <= {as_of:d}"
        rows = self._rows(
            f"SELECT type, count() {self._from} AND namespace = {text(namespace)}"
            f" AND type IN {texts(types)} AND at >= {start:d} AND at < {end:d}"
            f"{received} GROUP BY type"
        )
        return {str(name): int(count) for name, count in rows}

    def _rows(self, query: str) -> list[Sequence[Any]]:
        return self._connection.rows(query, self._limit)


def events_where(connection: Connection, condition: str) -> Iterator[MovedEvent]:
    """Yield all events, also those that still count in the ledger, of a condition."""
    rows = connection.stream(
        f"SELECT {_COLUMNS} FROM {connection.database}.events WHERE {condition}"
    )
    return map(_moved, rows)


def _of_metric(metric: CompiledMetric) -> str:
    return (
        f"namespace = {text(metric.cost.namespace)}"
        f" AND type = {text(metric.cost.event_type or '')}"
    )


def _conditions(namespace: str, where: EventFilter) -> str:
    found = [f"namespace = {text(namespace)}"]
    for column, allowed in (("type", where.types), ("customer", where.customers)):
        if allowed is not None:
            found.append(f"coalesce({column} IN {texts(allowed)}, false)")
    for column, one in (
        ("key", where.key),
        ("external_id", where.external_id),
        ("external_subject", where.external_subject),
    ):
        if one is not None:
            found.append(f"{column} = {text(one)}")
    if where.as_of is not None:
        found.append(f"received_at <= {where.as_of:d}")
    if where.start is not None:
        found.append(f"at >= {where.start:d}")
    if where.end is not None:
        found.append(f"at < {where.end:d}")
    return " AND ".join(found)


def _moved(row: Sequence[Any]) -> MovedEvent:
    seq, received_at, event_id, namespace, key, kind, source, *rest = row
    return MovedEvent(
        seq, received_at, Event(event_id, namespace, key, kind, source, *rest)
    )
