"""The SQLite store: receipts, rollups, and the file itself."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from decimal import Decimal, localcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlay.server import DatabaseBusyError, DatabaseError, NewerDatabaseError
from outlay.server._errors import StoreUnavailableError
from outlay.server._metering.metric import CompiledMetric, compile_metric
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
    Aggregation,
    CostMetric,
    Event,
)
from outlay.server._storage.sqlite_store import SqliteStore
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

IDLE = 1_000_000  # microseconds without an append, after which all is folded
WINDOW = 24 * MICROSECONDS_PER_HOUR
START = 490_000 * MICROSECONDS_PER_HOUR  # some hour of 2025


def make_event(key: str, **overrides: Any) -> Event:  # noqa: ANN401 - any field
    """Return an event of one unit at the start of the test's time."""
    data = overrides.pop("data", '{"amount":1}')
    fields: dict[str, Any] = {
        "id": f"evt_{key}",
        "namespace": "org_a",
        "key": key,
        "type": "cost.ai",
        "source": "tests",
        "subject": "cus_1",
        "external_subject": None,
        "external_id": None,
        "at": START,
        "data": data,
        "fields": decode_data(data),
    }
    return Event(**{**fields, **overrides})


def make_cost(**overrides: Any) -> CostMetric:  # noqa: ANN401 - any field
    """Return a cost that sums the amounts of ``cost.ai``."""
    fields: dict[str, Any] = {
        "id": "cst_1",
        "namespace": "org_a",
        "name": "AI",
        "unit_cost": Decimal(1),
        "currency": "USD",
        "product_id": "prod_1",
        "event_type": "cost.ai",
        "aggregation": Aggregation.SUM,
        "value_property": "$.amount",
        "group_by": {"provider": "$.provider"},
        "unit": None,
        "created_at": START,
        "updated_at": START,
    }
    return CostMetric(**{**fields, **overrides})


def meter_of(cost: CostMetric) -> CompiledMetric:
    """Return the meter of a cost that has one."""
    meter = compile_metric(cost)
    assert meter is not None
    return meter


def quantity(
    store: SqliteStore,
    cost: CostMetric,
    start: int = START,
    end: int = START + 10 * MICROSECONDS_PER_HOUR,
    *,
    window: Window | None = None,
) -> Decimal | None:
    """Return a cost's quantity over a period."""
    meter = meter_of(cost)
    tally = meter.new_accumulator()
    with store.reading() as reader:
        for one in reader.contributions(meter, start, end, window=window):
            tally.add(one)
    return tally.result()


def caught_up(store: SqliteStore) -> None:
    """Let the store do all that it put off."""
    while store.do_background_work(START + IDLE):
        pass


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


def test_the_first_receipt_of_a_key_wins(store: SqliteStore) -> None:
    """A retry must be answered with what was recorded the first time."""
    store.append([make_event("k", id="evt_first")], START)

    [receipt] = store.append([make_event("k", id="evt_second")], START + 1)

    assert receipt.duplicate
    assert not receipt.conflict
    assert receipt.event.id == "evt_first"


def test_a_key_twice_in_one_append_counts_once(store: SqliteStore) -> None:
    """A batch may hold a duplicate of its own."""
    cost = make_cost()
    store.add_cost(cost)

    first, second = store.append([make_event("k"), make_event("k")], START)

    assert (first.duplicate, second.duplicate) == (False, True)
    assert quantity(store, cost) == 1


def test_another_payload_under_the_same_key_is_a_conflict(store: SqliteStore) -> None:
    """Whoever reuses a key for something else should hear of it."""
    store.append([make_event("k")], START)

    [receipt] = store.append([make_event("k", data='{"amount":2}')], START + 1)

    assert receipt.duplicate
    assert receipt.conflict
    assert receipt.event.data == '{"amount":1}'


def test_organizations_do_not_share_keys(store: SqliteStore) -> None:
    """One customer's key must not swallow another's event."""
    store.append([make_event("k")], START)

    [receipt] = store.append([make_event("k", namespace="org_b")], START)

    assert not receipt.duplicate


def test_receipts_survive_a_restart(open_store: Callable[[], SqliteStore]) -> None:
    """A client retries across the server's restarts as well."""
    open_store().append([make_event("k")], START)

    [receipt] = open_store().append([make_event("k")], START + WINDOW - 1)

    assert receipt.duplicate


@pytest.mark.parametrize("forget", [True, False], ids=["forgotten", "still-there"])
def test_a_key_is_free_again_after_the_window(
    store: SqliteStore, *, forget: bool
) -> None:
    """The window is a promise of its length, whether or not upkeep was quick."""
    store.append([make_event("k")], START)
    if forget:
        store.do_background_work(START + WINDOW)

    [later] = store.append([make_event("k", id="evt_later")], START + WINDOW)
    [again] = store.append([make_event("k")], START + WINDOW + 1)

    assert not later.duplicate
    assert again.event.id == "evt_later"


def test_forgetting_an_old_receipt_keeps_the_newer_one_of_its_key(
    store: SqliteStore,
) -> None:
    """Upkeep runs late at times, when the key stands for another event already."""
    store.append([make_event("k")], START)
    store.append([make_event("k", id="evt_later")], START + WINDOW)
    store.do_background_work(START + WINDOW)

    [receipt] = store.append([make_event("k")], START + WINDOW + 1)

    assert receipt.event.id == "evt_later"


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
        caught_up(store)
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


def test_keys_of_the_first_schema_are_known(tmp_path: Path) -> None:
    """It noted each key with its event."""
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
        caught_up(store)
        after = other.execute(count).fetchone()  # there is nothing to be noted again
    known, new = store.append([make_event("key-1"), make_event("new")], START)
    store.close()

    assert before == after
    assert (known.duplicate, new.duplicate) == (True, False)


def test_a_failed_append_keeps_nothing(store: SqliteStore, tmp_path: Path) -> None:
    """Half a group on disk would be counted twice when the client sends it again."""
    cost = make_cost()
    store.add_cost(cost)
    with sqlite3.connect(tmp_path / "outlay.db") as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON rollups"
            " BEGIN SELECT raise(ABORT, 'disk is full'); END"
        )
    other.close()
    caught_up(store)

    # As many as are folded in the transaction that stores them.
    events = [make_event(f"k{number}") for number in range(4000)]
    with pytest.raises(StoreUnavailableError, match="disk is full"):
        store.append(events, START)

    with sqlite3.connect(tmp_path / "outlay.db") as other:
        other.execute("DROP TRIGGER full")
    other.close()
    results = store.append(events, START)
    assert not any(result.duplicate for result in results)
    assert quantity(store, cost) == 4000


def test_a_later_cost_reads_earlier_events(store: SqliteStore) -> None:
    """Metrics are often thought of after the money was spent."""
    cost = make_cost()
    store.append([make_event(f"a{n}") for n in range(7)], START)
    store.add_cost(cost)
    behind = quantity(store, cost)
    store.append([make_event("b")], START)
    still_behind = quantity(store, cost)
    caught_up(store)
    store.append([make_event("c")], START)

    assert [behind, still_behind, quantity(store, cost)] == [7, 8, 9]


def test_catching_up_goes_on_after_a_restart(
    open_store: Callable[[], SqliteStore],
) -> None:
    """The server may be stopped in the middle of folding a long history."""
    cost = make_cost()
    store = open_store()
    store.append([make_event(f"k{n}") for n in range(6000)], START)
    store.add_cost(cost)
    store.do_background_work(START)  # one of the rounds that 6000 events need

    store = open_store()
    before = quantity(store, cost)
    caught_up(store)

    assert [before, quantity(store, cost)] == [6000, 6000]


def test_a_redefined_cost_counts_anew(store: SqliteStore) -> None:
    """Rollups of the old definition must not leak into the new one."""
    cost = make_cost()
    store.add_cost(cost)
    store.append([make_event("k", data='{"amount":1,"tokens":50}')], START)
    caught_up(store)
    by_tokens = make_cost(value_property="$.tokens")

    store.replace_cost(by_tokens)
    before = quantity(store, by_tokens)
    caught_up(store)

    assert [before, quantity(store, by_tokens)] == [50, 50]


def test_a_new_price_leaves_the_rollups_alone(store: SqliteStore) -> None:
    """A price change re-prices at read time; folding a long history again is waste."""
    store.add_cost(make_cost())
    store.append([make_event("k")], START)
    caught_up(store)

    store.replace_cost(make_cost(unit_cost=Decimal(2)))

    assert not store.do_background_work(START)
    assert quantity(store, make_cost()) == 1


def test_a_deleted_cost_reads_no_events(store: SqliteStore) -> None:
    """Its event type is unknown again, which clients must be told."""
    cost = make_cost()
    store.add_cost(cost)

    store.delete_cost(cost, START)

    assert not store.has_metric_for("org_a", "cost.ai")
    with store.reading() as reader:
        assert reader.cost("org_a", cost.id) is None


hours = st.integers(0, 5 * MICROSECONDS_PER_HOUR)
literals = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=9).map(str),
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from(["null", "true", '"0.1"', '"x"', "1e-30", "1e999999", "0.10"]),
)
events = st.lists(
    st.tuples(literals, hours, st.sampled_from("ab"), st.sampled_from("xyz")),
    max_size=30,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    events=events,
    late=st.integers(0, 30),
    aggregation=st.sampled_from(Aggregation),
    bounds=st.tuples(hours, hours).map(sorted),
)
def test_rollups_and_raw_events_agree(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[tuple[str, int, str, str]],
    late: int,
    aggregation: Aggregation,
    bounds: Sequence[int],
) -> None:
    """Whole hours, ragged edges and unfolded tails must add up to the same total."""
    path = tmp_path_factory.mktemp("store") / "outlay.db"
    store = SqliteStore(path, dedupe_window=WINDOW, durable=False)
    made = [
        make_event(
            str(number),
            at=START + at,
            subject=customer,
            data=f'{{"amount":{literal},"provider":"{provider}"}}',
        )
        for number, (literal, at, customer, provider) in enumerate(events)
    ]
    cost = make_cost(aggregation=aggregation)
    start, end = START + bounds[0], START + bounds[1]

    store.append(made[:late], START)
    store.add_cost(cost)
    behind = quantity(store, cost, start, end)
    for event in made[late:]:
        store.append([event], START)
    unfolded = quantity(store, cost, start, end)
    caught_up(store)
    folded = quantity(store, cost, start, end)
    raw = quantity(store, cost, start, end, window=Window.MINUTE)
    store.close()

    assert behind == model(aggregation, made[:late], start, end)
    assert unfolded == folded == raw == model(aggregation, made, start, end)


def model(
    aggregation: Aggregation, events: Sequence[Event], start: int, end: int
) -> Decimal | None:
    """Return what a cost comes to, computed the slow and obvious way."""
    chosen = [event for event in events if start <= event.at < end]
    values: dict[int, Decimal] = {}
    for order, event in enumerate(chosen):
        given = event.fields["amount"]
        if isinstance(given, bool) or given is None or given == "x":
            continue
        number = Decimal(given)
        if abs(number.adjusted()) <= 100:
            values[order] = number
    unique = {str(event.fields["amount"]) for event in chosen}
    with localcontext(prec=500):
        total = sum(values.values(), Decimal(0))
    with localcontext(prec=34):
        average = total / len(values) if values else None
    newest = max(values, key=lambda order: (chosen[order].at, order), default=None)
    results: dict[Aggregation, Callable[[], Decimal | None]] = {
        Aggregation.SUM: lambda: total,
        Aggregation.COUNT: lambda: Decimal(len(chosen)),
        Aggregation.AVG: lambda: average,
        Aggregation.MIN: lambda: min(values.values(), default=None),
        Aggregation.MAX: lambda: max(values.values(), default=None),
        Aggregation.LATEST: lambda: None if newest is None else values[newest],
        Aggregation.UNIQUE_COUNT: lambda: Decimal(len(unique - {"None"})),
    }
    return results[aggregation]()


def test_contributions_name_customer_and_dimensions(store: SqliteStore) -> None:
    """Rollups of different customers or dimensions must never merge."""
    cost = make_cost(group_by={"b": "$.b", "a": "$.a"})
    store.add_cost(cost)
    caught_up(store)
    store.append(
        [
            make_event("1", data='{"amount":1,"a":"x","b":true}'),
            make_event("2", data='{"amount":2,"a":"x","b":true}'),
            make_event("3", data='{"amount":4,"a":1.50}', subject="cus_2"),
            make_event("4", data='{"amount":8}', subject=None, external_subject="ext"),
        ],
        START,
    )
    totals: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)

    with store.reading() as reader:
        for one in reader.contributions(
            meter_of(cost),
            START,
            START + MICROSECONDS_PER_HOUR,
            names=[CUSTOMER_NAME, "a", "b"],
        ):
            assert isinstance(one.value, Decimal)
            totals[one.customer, *one.dimensions] += one.value

    assert totals == {
        ("cus_1", "x", "true"): 3,
        ("cus_2", "1.50", ""): 4,
        ("ext", "", ""): 8,
    }


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
