"""Replace a customer's id everywhere in a ledger.

First all servers learn of it, and from then on arriving events get the pseudonym. Then
the events before are renamed, slice by slice. Then one transaction renames deltas and
rollups, and adds those of one name together. So each total stays the same at any
moment, and to the last digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._storage.postgres.locks import Lock
from outlay.server._storage.postgres.rollups import MERGED, ROLLUP_COLUMNS, group_of
from outlay.server._storage.renaming import Renaming
from outlay.server._storage.sql.budgets import delete_budgets_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._records import Event
    from outlay.server._storage.postgres.connecting import PostgresConnection
    from outlay.server._storage.postgres.locks import Locks
    from outlay.server._storage.sql.connection import Connection

_EVENTS: Final = 2000  # that one slice looks at


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


def _rename_rollups(connection: PostgresConnection, job: Job) -> None:
    renaming = job.renaming
    found = {
        "namespace": job.namespace,
        "customer": renaming.customer,
        "customers": [renaming.customer],
    }
    of_customer = (
        "definition IN (SELECT definition FROM costs WHERE namespace = :namespace)"
        " AND (customer = :customer OR dims @> (:customers)::text[])"
    )
    rows = connection.execute(
        " UNION ".join(
            f"SELECT definition, grp, customer, dims FROM {table} WHERE {of_customer}"
            for table in ("groups", "deltas")
        ),
        found,
    ).fetchall()
    for definition, old, customer, dims in rows:
        names = {
            "definition": definition,
            "old": old,
            "customer": renaming.text(customer),
            "dims": [renaming.label(label) for label in dims],
        }
        names["new"] = group_of(names["customer"], tuple(names["dims"]))
        if names["new"] != old.hex:
            _rename_group(connection, names)


def _rename_group(connection: PostgresConnection, names: Mapping[str, Any]) -> None:
    of_old = "WHERE definition = :definition AND grp = :old"
    connection.execute(
        "INSERT INTO groups (definition, grp, customer, dims)"
        " VALUES (:definition, (:new)::uuid, :customer, (:dims)::text[])"
        " ON CONFLICT DO NOTHING",
        names,
    )
    connection.execute(
        "UPDATE deltas SET grp = (:new)::uuid, customer = :customer,"
        f" dims = (:dims)::text[] {of_old}",
        names,
    )
    columns = ROLLUP_COLUMNS.replace(" grp,", " (:new)::uuid,")
    for table in ("hours", "days"):
        connection.execute(
            f"INSERT INTO {table} AS t ({ROLLUP_COLUMNS})"
            f" SELECT {columns} FROM {table} {of_old} {MERGED}",
            names,
        )
        connection.execute(f"DELETE FROM {table} {of_old}", names)
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
