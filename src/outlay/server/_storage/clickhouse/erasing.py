"""Replace a customer's id in moved days, before the ledger ends the erasure.

A day is written again as a whole, beside the old one, and then replaces it at once. So
each total stays the same at any moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._storage.clickhouse.connection import text
from outlay.server._storage.clickhouse.days import (
    EVENT_COLUMNS,
    DayDiffersError,
    contents,
    drop_day,
    write_rows,
)
from outlay.server._storage.clickhouse.event_rows import events_where
from outlay.server._storage.postgres import erasing
from outlay.server._storage.postgres.locks import Lock

if TYPE_CHECKING:
    from outlay.server._storage.clickhouse.connection import Connection
    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.postgres.erasing import Job
    from outlay.server._storage.postgres.locks import Locks

REWRITTEN: Final = "rewritten"
"""The table in which a day is written again."""

_NEXT_DAY: Final = """
    SELECT min(day) FROM (
        SELECT day FROM moved_days
        UNION ALL SELECT copied_day FROM history
        UNION ALL SELECT day FROM history WHERE seq > 0
    ) d WHERE day > (SELECT rewritten_day FROM erasures WHERE number = ?)
"""


def erase_next(
    ledger: PostgresConnection, locks: Locks, clickhouse: Connection
) -> bool:
    """Do a slice of the oldest erasure. Return whether there was one.

    Args:
        ledger: The connection to the ledger, in a transaction with the lock of moves.
            So no day moves, and no moved event is folded, before the erasure ends.
        locks: The locks of the ledger.
        clickhouse: The connection to ClickHouse.

    Raises:
        HistoryUnavailableError: ClickHouse does not respond.
    """
    jobs = erasing.running_jobs(ledger)
    if not jobs:
        return False
    job = jobs[0]
    (day,) = ledger.execute(_NEXT_DAY, (job.number,)).fetchone()
    if day is not None:
        _rewrite_day(clickhouse, job, day)
        ledger.execute(
            "UPDATE erasures SET rewritten_day = ? WHERE number = ?", (day, job.number)
        )
        return True
    locks.take(ledger, Lock.UPKEEP)
    if erasing.step(ledger, locks, job):
        ledger.execute("UPDATE outlay_state SET registry = registry + 1")
    return True


def _rewrite_day(clickhouse: Connection, job: Job, day: int) -> None:
    """Rename the events of a day. If it is repeated, it finds none.

    Raises:
        DayDiffersError: The new day has not the events of the old one.
    """
    table, rewritten = (
        f"{clickhouse.database}.{name}" for name in ("events", REWRITTEN)
    )
    of_customer = f"day = {day:d} AND {_condition(job)}"
    [(count,)] = clickhouse.rows(f"SELECT count() FROM {table} WHERE {of_customer}")
    if not count:
        return
    drop_day(clickhouse, day, REWRITTEN)
    columns = ", ".join(EVENT_COLUMNS)
    clickhouse.command(
        f"INSERT INTO {rewritten} ({columns}) SELECT {columns} FROM {table}"
        f" WHERE day = {day:d} AND NOT {_condition(job)}"
    )
    found = events_where(clickhouse, of_customer)
    renamed = (one._replace(event=job.renaming.event(one.event)) for one in found)
    write_rows(clickhouse, REWRITTEN, day, renamed)
    if contents(clickhouse, day, table=REWRITTEN) != contents(clickhouse, day):
        raise DayDiffersError(
            f"ClickHouse at {clickhouse} did not take all events of day {day}, which "
            "were written again for an erasure; the old ones stay, and it is repeated"
        )
    clickhouse.command(clickhouse.replace_partition("events", day, REWRITTEN))
    drop_day(clickhouse, day, REWRITTEN)


def _condition(job: Job) -> str:
    """Return the condition of the events that may have the customer's id."""
    customer = text(job.renaming.customer)
    parts = [
        f"coalesce({column} = {customer}, false)"
        for column in ("subject", "external_subject", "external_id")
    ]
    parts += [
        f"position(data, {text(spelling)}) > 0" for spelling in job.renaming.spellings
    ]
    return f"(namespace = {text(job.namespace)} AND ({' OR '.join(parts)}))"
