"""The SQLite store: receipts, rollups, and the file itself."""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from contextlib import closing, contextmanager
from decimal import Decimal
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from outlay.server import DatabaseBusyError, DatabaseError, NewerDatabaseError
from outlay.server._errors import StoreUnavailableError
from outlay.server._storage.sqlite.pending_rollups import MAX_ROWS
from outlay.server._storage.sqlite.schema import LOG_BYTES, SCHEMA_VERSION
from outlay.server._storage.sqlite.store import SqliteStore
from tests.support.stores import DEDUPE_WINDOW as WINDOW
from tests.support.stores import (
    IDLE,
    START,
    finish_background_work,
    make_cost,
    make_event,
    make_key,
    quantity,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], SqliteStore]]:
    """Return a function that opens the test's database, closing the last store."""
    stores: list[SqliteStore] = []

    def reopen() -> SqliteStore:
        if stores:
            stores.pop().close()
        stores.append(SqliteStore(tmp_path / "outlay.db", dedupe_window=WINDOW))
        return stores[-1]

    yield reopen
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], SqliteStore]) -> SqliteStore:
    """Return an empty store."""
    return open_store()


@pytest.mark.parametrize("write_batch", [1, 100], ids=["noted", "remembered"])
def test_a_key_is_known_wherever_it_is_kept(
    tmp_path: Path, *, write_batch: int
) -> None:
    """The newest are in memory, the others in their table; both outlive a restart."""
    path = tmp_path / "outlay.db"
    for round_ in range(3):
        store = SqliteStore(path, dedupe_window=WINDOW, write_batch=write_batch)
        events = [make_event(f"k{number}") for number in range(round_ + 2)]

        receipts = store.append(events, START + round_)

        known = [receipt.event.key for receipt in receipts if receipt.duplicate]
        assert known == [f"k{number}" for number in range(round_ + 1 if round_ else 0)]
        finish_background_work(store)
        again = store.append(events, START + round_)
        assert all(receipt.duplicate for receipt in again)
        store.close()


def test_a_key_that_is_noted_late_stands_for_its_last_event(tmp_path: Path) -> None:
    """It may have come again, after its window, before it was noted at all."""
    path = tmp_path / "outlay.db"
    store = SqliteStore(path, dedupe_window=WINDOW, write_batch=2)
    store.append([make_event("k")], START)
    store.append([make_event("k", id="evt_later")], START + WINDOW)
    store.append([make_event("other")], START + WINDOW)
    assert store.do_background_work(START)
    store.close()

    store = SqliteStore(path, dedupe_window=WINDOW)
    [receipt] = store.append([make_event("k")], START + WINDOW + 1)
    store.close()

    assert receipt.event.id == "evt_later"


def test_a_key_is_not_forgotten_before_it_is_noted(tmp_path: Path) -> None:
    """What is noted after it was forgotten would stay for good."""
    path = tmp_path / "outlay.db"
    store = SqliteStore(path, dedupe_window=WINDOW, write_batch=2)
    store.append([make_event("over")], START)
    while store.do_background_work(START + WINDOW):  # folds, and forgets nothing
        pass
    store.append([make_event("young")], START + WINDOW)
    while store.do_background_work(START + WINDOW):
        pass
    store.close()

    with sqlite3.connect(path) as connection:
        kept = connection.execute("SELECT key FROM receipts").fetchall()
    connection.close()
    assert kept == [("young",)]


def test_keys_of_the_first_schema_are_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It noted each key with its event. The log shows how far the update is."""
    caplog.set_level(logging.INFO, "outlay.server")
    path = tmp_path / "outlay.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        Path(__file__).with_name("databases").joinpath("v1.sql").read_text()
    )
    connection.close()

    store = SqliteStore(path, dedupe_window=WINDOW, write_batch=1)
    with closing(sqlite3.connect(path)) as other:
        count = "SELECT count(*) FROM receipts"
        before = other.execute(count).fetchone()
        finish_background_work(store)
        after = other.execute(count).fetchone()  # there is nothing to be noted again
    known, new = store.append([make_event("key-1"), make_event("new")], START)
    store.close()

    steps = SCHEMA_VERSION - 1
    assert f"updating the database: step {steps} of {steps}" in caplog.messages
    assert before == after
    assert (known.duplicate, new.duplicate) == (True, False)


def test_a_metric_that_lagged_in_an_earlier_schema_counts_each_event_once(
    tmp_path: Path,
) -> None:
    """Its rollups held events that those of the other metrics did not hold yet."""
    path = tmp_path / "outlay.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        Path(__file__).with_name("databases").joinpath("v20.sql").read_text()
    )
    connection.close()

    store = SqliteStore(path, dedupe_window=WINDOW)
    before = quantity(store, make_cost())
    finish_background_work(store)
    after = quantity(store, make_cost())
    store.close()

    assert [before, after] == [60, 60]
    assert count_rows(path, "rollups", "metric = 1") == 0


def test_events_leave_the_keys_that_a_server_remembers(tmp_path: Path) -> None:
    """A server would read its keys again for each post. Any change of a key counts."""
    path = tmp_path / "outlay.db"
    store = SqliteStore(path, dedupe_window=WINDOW)
    key = make_key(1)
    store.add_key(key)
    versions = [store.access_version()]

    store.append([make_event("one")], START)
    store.note_key_uses([key.digest], START)
    assert store.access_version() == versions[0]

    for statement in (
        "UPDATE api_keys SET expires_at = 1",
        "UPDATE api_keys SET revoked_at = 1",
        "UPDATE api_keys SET permissions = '[]'",
        "INSERT INTO ended_tokens VALUES (x'00', 1)",
        "DELETE FROM api_keys",
    ):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(statement)
        versions.append(store.access_version())
    store.close()
    assert len({*versions}) == len(versions)


@contextmanager
def failing(path: Path, table: str) -> Iterator[None]:
    """Let each insertion into a table fail, as a full disk does."""
    with closing(sqlite3.connect(path)) as other:
        other.execute(
            f"CREATE TRIGGER full BEFORE INSERT ON {table}"
            " BEGIN SELECT raise(ABORT, 'disk is full'); END"
        )
    yield
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TRIGGER full")


def test_a_view_is_current_although_rows_of_an_earlier_one_are_left(
    store: SqliteStore,
) -> None:
    """The traceback of a stopped query keeps such rows, and they hold a snapshot."""
    store.put_customers("org_a", {f"cus_{number}": "x" for number in range(9)}, START)
    with store.reading() as reader:
        rows = reader.records("customers")
        next(rows)
    store.put_customers("org_a", {"cus_new": "x"}, START)

    with store.reading() as reader:
        assert "cus_new" in reader.customer_names("org_a")
    with pytest.raises(sqlite3.ProgrammingError):
        next(rows)


def test_a_failed_append_keeps_nothing(store: SqliteStore, tmp_path: Path) -> None:
    """Half a group on disk would be counted twice when the client sends it again."""
    cost = make_cost()
    store.add_cost(cost)
    finish_background_work(store)
    store.append([make_event("before")], START)
    events = [make_event(f"k{number}") for number in range(10)]

    with (
        failing(tmp_path / "outlay.db", "events"),
        pytest.raises(StoreUnavailableError, match="disk is full"),
    ):
        store.append(events, START)

    results = store.append(events, START)
    assert not any(result.duplicate for result in results)
    unfolded = quantity(store, cost)
    finish_background_work(store)
    assert [unfolded, quantity(store, cost)] == [11, 11]


def test_a_failed_fold_is_repeated(store: SqliteStore, tmp_path: Path) -> None:
    """Its events are on disk, and count before and after."""
    cost = make_cost()
    store.add_cost(cost)
    finish_background_work(store)
    store.append([make_event(f"k{number}") for number in range(10)], START)

    with (
        failing(tmp_path / "outlay.db", "rollups"),
        pytest.raises(StoreUnavailableError, match="disk is full"),
    ):
        store.do_background_work(START + IDLE)

    unfolded = quantity(store, cost)
    finish_background_work(store)
    assert [unfolded, quantity(store, cost)] == [10, 10]


@pytest.mark.parametrize("end", ["change", "delete"])
def test_the_rollups_of_an_ended_definition_are_deleted(
    store: SqliteStore, tmp_path: Path, end: str
) -> None:
    """They are deleted slice by slice, while posts go on."""
    store.add_cost(make_cost())
    finish_background_work(store)
    made = [
        make_event(f"k{number}", subject=f"cus_{number}", data='{"tokens":1e20}')
        for number in range(3000)
    ]
    store.append(made, START)
    finish_background_work(store)
    store.append([make_event("unfolded")], START)
    path = tmp_path / "outlay.db"
    assert count_rows(path, "rollups") > 9000

    by_tokens = make_cost(value_property="$.tokens", group_by={})
    if end == "delete":
        store.delete_cost("org_a", "cst_1", START)
    else:
        changed = store.change_cost("org_a", "cst_1", lambda _: by_tokens)
        assert changed == by_tokens
    at_once = count_rows(path, "rollups")
    finish_background_work(store)

    assert at_once > 9000
    if end == "delete":
        assert count_rows(path, "rollups") == count_rows(path, "wide_sums") == 0
    else:
        assert quantity(store, by_tokens) == 3000 * Decimal("1e20")
        assert count_rows(path, "rollups", "metric = 1") == 0
    assert count_rows(path, "ended_definitions") == 0


def test_a_new_metric_catches_up_under_constant_large_batches(tmp_path: Path) -> None:
    """Each batch makes a fold due. The new metric has its turn nevertheless."""
    path = tmp_path / "outlay.db"
    store = SqliteStore(path, dedupe_window=WINDOW, slice_seconds=0)
    store.add_cost(make_cost())
    numbers = count()

    def post(size: int) -> None:
        batch = [
            make_event(f"k{number}", subject=f"cus_{number}")
            for number in islice(numbers, size)
        ]
        store.append(batch, START)

    post(100)
    store.add_cost(late := make_cost("cst_2", name="late"))
    batches = 0
    while count_rows(path, "costs", "folded_seq IS NULL") < 2 and batches < 20:
        post(MAX_ROWS)
        assert store.do_background_work(START)
        batches += 1
    store.close()
    store = SqliteStore(path, dedupe_window=WINDOW)
    unfolded = quantity(store, late)
    finish_background_work(store)
    totals = [unfolded, quantity(store, late)]
    store.close()

    assert batches < 20
    assert totals == [100 + batches * MAX_ROWS] * 2


def test_a_slice_of_background_work_ends_with_its_time(tmp_path: Path) -> None:
    """Posts wait for a slice, on a fast machine and on a slow one."""
    whole = count_slices(tmp_path / "whole.db", math.inf)
    short = count_slices(tmp_path / "short.db", 0)

    assert [work for work in whole if short[work] < whole[work] + 2] == []


def count_slices(path: Path, seconds: float) -> dict[str, int]:
    """Return the number of slices of each kind of work."""
    store = SqliteStore(
        path, dedupe_window=WINDOW, write_batch=3000, slice_seconds=seconds
    )
    events = [
        make_event(f"k{number}", external_subject=f"cus_{number}")
        for number in range(3000)
    ]
    changed = make_cost(value_property="$.tokens")
    later = START + WINDOW + IDLE
    works: list[tuple[str, int, Callable[[], object]]] = [
        ("write keys", START, lambda: store.append(events, START)),
        ("add a cost", START, lambda: store.add_cost(make_cost())),
        (
            "change a cost",
            START,
            lambda: store.change_cost("org_a", "cst_1", lambda _: changed),
        ),
        (
            "erase a customer",
            START,
            lambda: store.begin_erasure("org_a", "cus_1", "erased_1", START),
        ),
        ("expire keys", later, lambda: store.append([make_event("last")], later)),
        ("delete events", later, lambda: store.set_retention("org_a", 0)),
    ]
    slices: dict[str, int] = {}
    for name, now, begin in works:
        begin()
        slices[name] = 0
        while store.do_background_work(now):
            slices[name] += 1
    store.close()
    return slices


def count_rows(path: Path, table: str, where: str = "true") -> int:
    """Return the number of rows of a table."""
    with closing(sqlite3.connect(path)) as other:
        query = f"SELECT count(*) FROM {table} WHERE {where}"  # noqa: S608 - constants
        return int(other.execute(query).fetchone()[0])


def test_the_file_is_whole_when_the_store_is_closed(
    store: SqliteStore, tmp_path: Path
) -> None:
    """A person copies the file, and not the log beside it.

    A reader that another program left open keeps the log, but not its content.
    """
    with closing(sqlite3.connect(tmp_path / "outlay.db")) as other:
        store.append([make_event("k")], START)
        assert other.execute("SELECT count(*) FROM events").fetchone() == (1,)

        store.close()

        assert (tmp_path / "outlay.db-wal").stat().st_size == 0
    copy = tmp_path / "copy.db"
    copy.write_bytes((tmp_path / "outlay.db").read_bytes())
    assert count_rows(copy, "events") == 1


def test_a_log_that_grew_is_cut(store: SqliteStore, tmp_path: Path) -> None:
    """A long query lets the log grow. The disk gets the space back."""
    log = tmp_path / "outlay.db-wal"
    text = '{"amount":1,"text":"' + "x" * 100_000 + '"}'
    with closing(sqlite3.connect(tmp_path / "outlay.db")) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM events").fetchone()
        for number in range(4):
            batch = [make_event(f"{number}-{n}", data=text) for n in range(100)]
            store.append(batch, START)
        grown = log.stat().st_size
        other.execute("ROLLBACK")
    assert grown > 40_000_000
    ends_at = time.monotonic() + 30
    for number in count():
        store.append([make_event(f"later-{number}")], START)
        if log.stat().st_size <= LOG_BYTES or time.monotonic() > ends_at:
            break
        store.do_background_work(START)

    assert log.stat().st_size <= LOG_BYTES


def test_a_new_price_leaves_the_rollups_alone(store: SqliteStore) -> None:
    """A price change re-prices at read time; folding a long history again is waste."""
    store.add_cost(make_cost())
    store.append([make_event("k")], START)
    finish_background_work(store)

    store.change_cost(
        "org_a",
        "cst_1",
        lambda cost: msgspec.structs.replace(cost, unit_cost=Decimal(2)),
    )

    assert not store.do_background_work(START)
    assert quantity(store, make_cost()) == 1


def test_a_second_server_on_the_file_is_refused(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Each would be ignorant of the costs that the other creates."""
    del store

    with pytest.raises(DatabaseBusyError, match="another outlay server"):
        SqliteStore(tmp_path / "outlay.db", dedupe_window=WINDOW)


def test_a_newer_file_is_left_alone(
    open_store: Callable[[], SqliteStore], tmp_path: Path
) -> None:
    """A downgrade must not write into tables it does not understand."""
    open_store().close()
    with sqlite3.connect(tmp_path / "outlay.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()

    with pytest.raises(NewerDatabaseError, match="upgrade outlay"):
        SqliteStore(tmp_path / "outlay.db", dedupe_window=WINDOW)


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    """A typing error on the command line must not cost anybody a file."""
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 1000)

    with pytest.raises(DatabaseError, match=r"letter\.txt cannot be used as database"):
        SqliteStore(path, dedupe_window=WINDOW)
    assert path.read_text().startswith("Dear reader")


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """SQLite files look alike from outside."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()

    with pytest.raises(DatabaseError, match="another program"):
        SqliteStore(path, dedupe_window=WINDOW)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The message says what to check."""
    with pytest.raises(DatabaseError, match="check that its folder exists"):
        SqliteStore(tmp_path / "none" / "outlay.db", dedupe_window=WINDOW)


def test_a_refused_file_can_be_tried_again(tmp_path: Path) -> None:
    """A failed start must not keep the lock."""
    path = tmp_path / "outlay.db"
    path.write_text("not a database, but long enough to be looked at" * 50)
    with pytest.raises(DatabaseError):
        SqliteStore(path, dedupe_window=WINDOW)
    path.unlink()

    SqliteStore(path, dedupe_window=WINDOW).close()
