"""``outlay store copy``: everything, to the last digit, also after an interruption."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from outlay._cli.exit_codes import ExitCode
from outlay.server._errors import DatabaseBusyError, DatabaseError
from outlay.server._storage.copy_store import RECORDS
from outlay.server._storage.opening import is_postgres_url, open_copied
from outlay.server._storage.postgres.connecting import connect
from outlay.server._storage.postgres.store import PostgresStore
from outlay.server._storage.store_copy import CopyError, copy_store
from tests.support import command_line
from tests.support.filled import DAY, fill
from tests.support.postgres_server import empty_database
from tests.support.processes import environment
from tests.support.stores import (
    START,
    make_cost,
    make_event,
    new_or_spare_database,
    spare_database,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.server._storage.store_copy import CopiedStore, CopyResult

NOW: Final = START + 5 * 24 * 3_600_000_000
ENGINES: Final = ("sqlite", "postgres")


class Places:
    """Names of new stores of each engine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._databases: list[str] = []

    def new(self, engine: str) -> str:
        """Return the name of a store that is empty."""
        if engine == "postgres":
            self._databases.append(new_or_spare_database())
            return self._databases[-1]
        self._count += 1
        return str(self._folder / f"{self._count}.db")

    def close(self) -> None:
        """Leave the databases to later tests."""
        for url in self._databases:
            empty_database(url)
            spare_database(url)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    """Return names of stores that end with the test."""
    with closing(Places(tmp_path)) as places:
        yield places


def opened(name: str) -> CopiedStore:
    """Open a store by its name."""
    return open_copied(name, timedelta(days=1))


def ignore(work: str, done: int, total: int) -> None:
    """Show no progress."""


def copy(source: str, target: str) -> CopyResult:
    """Copy a store."""
    with closing(opened(source)) as one, closing(opened(target)) as other:
        return copy_store(one, other, NOW, ignore)


def filled(name: str) -> str:
    """Fill a store with some of everything."""
    with closing(opened(name)) as store:
        fill(store)
    return name


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite", "sqlite"),
        ("sqlite", "postgres"),
        pytest.param("postgres", "sqlite", marks=pytest.mark.slow),
    ],
)
def test_a_copy_has_everything(places: Places, source: str, target: str) -> None:
    """Each kind of record is among it. Back again, the file is as it was."""
    first = filled(places.new(source))
    second, third = places.new(target), places.new(source)
    result = copy(first, second)
    back = copy(second, third)

    assert result == back == copy(first, third)
    assert result.events == 121
    assert all(result.records.values()), result.records
    assert result.totals > 20


@pytest.mark.parametrize("target", ENGINES)
def test_the_copy_knows_the_keys_of_the_window(places: Places, target: str) -> None:
    """A client that sends an event again after the move must not count twice."""
    first, second = filled(places.new("sqlite")), places.new(target)
    copy(first, second)
    with closing(opened(second)) as store:
        [again, free] = store.append(
            [
                make_event("late", id="evt_again"),
                make_event("k10_0", id="evt_free"),
            ],
            NOW - 1,
        )
    assert again.duplicate
    assert again.event.id == "evt_late"
    assert not free.duplicate


@pytest.mark.parametrize("target", ENGINES)
def test_an_interrupted_copy_goes_on(
    places: Places, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each step, and at its end. No event is copied again."""
    monkeypatch.setattr("outlay.server._storage.store_copy._BATCH", 50)
    first, second = filled(places.new("sqlite")), places.new(target)
    seen: set[tuple[str, bool]] = set()

    def interrupt(work: str, done: int, total: int) -> None:
        step = work, done == total
        if step not in seen:
            seen.add(step)
            raise KeyboardInterrupt

    interruptions = 0
    result = None
    while result is None:
        try:
            with closing(opened(first)) as one, closing(opened(second)) as other:
                result = copy_store(one, other, NOW, interrupt)
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions == len(seen) >= 6
    assert result == copy(first, places.new("sqlite"))


def test_other_data_in_the_target_is_refused(places: Places) -> None:
    """Two servers' data must never be mixed."""
    first, events, records = (places.new("sqlite") for _ in range(3))
    filled(first)
    with closing(opened(events)) as store:
        store.append([make_event("other")], START)
    with closing(opened(records)) as store:
        store.add_cost(make_cost("cst_x"))
    for target in (events, records):
        with pytest.raises(CopyError, match=r"other data.*name an empty one"):
            copy(first, target)


def test_a_difference_is_found(places: Places) -> None:
    """A digit that differs in an event, in a record, or in a rollup alone."""
    first = filled(places.new("sqlite"))
    for statement, found in (
        ("UPDATE events SET data = '{}' WHERE id = 'evt_30_0'", "event 61"),
        ("UPDATE rollups SET atto = atto + 1 WHERE value IS NULL", "the total of"),
    ):
        second = places.new("sqlite")
        copy(first, second)
        with closing(sqlite3.connect(second)) as damaged, damaged:
            damaged.execute(statement)
        with pytest.raises(CopyError, match=f"differs in {found}"):
            copy(first, second)


def test_what_cannot_be_copied_whole_is_refused(places: Places) -> None:
    """Totals of deleted events are in no event; an erasure is half done."""
    first = filled(places.new("sqlite"))
    with closing(opened(first)) as store:
        store.begin_erasure("org_a", "cus_1", "erased_1", NOW)
    with pytest.raises(CopyError, match="an erasure is running"):
        copy(first, places.new("sqlite"))


def test_every_table_of_the_file_is_copied_or_follows_from_the_others(
    places: Places,
) -> None:
    """A table that is added later must not be forgotten."""
    follows = {
        "deleted_events",  # such a file is refused
        "ended_definitions",
        "ended_tokens",  # a copy has its own sessions
        "erasures",  # such a file is refused
        "events",
        "progress",
        "receipts",
        "rollups",
        "wide_sums",
    }
    name = places.new("sqlite")
    opened(name).close()
    with closing(sqlite3.connect(name)) as file:
        tables = {
            table
            for (table,) in file.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            )
        }
        internal = {"number", "definition", "folded_seq", "since_seq", "seq"}
        assert tables == follows | RECORDS.keys()
        for table, columns in RECORDS.items():
            rows = file.execute(f"PRAGMA table_info({table})")
            assert {row[1] for row in rows} - internal == {*columns}


def test_every_table_of_a_ledger_is_copied_or_follows_from_the_others(
    places: Places,
) -> None:
    """A table that is added later must not be forgotten."""
    follows = {
        *("batches", "definitions", "outlay_state"),
        *("events", "receipts", "deltas", "groups", "rollups", "added_hours"),
        *("ended_definitions", "erasures", "deleted_events"),
        "ended_tokens",  # a copy has its own sessions
        # A ledger with moved days is refused.
        *("history", "moved_days", "moved_types", "moved_deletions"),
    }
    name = places.new("postgres")
    opened(name).close()
    with closing(connect(name)) as ledger:
        tables = {
            table
            for (table,) in ledger.execute(
                "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'S')"
                " AND relnamespace = current_schema()::regnamespace"
                " AND NOT relispartition AND relname NOT LIKE '%_number_seq'"
            )
        }
        assert tables == follows | RECORDS.keys()
        internal = {"number", "definition", "cutoff", "folded_day", "folded_seq", "seq"}
        for table, columns in RECORDS.items():
            rows = ledger.execute(
                "SELECT attname FROM pg_attribute"
                " WHERE attrelid = ?::regclass AND attnum > 0 AND NOT attisdropped",
                (table,),
            )
            assert {name for (name,) in rows} - internal == {*columns}


def test_a_ledger_with_moved_days_is_not_copied(places: Places) -> None:
    """Its events are in two databases."""
    first = places.new("postgres")
    opened(first).close()
    with closing(connect(first)) as ledger:
        ledger.execute("INSERT INTO history (id, day) VALUES ('h', 20000)")
    with pytest.raises(DatabaseError, match="pg_dump and ClickHouse with BACKUP"):
        copy(first, places.new("sqlite"))


def test_a_ledger_with_a_server_is_not_copied(places: Places) -> None:
    """A copy of a moment is no copy of what is accepted after it."""
    first, second = filled(places.new("sqlite")), places.new("postgres")
    with (
        closing(PostgresStore(second, dedupe_window=1)),
        pytest.raises(DatabaseBusyError, match="stop them"),
    ):
        copy(first, second)


def test_events_come_in_their_order_of_receipt(places: Places) -> None:
    """Also if the clock of a server went back to the day before."""
    days = [START + number * DAY for number in (2, 1, 1, 3, 0, 2)]
    stores = [opened(places.new(engine)) for engine in ENGINES]
    for store in stores:
        for number, now in enumerate(days):
            events = [make_event(f"{number}_{line}") for line in range(3)]
            store.append(events, now)
    with stores[0].reading() as one, stores[1].reading() as other:
        for after in (None, "evt_0_1", "evt_2_2", "evt_5_2"):
            for limit in (1, 4, 100):
                assert one.received(after, limit) == other.received(after, limit)
            assert one.count_received(after) == other.count_received(after)
    for store in stores:
        store.close()


@pytest.mark.slow
@pytest.mark.parametrize("target", ENGINES)
def test_a_killed_copy_goes_on(places: Places, target: str) -> None:
    """A kill in the middle of a large copy loses nothing but time."""
    first, second = places.new("sqlite"), places.new(target)
    with closing(opened(first)) as store:
        store.add_cost(make_cost())
        for number in range(60):
            events = [make_event(f"{number}_{line}") for line in range(500)]
            store.append(events, START + number)
    password = "not-secret" if target == "postgres" else ""
    command = [sys.executable, "-m", "outlay", "store", "copy", first]
    command.append(second.replace(f":{password}@", "@") if password else second)
    variables = environment({"PGPASSWORD": password})
    with subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL) as killed:
        try:
            _wait_for_events(second)
        finally:
            killed.kill()
    ran = subprocess.run(
        command, env=variables, check=False, capture_output=True, text=True
    )
    assert ran.returncode == ExitCode.DONE, ran.stderr
    assert "copied 30,000 events; each is equal" in ran.stdout


def _wait_for_events(name: str) -> None:
    """Wait until a copy has stored some events."""
    query = "SELECT EXISTS (SELECT 1 FROM events)"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.Error, sqlite3.Error):
            is_postgres = is_postgres_url(name)
            there = connect(name) if is_postgres else sqlite3.connect(name)
            with closing(there):
                if there.execute(query).fetchone()[0]:
                    return
        threading.Event().wait(0.02)
    raise AssertionError("the copy stores nothing")


def test_a_password_is_no_argument() -> None:
    """Other users of the machine can read the arguments of a program."""
    ran = command_line.call("store", "copy", "x.db", "postgresql://u:hidden@h/d")
    assert ran.code == ExitCode.USAGE
    assert "PGPASSWORD" in ran.err
    assert "hidden" not in ran.err


def test_the_command_says_what_it_copied(places: Places) -> None:
    """The numbers are the proof that a person keeps."""
    first, second = filled(places.new("sqlite")), places.new("sqlite")
    ran = command_line.call("store", "copy", first, second)

    assert ran.code == ExitCode.DONE
    assert "copied 121 events; each is equal" in ran.out
    assert "all are equal, to the digit" in ran.out
    missing = command_line.call("store", "copy", places.new("sqlite"), second)
    assert missing.code == ExitCode.USAGE
    assert "there is no database" in missing.err


def test_backup_names_the_tools_of_postgresql() -> None:
    """A copy of a file is no backup of a cluster."""
    ran = command_line.call("backup", "--db", "postgresql://h/d", "--output", "x.db")
    assert ran.code == ExitCode.USAGE
    assert "pg_basebackup" in ran.err
