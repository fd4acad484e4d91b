"""Write whole days to ClickHouse. Each act can be repeated after a kill.

A day is written to its partition as a whole. What a killed act left is dropped by the
next one, before it begins. The ledger says which days, and which rollups, count.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from outlay.server._errors import StoreUnavailableError
from outlay.server._metering.metric import Contribution, NumberAccumulator
from outlay.server._records import MICROSECONDS_PER_HOUR
from outlay.server._storage.clickhouse.connection import text
from outlay.server._storage.combining import combine
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal

    from outlay.server._metering.metric import CompiledMetric
    from outlay.server._records import Event
    from outlay.server._storage.clickhouse.connection import Connection
    from outlay.server._storage.combining import Combined, MeteredEvent

_BATCH: Final = 50_000  # rows of one insert: a part each
_HOURS: Final = 24

_EVENT_COLUMNS: Final = (
    "day", "seq", "received_at", "id", "namespace", "key", "type", "source", "subject",
    "external_subject", "external_id", "at", "data",
)  # fmt: skip
_ROLLUP_COLUMNS: Final = (
    "day", "load", "definition", "bucket", "customer", "dims", "events", "skipped",
    "other_currency", "value", "odd", "value_at", "value_seq",
)  # fmt: skip

_Item = TypeVar("_Item")

_PLACES: Final = 38
_LIMIT: Final = 10**20


class MovedEvent(NamedTuple):
    """An event of a day that is over, and its order of receipt in the ledger."""

    seq: int
    received_at: int
    event: Event


class DayDiffersError(StoreUnavailableError):
    """ClickHouse has not exactly the events of a day that were sent to it."""


def write_day(connection: Connection, day: int, events: Iterable[MovedEvent]) -> int:
    """Write all events of a day of receipt, and check that ClickHouse has them.

    Args:
        connection: The connection.
        day: The day, in days since 1970.
        events: All events that the ledger received on that day.

    Returns:
        The number of events.

    Raises:
        DayDiffersError: The count, or the sum of the orders of receipt, differs.
        HistoryUnavailableError: ClickHouse does not respond.
    """
    drop_day(connection, day)
    count = total = 0
    for batch in _batches(events):
        connection.insert(
            "events",
            _EVENT_COLUMNS,
            [
                (
                    day, one.seq, one.received_at, one.event.id, one.event.namespace,
                    one.event.key, one.event.type, one.event.source, one.event.subject,
                    one.event.external_subject, one.event.external_id, one.event.at,
                    one.event.data,
                )
                for one in batch
            ],
        )  # fmt: skip
        count += len(batch)
        total += sum(one.seq for one in batch)
    check_day(connection, day, count, total)
    return count


def check_day(connection: Connection, day: int, count: int, total: int) -> None:
    """Check that ClickHouse has each event of a day once.

    Args:
        connection: The connection.
        day: The day, in days since 1970.
        count: The number of events in the ledger.
        total: The sum of their orders of receipt.

    Raises:
        DayDiffersError: It has others.
    """
    [(found, distinct, found_total)] = connection.rows(
        "SELECT count(), uniqExact(seq), sum(toInt256(seq))"  # noqa: S608 - integers
        f" FROM {connection.database}.events WHERE day = {day:d}"
    )
    if (found, distinct, found_total) != (count, count, total):
        raise DayDiffersError(
            f"ClickHouse at {connection} has {found} events of day {day}, {distinct} "
            f"of them different; the ledger has {count}; the day stays in PostgreSQL, "
            "and is written again"
        )


def drop_day(connection: Connection, day: int) -> None:
    """Delete all events and rollups of a day of receipt."""
    for table in ("events", "hours", "days"):
        connection.command(
            f"ALTER TABLE {connection.database}.{table} DROP PARTITION {day:d}"
        )


def fold_day(
    connection: Connection,
    metric: CompiledMetric,
    definition: int,
    day: int,
    load: int,
) -> None:
    """Write a metric's rollups of a moved day, also of a metric that came later.

    They count only under their load. A killed act leaves rows of a load that no reader
    knows; `drop_other_loads` deletes them.

    Args:
        connection: The connection.
        metric: The metric. It must be able to roll up.
        definition: The number of its definition in the ledger.
        day: The day of receipt, in days since 1970.
        load: A number that was never used before.
    """
    combined: Combined = {}
    combine(metric, combined, _metered(connection, metric, day))
    if not combined:
        return
    by_day: Combined = {}
    for (hour, customer, dimensions), one in combined.items():
        whole = by_day.setdefault(
            (hour // _HOURS, customer, dimensions),
            NumberAccumulator(metric.aggregation),
        )
        whole.add(
            Contribution(
                hour * MICROSECONDS_PER_HOUR, customer, dimensions, one.events,
                one.skipped, one.value, one.at, one.other_currency,
            )
        )  # fmt: skip
    for table, rollups in (("hours", combined), ("days", by_day)):
        for batch in _batches(_rows(rollups, definition, day, load)):
            connection.insert(table, _ROLLUP_COLUMNS, batch)


def drop_other_loads(connection: Connection, day: int, loads: Iterable[int]) -> None:
    """Delete the rollups of a day that belong to none of its loads."""
    known = ", ".join(f"{load:d}" for load in loads) or "NULL"
    for table in ("hours", "days"):
        connection.command(
            f"DELETE FROM {connection.database}.{table} WHERE day = {day:d}"  # noqa: S608 - integers
            f" AND NOT coalesce(load IN ({known}), false)"
        )


def _metered(
    connection: Connection, metric: CompiledMetric, day: int
) -> Iterator[MeteredEvent]:
    rows = connection.stream(
        f"SELECT seq, at, customer, data FROM {connection.database}.events"  # noqa: S608 - quoted
        f" WHERE day = {day:d} AND namespace = {text(metric.cost.namespace)}"
        f" AND type = {text(metric.cost.event_type or '')}"
    )
    for seq, at, customer, data in rows:
        yield seq, at, customer, decode_data(data)


def _rows(
    combined: Combined, definition: int, day: int, load: int
) -> Iterator[tuple[object, ...]]:
    for (bucket, customer, dimensions), one in combined.items():
        fits = one.value is None or _fits(one.value)
        value_at, value_seq = one.at if one.value is not None else (0, 0)
        yield (
            day, load, definition, bucket, customer, list(dimensions), one.events,
            one.skipped, one.other_currency, one.value if fits else None,
            "" if fits else format(one.value, "f"), value_at, value_seq,
        )  # fmt: skip


def _fits(value: Decimal) -> bool:
    """Return whether no sum of 10^18 such values can overflow Decimal(76, 38)."""
    exponent = value.as_tuple().exponent
    return (
        isinstance(exponent, int) and exponent >= -_PLACES and value.copy_abs() < _LIMIT
    )


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := [*islice(iterator, _BATCH)]:
        yield batch
