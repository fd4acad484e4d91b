"""Write whole days to ClickHouse. Each act can be repeated after a kill.

A day of receipt is one partition. What a killed act left is dropped by the next one,
before it begins. The ledger says which events count.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from outlay.server._errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from outlay.server._records import Event
    from outlay.server._storage.clickhouse.connection import Connection

_BATCH: Final = 50_000  # rows of one insert: a part each

EVENT_COLUMNS: Final = (
    "day", "seq", "received_at", "id", "namespace", "key", "type", "source", "subject",
    "external_subject", "external_id", "at", "data",
)  # fmt: skip
"""The columns of `event_row`."""

_Item = TypeVar("_Item")


class MovedEvent(NamedTuple):
    """An event of a day that is over, and its order of receipt in the ledger."""

    seq: int
    received_at: int
    event: Event


class DayDiffersError(StoreUnavailableError):
    """ClickHouse has not exactly the events of a day that were sent to it."""


class Contents(NamedTuple):
    """What tells the events of a day from any others.

    Attributes:
        events: The number of events.
        total: The sum of their orders of receipt.
    """

    events: int
    total: int


def write_day(
    connection: Connection, day: int, events: Iterable[MovedEvent], *, after: int = 0
) -> Contents:
    """Write the events of a day of receipt, and check that ClickHouse has them.

    Args:
        connection: The connection.
        day: The day, in days since 1970.
        events: All events that the ledger has of that day.
        after: The order of receipt before them. Earlier ones stay as they are.

    Raises:
        DayDiffersError: The count, or the sum of the orders of receipt, differs.
        HistoryUnavailableError: ClickHouse does not respond.
    """
    if after:
        connection.command(
            f"DELETE FROM {connection.local('events')} WHERE day = {day:d}"
            f" AND seq > {after:d}"
        )
    else:
        drop_day(connection, day)
    written = write_rows(connection, "events", day, events)
    check_day(connection, day, written, after=after)
    return written


def write_rows(
    connection: Connection, table: str, day: int, events: Iterable[MovedEvent]
) -> Contents:
    """Write events of a day to a table, and return what was written."""
    count = total = 0
    for batch in _batches(events):
        connection.insert(table, EVENT_COLUMNS, [event_row(day, one) for one in batch])
        count += len(batch)
        total += sum(one.seq for one in batch)
    return Contents(count, total)


def event_row(day: int, one: MovedEvent) -> tuple[object, ...]:
    """Return an event as a row of the table ``events``."""
    event = one.event
    return (
        day, one.seq, one.received_at, event.id, event.namespace, event.key, event.type,
        event.source, event.subject, event.external_subject, event.external_id,
        event.at, event.data,
    )  # fmt: skip


def contents(
    connection: Connection,
    day: int,
    *,
    after: int = 0,
    upto: int = 2**63 - 1,
    table: str = "events",
) -> Contents:
    """Return what ClickHouse has of a day in ``after < seq <= upto``.

    Raises:
        DayDiffersError: It has an event twice.
    """
    [(found, distinct, total)] = connection.rows(
        "SELECT count(), uniqExact(seq), sum(toInt256(seq))"
        f" FROM {connection.database}.{table} WHERE day = {day:d}"
        f" AND seq > {after:d} AND seq <= {upto:d}"
    )
    if found != distinct:
        raise DayDiffersError(
            f"ClickHouse at {connection} has {found} events of day {day}, and "
            f"{distinct} of them are different; the day is written again"
        )
    return Contents(found, total)


def check_day(
    connection: Connection,
    day: int,
    wanted: Contents,
    *,
    after: int = 0,
    upto: int = 2**63 - 1,
) -> None:
    """Check that ClickHouse has each event of a day once.

    Args:
        connection: The connection.
        day: The day, in days since 1970.
        wanted: What the ledger has.
        after: The order of receipt before the first event that is checked.
        upto: The one of the last.

    Raises:
        DayDiffersError: It has others.
    """
    found = contents(connection, day, after=after, upto=upto)
    if found != wanted:
        raise DayDiffersError(
            f"ClickHouse at {connection} has {found.events} events of day {day}, and "
            f"the ledger has {wanted.events}; they stay in PostgreSQL, and are written "
            "again"
        )


def drop_day(connection: Connection, day: int, table: str = "events") -> None:
    """Delete all events of a day of receipt."""
    connection.command(f"ALTER TABLE {connection.local(table)} DROP PARTITION {day:d}")


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while batch := [*islice(iterator, _BATCH)]:
        yield batch
