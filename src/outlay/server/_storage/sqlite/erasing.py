"""Replace a customer's id everywhere in the SQLite file, slice by slice.

First all pending events are folded, and from then on arriving events get the pseudonym.
Then the events before are renamed, then the rollups. A row whose new name exists is
added to it. So each total stays the same at any moment, and to the last digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from outlay.server._storage.cubes import DETAIL, LABELS
from outlay.server._storage.renaming import Renaming
from outlay.server._storage.sql.budgets import delete_budgets_of
from outlay.server._storage.sqlite.rollups import (
    ON_CONFLICT,
    decode_dimensions,
    encode_dimensions,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._records import Event
    from outlay.server._storage.sqlite.time_slice import TimeSlice

TABLES: Final = """
    -- Customers whose id is being replaced. The row is deleted at the end, because it
    -- has the id. Events up to last_seq came before, up to done_seq they are renamed.
    CREATE TABLE erasures (
        number INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        customer TEXT NOT NULL,
        pseudonym TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        done_seq INTEGER NOT NULL,
        UNIQUE (namespace, customer)
    );
    """

_EVENTS: Final = 1000  # of a chunk: some 4 ms
_ROWS: Final = 4000  # of rollups in a chunk: some 4 ms

_KEY: Final = "(cube, grain, bucket, customer, dimensions)"
_Key: TypeAlias = tuple[int, int, int, str, str]
_FIRST: Final[_Key] = (-1, -1, -(2**63), "", "")
_Position: TypeAlias = tuple[int, _Key]  # in the rollups of a definition
_START: Final[_Position] = (-1, _FIRST)

_MERGE: Final = (
    "INSERT INTO rollups VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)" + ON_CONFLICT  # noqa: S608 - constants
)


class _Job(NamedTuple):
    number: int
    namespace: str
    renaming: Renaming
    last_seq: int
    done_seq: int


class Erasures:
    """The erasures that are running. Thread safety: the commit thread.

    Args:
        connection: The writing connection.
        transaction: A context manager that commits, or rolls back and raises.
        truncate_log: A function that cuts the log to nothing.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
        truncate_log: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._transaction = transaction
        self._truncate_log = truncate_log
        self._renamed_up_to = _START
        self._load()

    def _load(self) -> None:
        rows = self._connection.execute(
            "SELECT number, namespace, customer, pseudonym, last_seq, done_seq"
            " FROM erasures ORDER BY number"
        )
        self._jobs = [
            _Job(number, namespace, Renaming(customer, pseudonym), last, done)
            for number, namespace, customer, pseudonym, last, done in rows
        ]
        # What is deleted is overwritten while an id must vanish from the disk.
        state = "ON" if self._jobs else "OFF"
        self._connection.execute(f"PRAGMA secure_delete = {state}")

    def begin(
        self, namespace: str, customer: str, pseudonym: str, now: int, last_seq: int
    ) -> str:
        """Note an erasure, in the caller's transaction. Return its pseudonym.

        If one is running for the customer, it goes on.
        """
        self._connection.execute(
            "INSERT INTO erasures (namespace, customer, pseudonym, started_at,"
            " last_seq, done_seq) VALUES (?,?,?,?,?,0) ON CONFLICT DO NOTHING",
            (namespace, customer, pseudonym, now, last_seq),
        )
        (used,) = self._connection.execute(
            "SELECT pseudonym FROM erasures WHERE namespace = ? AND customer = ?",
            (namespace, customer),
        ).fetchone()
        self._connection.execute(
            "UPDATE revenue_lines SET customer = ?"
            " WHERE namespace = ? AND customer = ?",
            (used, namespace, customer),
        )
        self._connection.execute(
            "DELETE FROM customers WHERE namespace = ? AND id = ?",
            (namespace, customer),
        )
        delete_budgets_of(self._connection, namespace, customer)
        return str(used)

    def committed(self) -> None:
        """Rename arriving events from now on, because `begin` was committed."""
        self._load()

    def rename(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return arriving events with the pseudonyms of running erasures."""
        for job in self._jobs:
            events = [
                job.renaming.event(event) if event.namespace == job.namespace else event
                for event in events
            ]
        return events

    def step(self, time_slice: TimeSlice) -> bool:
        """Do a slice of the first erasure. Return whether there was one."""
        if not self._jobs:
            return False
        job = self._jobs[0]
        if job.done_seq < job.last_seq:
            self._rename_events(job, time_slice)
        elif not self._rename_rollups(job, time_slice):
            self._finish(job)
        return True

    def _rename_events(self, job: _Job, time_slice: TimeSlice) -> None:
        done = job.done_seq
        with self._transaction():
            while done < job.last_seq:
                upto = min(done + _EVENTS, job.last_seq)
                self._rename_events_between(job, done, upto)
                done = upto
                if time_slice.is_over():
                    break
            self._connection.execute(
                "UPDATE erasures SET done_seq = ? WHERE number = ?", (done, job.number)
            )
        self._jobs[0] = job._replace(done_seq=done)

    def _rename_events_between(self, job: _Job, after: int, upto: int) -> None:
        renaming = job.renaming
        wide, ascii_only = renaming.spellings
        rows = self._connection.execute(
            "SELECT seq, subject, external_subject, external_id, data FROM events"
            " NOT INDEXED WHERE seq > :after AND seq <= :upto"
            " AND namespace = :namespace AND (:customer IN"
            " (subject, external_subject, external_id)"
            " OR instr(data, :wide) OR instr(data, :ascii))",
            {
                "after": after,
                "upto": upto,
                "namespace": job.namespace,
                "customer": renaming.customer,
                "wide": wide,
                "ascii": ascii_only,
            },
        ).fetchall()
        self._connection.executemany(
            "UPDATE events SET subject = ?, external_subject = ?, external_id = ?,"
            " data = ? WHERE seq = ?",
            [
                (*map(renaming.optional, names), renaming.json(data), seq)
                for seq, *names, data in rows
            ],
        )

    def _rename_rollups(self, job: _Job, time_slice: TimeSlice) -> bool:
        """Rename a slice of the rollups. Return False if none is left."""
        position = self._renamed_up_to
        with self._transaction():
            while following := self._rename_rollups_after(job, position):
                position = following
                if time_slice.is_over():
                    break
        if position == self._renamed_up_to:
            return False
        self._renamed_up_to = position
        return True

    def _rename_rollups_after(self, job: _Job, position: _Position) -> _Position | None:
        """Rename a chunk of the rollups. Return its end, or None if none is left."""
        metric, after = position
        if after == _FIRST:
            row = self._connection.execute(
                "SELECT min(definition) FROM costs WHERE namespace = ?"
                " AND definition > ?",
                (job.namespace, metric),
            ).fetchone()
            if row[0] is None:
                return None
            metric = row[0]
        last = self._connection.execute(
            "SELECT cube, grain, bucket, customer, dimensions FROM rollups"  # noqa: S608 - constants
            f" WHERE metric = ? AND {_KEY} > (?,?,?,?,?)"
            " ORDER BY cube, grain, bucket, customer, dimensions LIMIT 1 OFFSET ?",
            (metric, *after, _ROWS),
        ).fetchone()
        self._rename_range(job.renaming, metric, after, last)
        return metric, _FIRST if last is None else tuple(last)

    def _rename_range(
        self, renaming: Renaming, metric: int, after: _Key, last: _Key | None
    ) -> None:
        upto = "" if last is None else f" AND {_KEY} <= (?,?,?,?,?)"
        rows = self._connection.execute(
            f"SELECT * FROM rollups WHERE metric = ? AND {_KEY} > (?,?,?,?,?){upto}"  # noqa: S608 - constants
            " AND (? IN (customer, dimensions) OR instr(dimensions, ?))",
            (
                metric,
                *after,
                *(last or ()),
                renaming.customer,
                encode_dimensions((renaming.customer,))[1:-1],
            ),
        ).fetchall()
        self._connection.executemany(
            "DELETE FROM rollups WHERE metric = ? AND cube = ? AND grain = ?"
            " AND bucket = ? AND customer = ? AND dimensions = ?",
            [row[:6] for row in rows],
        )
        self._connection.executemany(
            _MERGE, [_renamed_row(renaming, row) for row in rows]
        )

    def _finish(self, job: _Job) -> None:
        rows = self._connection.execute(
            "SELECT rowid, customer, dimensions FROM wide_sums WHERE metric IN"
            " (SELECT definition FROM costs WHERE namespace = ?)",
            (job.namespace,),
        ).fetchall()
        renaming = job.renaming
        with self._transaction():
            self._connection.executemany(
                "UPDATE wide_sums SET customer = ?, dimensions = ? WHERE rowid = ?",
                [
                    (renaming.text(customer), _renamed_array(renaming, text), rowid)
                    for rowid, customer, text in rows
                ],
            )
            self._rename_entries(job.namespace, renaming)
            self._connection.execute(
                "DELETE FROM erasures WHERE number = ?", (job.number,)
            )
        self._renamed_up_to = _START
        self._load()
        # The log still has the pages as they were.
        self._truncate_log()

    def _rename_entries(self, namespace: str, renaming: Renaming) -> None:
        """Rename what corrections copied from their events."""
        rows = self._connection.execute(
            "SELECT number, customer, data FROM entries WHERE namespace = ?",
            (namespace,),
        ).fetchall()
        self._connection.executemany(
            "UPDATE entries SET customer = ?, data = ? WHERE number = ?",
            [
                (renaming.text(customer), renaming.json(data), number)
                for number, customer, data in rows
                if customer == renaming.customer or renaming.json(data) != data
            ],
        )


def _renamed_row(renaming: Renaming, row: Sequence[Any]) -> tuple[Any, ...]:
    metric, cube, grain, bucket, customer, dimensions, *values = row
    if cube in {LABELS, DETAIL}:
        dimensions = _renamed_array(renaming, dimensions)
    else:
        dimensions = renaming.label(dimensions)  # a single label, as it is
    customer = renaming.text(customer)
    return (metric, cube, grain, bucket, customer, dimensions, *values)


def _renamed_array(renaming: Renaming, text: str) -> str:
    if not text:
        return text
    return encode_dimensions(tuple(map(renaming.label, decode_dimensions(text))))
