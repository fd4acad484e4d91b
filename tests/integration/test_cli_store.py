"""``outlay store copy``: everything, to the last digit, also after an interruption."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pytest

from outlay._cli.exit_codes import ExitCode
from outlay.server._storage.copy_store import RECORDS
from outlay.server._storage.opening import open_copied
from outlay.server._storage.store_copy import CopyError, copy_store
from tests.support import command_line
from tests.support.filled import fill
from tests.support.stores import START, make_cost, make_event

if TYPE_CHECKING:
    from pathlib import Path

    from outlay.server._storage.store_copy import CopiedStore, CopyResult

NOW: Final = START + 5 * 24 * 3_600_000_000
ENGINES: Final = ("sqlite",)


class Places:
    """Names of new stores of each engine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def new(self, engine: str) -> str:
        """Return the name of a store that is empty."""
        del engine
        self._count += 1
        return str(self._folder / f"{self._count}.db")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return names of stores that end with the test."""
    return Places(tmp_path)


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


@pytest.mark.parametrize("source", ENGINES)
@pytest.mark.parametrize("target", ENGINES)
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
    """At each step. An event that is copied is not copied again."""
    monkeypatch.setattr("outlay.server._storage.store_copy._BATCH", 50)
    first, second = filled(places.new("sqlite")), places.new(target)
    seen: list[tuple[str, int, int]] = []

    def interrupt(work: str, done: int, total: int) -> None:
        if (work, done, total) not in seen:
            seen.append((work, done, total))
            raise KeyboardInterrupt

    interruptions = 0
    result = None
    while result is None:
        try:
            with closing(opened(first)) as one, closing(opened(second)) as other:
                result = copy_store(one, other, NOW, interrupt)
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions > 6
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
        internal = {"number", "definition", "folded_seq", "seq"}
        assert tables == follows | RECORDS.keys()
        for table, columns in RECORDS.items():
            rows = file.execute(f"PRAGMA table_info({table})")
            assert {row[1] for row in rows} - internal == {*columns}


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
