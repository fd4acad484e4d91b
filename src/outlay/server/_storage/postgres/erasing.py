"""Replace a customer's id everywhere in a ledger.

First all servers learn of it, and from then on arriving events get the pseudonym. Then
the events before are renamed, slice by slice. Then one transaction renames deltas and
rollups, and adds those of one name together. So each total stays the same at any
moment, and to the last digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._storage.postgres.larger_grains import (
    MERGED,
    ROLLUP_COLUMNS,
    add_all_hours,
)
from outlay.server._storage.postgres.locks import Lock
from outlay.server._storage.postgres.rollups import GROUP_NAME
from outlay.server._storage.renaming import Renaming
from outlay.server._storage.sql.budgets import delete_budgets_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._records import Event
    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.postgres.locks import Locks
    from outlay.server._storage.sql.connection import Connection

_EVENTS: Final = 2000  # that one slice looks at
_NEW_NAME: Final = GROUP_NAME.format(
    customer="(:new_customer)::text", dims="(:new_dims)::text[]"
)


class Job(NamedTuple):
    """A running erasure. Events up to ``last_seq`` came before it."""

    number: int
    namespace: str
    renaming: Renaming
    last_seq: int
    done_day: int
    done_seq: int


def running_jobs(connection: Connection) -> list[Job]:
    """Return all running erasures, oldest first."""
    rows = connection.execute(
        "SELECT number, namespace, customer, pseudonym, last_seq, done_day, done_seq"
        " FROM erasures ORDER BY number"
    )
    return [
        Job(number, namespace, Renaming(customer, pseudonym), *place)
        for number, namespace, customer, pseudonym, *place in rows
    ]


def begin(
    connection: Connection,
    namespace: str,
    customer: str,
    pseudonym: str,
    *,
    now: int,
    last_seq: int,
) -> str:
    """Note an erasure, in the caller's transaction. Return its pseudonym.

    If one is running for the customer, it goes on.
    """
    connection.execute(
        "INSERT INTO erasures (namespace, customer, pseudonym, started_at, last_seq,"
        " done_day, done_seq) VALUES (?,?,?,?,?,0,0) ON CONFLICT DO NOTHING",
        (namespace, customer, pseudonym, now, last_seq),
    )
    (used,) = connection.execute(
        "SELECT pseudonym FROM erasures WHERE namespace = ? AND customer = ?",
        (namespace, customer),
    ).fetchone()
    connection.execute(
        "UPDATE revenue_lines SET customer = ? WHERE namespace = ? AND customer = ?",
        (used, namespace, customer),
    )
    connection.execute(
        "DELETE FROM customers WHERE namespace = ? AND id = ?", (namespace, customer)
    )
    delete_budgets_of(connection, namespace, customer)
    return str(used)


def renamed(events: Sequence[Event], jobs: Sequence[Job]) -> Sequence[Event]:
    """Return arriving events with the pseudonyms of running erasures."""
    for job in jobs:
        events = [
            job.renaming.event(event) if event.namespace == job.namespace else event
            for event in events
        ]
    return events


def step(connection: PostgresConnection, locks: Locks, job: Job) -> bool:
    """Do a slice of an erasure. Return whether it is finished.

    Args:
        connection: The connection, in a transaction with the lock of upkeep.
        locks: The locks of the ledger.
        job: The erasure, as it is stored.
    """
    (day,) = connection.execute(
        "SELECT min(day) FROM events WHERE day >= ? AND (day, seq) > (?, ?)"
        " AND seq <= ?",
        (job.done_day, job.done_day, job.done_seq, job.last_seq),
    ).fetchone()
    if day is not None:
        _rename_events(connection, job, day)
        return False
    _rename_rollups(connection, job)
    # A correction that is under way may have read its event before it was renamed.
    locks.take(connection, Lock.WRITES)
    _rename_entries(connection, job)
    connection.execute("DELETE FROM erasures WHERE number = ?", (job.number,))
    return True


def _rename_events(connection: PostgresConnection, job: Job, day: int) -> None:
    """Rename a slice of the events of a day."""
    after = job.done_seq if day == job.done_day else 0
    upto = slice_end(connection, day, after, job.last_seq, _EVENTS)
    renaming = job.renaming
    wide, ascii_only = renaming.spellings
    rows = connection.execute(
        "SELECT seq, subject, external_subject, external_id, data FROM events"
        " WHERE day = :day AND seq > :after AND seq <= :upto"
        " AND namespace = :namespace AND (:customer IN"
        " (subject, external_subject, external_id)"
        " OR strpos(data, :wide) > 0 OR strpos(data, :ascii) > 0)",
        {
            "day": day,
            "after": after,
            "upto": upto,
            "namespace": job.namespace,
            "customer": renaming.customer,
            "wide": wide,
            "ascii": ascii_only,
        },
    ).fetchall()
    connection.executemany(
        "UPDATE events SET subject = ?, external_subject = ?, external_id = ?,"
        " data = ? WHERE day = ? AND seq = ?",
        [
            (*map(renaming.optional, names), renaming.json(data), day, seq)
            for seq, *names, data in rows
        ],
    )
    connection.execute(
        "UPDATE erasures SET done_day = ?, done_seq = ? WHERE number = ?",
        (day, upto, job.number),
    )


def slice_end(
    connection: PostgresConnection, day: int, after: int, last: int, count: int
) -> int:
    """Return the order of receipt at which a slice of a day's events ends.

    Args:
        connection: The connection.
        day: The day of receipt.
        after: The end of the slice before.
        last: The last event that is wanted.
        count: The most events of the slice.
    """
    row = connection.execute(
        "SELECT seq FROM events WHERE day = ? AND seq > ? AND seq <= ?"
        " ORDER BY seq OFFSET ? LIMIT 1",
        (day, after, last, count - 1),
    ).fetchone()
    return last if row is None else int(row[0])


_OF_CUSTOMER: Final = (
    "definition IN (SELECT definition FROM costs WHERE namespace = :namespace)"
    " AND (customer = :customer OR dims @> (:customers)::text[])"
)


def _rename_rollups(connection: PostgresConnection, job: Job) -> None:
    found = {
        "namespace": job.namespace,
        "customer": job.renaming.customer,
        "customers": [job.renaming.customer],
    }
    deltas = connection.execute(
        f"SELECT DISTINCT definition, customer, dims FROM deltas WHERE {_OF_CUSTOMER}",
        found,
    ).fetchall()
    connection.executemany(
        "UPDATE deltas SET customer = :new_customer, dims = (:new_dims)::text[]"
        " WHERE definition = :definition AND customer = :customer"
        " AND dims = (:dims)::text[]",
        [_new_names(job.renaming, *row) for row in deltas],
    )
    groups = connection.execute(
        "SELECT definition, customer, dims, cube, grp FROM groups"
        f" WHERE {_OF_CUSTOMER}",
        found,
    ).fetchall()
    # A row of an hour can only be added to another one if both are in larger grains.
    for definition, cube in {(row[0], row[3]) for row in groups}:
        add_all_hours(connection, definition, cube)
    for definition, customer, dims, cube, grp in groups:
        names = _new_names(job.renaming, definition, customer, dims)
        if (customer, dims) != (names["new_customer"], names["new_dims"]):
            _rename_group(connection, {**names, "cube": cube, "old": grp})


def _new_names(
    renaming: Renaming, definition: int, customer: str, dims: Sequence[str]
) -> dict[str, Any]:
    """Return the old and the new customer and dimensions of a group."""
    return {
        "definition": definition,
        "customer": customer,
        "dims": dims,
        "new_customer": renaming.text(customer),
        "new_dims": [renaming.label(label) for label in dims],
    }


def _rename_group(connection: PostgresConnection, names: Mapping[str, Any]) -> None:
    (new,) = connection.execute(f"SELECT {_NEW_NAME}", names).fetchone()
    names = {**names, "new": new}
    of_old = "WHERE definition = :definition AND cube = :cube AND grp = :old"
    connection.execute(
        "INSERT INTO groups (definition, cube, grp, customer, dims)"
        " VALUES (:definition, :cube, :new, :new_customer, (:new_dims)::text[])"
        " ON CONFLICT DO NOTHING",
        names,
    )
    columns = ROLLUP_COLUMNS.replace(" grp,", " :new,")
    connection.execute(
        f"INSERT INTO rollups AS t ({ROLLUP_COLUMNS})"
        f" SELECT {columns} FROM rollups {of_old} {MERGED}",
        names,
    )
    connection.execute(f"DELETE FROM rollups {of_old}", names)
    connection.execute(f"DELETE FROM groups {of_old}", names)


def _rename_entries(connection: PostgresConnection, job: Job) -> None:
    """Rename what corrections copied from their events."""
    renaming = job.renaming
    rows = connection.execute(
        "SELECT number, customer, data FROM entries WHERE namespace = ?",
        (job.namespace,),
    ).fetchall()
    connection.executemany(
        "UPDATE entries SET customer = ?, data = ? WHERE number = ?",
        [
            (renaming.text(customer), renaming.json(data), number)
            for number, customer, data in rows
            if customer == renaming.customer or renaming.json(data) != data
        ],
    )
