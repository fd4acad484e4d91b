"""A ledger whose days move to ClickHouse: each result stays, at every step and kill."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
import pytest
from pydantic import ValidationError

from outlay._cli.main import main
from outlay.server import BackgroundServer, ServerSettings
from outlay.server._errors import (
    DatabaseError,
    QueryStoppedError,
    StoreUnavailableError,
)
from outlay.server._records import Aggregation, BillableFields, CorrectionKind
from outlay.server._services.corrections import Order, decide
from outlay.server._storage.clickhouse.connection import (
    Connection,
    HistoryUnavailableError,
)
from outlay.server._storage.clickhouse.days import DayDiffersError
from outlay.server._storage.clickhouse.mover import HistoryMover
from outlay.server._storage.clickhouse.store import HistoryStore
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.postgres.connecting import PostgresConnection, connect
from outlay.server._storage.postgres.partitions import existing_days
from outlay.server._storage.postgres.store import PostgresStore
from outlay.server._storage.query_limit import QueryLimit, limited
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.request_models import Window
from tests.support.clickhouse_server import ClickHouseServer, new_database_url
from tests.support.filled import COSTS, DAY, fill
from tests.support.postgres_server import drop_database, find_programs, new_database
from tests.support.stores import (
    DEDUPE_WINDOW,
    HOUR,
    START,
    compiled,
    finish_background_work,
    make_cost,
    make_event,
    quantity,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from outlay.server._metering.metric import CompiledMetric
    from outlay.server._records import Correction
    from outlay.server._storage.correction_store import EventHistory
    from outlay.server._storage.store import Reader, Store

NOW: Final = START + 30 * DAY
FIRST: Final = START - 80 * HOUR
ASKED: Final = {
    cost.aggregation: cost
    for cost in COSTS
    if cost.aggregation in {Aggregation.SUM, Aggregation.MAX, Aggregation.UNIQUE_COUNT}
}.values()
LAST: Final = START + 6 * DAY + 7
VOID: Final = Order(CorrectionKind.VOID, "test", None, "finance", NOW)


class Places(NamedTuple):
    """The URLs of a ledger and its history."""

    ledger: str
    history: str

    def open(self) -> HistoryStore:
        """Open the store. It moves days only when a test says so."""
        return HistoryStore(self.ledger, self.history, dedupe_window=DEDUPE_WINDOW)

    @contextmanager
    def mover(self, slice_events: int = 20_000) -> Iterator[HistoryMover]:
        """Return a mover."""
        mover = HistoryMover(
            self.ledger, self.history, DEDUPE_WINDOW, slice_events=slice_events
        )
        with closing(mover):
            yield mover

    def move(self, now: int = NOW, slice_events: int = 20_000) -> int:
        """Move all days that are over, and return the number of steps."""
        steps = 0
        with self.mover(slice_events) as mover:
            while mover.step(now):
                steps += 1
        return steps

    def moved_upto(self) -> int:
        """Return the day before which all events are in ClickHouse."""
        with closing(connect(self.ledger)) as connection:
            (day,) = connection.execute("SELECT day FROM history").fetchone()
        return int(day)


@pytest.fixture
def places() -> Iterator[Places]:
    """Return a new ledger and a new history."""
    found = Places(new_database(), new_database_url())
    yield found
    drop_database(found.ledger)
    with closing(Connection(found.history)) as history:
        history.command(f"DROP DATABASE IF EXISTS {history.database}")


def everything(store: Store) -> list[object]:
    """Return all that a store tells about events and quantities."""
    found: list[object] = []
    with store.reading() as reader:
        for cost in ASKED:
            metric = compiled(cost)
            found.append(_quantities(reader, metric, None))
            found.append(_quantities(reader, metric, None, as_of=START + DAY))
        found.append(_quantities(reader, compiled(COSTS[0]), Window.MINUTE))
        for where in (
            EventFilter(),
            EventFilter(
                types=frozenset({"cost.ai"}),
                customers=frozenset({"cus_1", "ext\0ernal"}),
                start=START + DAY,
                end=START + 3 * DAY,
            ),
        ):
            found.append(reader.count_events("org_a", where))
            events, cursor = [], None
            while True:
                page = reader.events("org_a", where, 50, cursor)
                events += page.events
                cursor = page.cursor
                if cursor is None:
                    break
            found.append(events)
            found += [reader.event("org_a", one.event.id) for one in events[::40]]
        found.append(reader.event("org_b", "evt_3_0"))
        found += [reader.time_range(compiled(cost)) for cost in ASKED]
        found.append(reader.unmatched_types("org_a", FIRST, LAST))
    return found


def _quantities(
    reader: Reader,
    metric: CompiledMetric,
    window: Window | None,
    as_of: int | None = None,
) -> dict[tuple[object, ...], object]:
    groups: dict[tuple[object, ...], Any] = {}
    names = (CUSTOMER_NAME, *metric.names)
    # The period begins and ends within an hour, so that single events count as well.
    for one in reader.contributions(
        metric, FIRST + 1, LAST, names=names, window=window, as_of=as_of
    ):
        size = {None: 10**18, Window.MINUTE: HOUR // 60, Window.HOUR: HOUR}
        at = one.bucket_at // size.get(window, DAY)
        key = (at, one.customer, one.dimensions)
        groups.setdefault(key, metric.new_accumulator()).add(one)
    return {
        key: (group.result(), group.events, group.skipped, group.other_currency)
        for key, group in groups.items()
        if group.events or group.result()
    }


def void(store: Store, *event_ids: str) -> list[Correction | None]:
    """Void events, as a request does."""
    store.prepare_correction("org_a", event_ids)
    return store.correct("org_a", event_ids, partial(decide, VOID), NOW)


@pytest.mark.timeout(240)
def test_no_result_changes_at_any_step(places: Places) -> None:
    """Totals, single events and pages, by several aggregations, with corrections."""
    with closing(places.open()) as store:
        fill(store, retention=False)
        store.append([make_event("strange", type="cost.strange")], START + 9)
        finish_background_work(store, NOW)
        before = everything(store)
        assert before[-1] == {"cost.strange": 1}
        steps = 0
        with places.mover(slice_events=13) as mover:
            while mover.step(NOW):
                steps += 1
                if steps % 9 == 0:
                    assert everything(store) == before
        assert steps > 15
        finish_background_work(store, NOW)
        assert everything(store) == before
    assert places.moved_upto() == START // DAY + 5
    with closing(places.open()) as store:
        assert everything(store) == before
        assert store.add_first_costs([make_cost("cst_first")]) is False
    assert places.move(NOW + DAY) > 0  # the room of moved days is given back
    with closing(places.open()) as store:
        assert everything(store) == before


@contextmanager
def _pair() -> Iterator[tuple[Places, ClickHouseServer]]:
    """Return a new ledger, and a history in a ClickHouse that does not run yet."""
    server = ClickHouseServer()
    ledger = new_database()
    yield Places(ledger, f"clickhouse://127.0.0.1:{server.port}/outlay"), server
    server.remove()
    drop_database(ledger)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_backups_in_the_documented_order_restore_both(tmp_path: Path) -> None:
    """ClickHouse comes second, so that it has all that the other copy calls moved."""
    later = make_event("later", at=START + 5 * DAY)
    dump = tmp_path / "ledger.dump"
    with _pair() as (places, server), _pair() as (restored, copied):
        server.start()
        with closing(places.open()) as store:
            fill(store, retention=False)
            finish_background_work(store, NOW)
            with places.mover(slice_events=13) as mover:
                for _ in range(10):  # so that it stops within a day
                    assert mover.step(NOW)
            before = everything(store)
            moved_upto = places.moved_upto()
            _run("pg_dump", "--format=custom", f"--file={dump}", places.ledger)
            store.append([later], NOW)
            places.move(NOW + 5 * DAY)
            after = everything(store)
            assert moved_upto < NOW // DAY < places.moved_upto()
        server.kill()
        # ClickHouse has links between its folders.
        shutil.copytree(server.folder / "data", copied.folder / "data", symlinks=True)
        server.remove()

        copied.start()
        _run("pg_restore", f"--dbname={restored.ledger}", str(dump))
        with closing(restored.open()) as store:
            assert restored.moved_upto() == moved_upto
            assert everything(store) == before
            # The client sends again what it had sent after the backup.
            assert not store.append([later], NOW)[0].duplicate
            restored.move(NOW + 5 * DAY)
            assert everything(store) == after


def _run(program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL to its end."""
    subprocess.run([find_programs() / program, *arguments], check=True)


def test_the_table_of_a_moved_day_is_dropped(places: Places) -> None:
    """Each read would lock it. If a clock is set back, it is made again."""
    with closing(places.open()) as store:
        store.append([make_event("k1")], START)
        places.move()
        places.move(NOW + DAY)
        with closing(connect(places.ledger)) as ledger:
            assert START // DAY not in existing_days(ledger)
        assert not store.append([make_event("k2")], START + 1)[0].duplicate


def test_the_window_and_a_day_stay_in_the_ledger(places: Places) -> None:
    """A key is compared with its first event, which must be near."""
    with closing(places.open()) as store:
        store.append([make_event("old")], START)
        store.append([make_event("k", at=START + DAY)], START + 2 * DAY)
        end_of_day = (START // DAY + 1) * DAY
        assert places.move(end_of_day + DEDUPE_WINDOW + DAY - 1) == 0
        assert places.move(end_of_day + DEDUPE_WINDOW + DAY) > 0
        assert places.moved_upto() == START // DAY + 1
        [again] = store.append([make_event("k", id="evt_again")], START + 2 * DAY + 9)
    assert again.duplicate
    assert again.event.id == "evt_k"


@pytest.mark.parametrize(
    ("aggregation", "wanted"),
    [
        (Aggregation.SUM, "170"),
        (Aggregation.LATEST, "3.5"),
        (Aggregation.UNIQUE_COUNT, "9"),
    ],
)
def test_a_metric_that_comes_later_counts_moved_days(
    places: Places, aggregation: Aggregation, wanted: str
) -> None:
    """At once from the events, and soon from rollups, while more days move."""
    cost = make_cost("cst_late", aggregation=aggregation)
    other = make_cost("cst_other", aggregation=aggregation, event_type="cost.other")
    changed = make_cost("cst_changed", aggregation=Aggregation.COUNT)
    with closing(places.open()) as store:
        store.add_cost(changed)
        for number in range(40):
            event = make_event(f"k{number}", data=f'{{"amount":{number % 9}.5}}')
            store.append([event], START + number * 2 * HOUR)
        places.move(NOW - 26 * DAY)
        store.add_cost(cost)
        store.add_cost(other)
        store.change_cost("org_a", "cst_changed", lambda one: replace(one, cost))
        moved_upto = places.moved_upto()
        with places.mover(slice_events=10) as mover:
            is_busy = True
            while is_busy:
                for one in (cost, changed):
                    assert quantity(store, replace(one, cost)) == Decimal(wanted)
                assert not quantity(store, other)
                is_busy = store.do_background_work(NOW)
                is_busy = mover.step(NOW) or is_busy
        assert places.moved_upto() > moved_upto > START // DAY
        assert quantity(store, cost) == Decimal(wanted)
        with store.reading() as reader:
            (lagging,) = reader._connection.execute(
                "SELECT count(*) FROM costs WHERE folded_day IS NOT NULL"
            ).fetchone()
        assert lagging == 0


def replace(one: Any, by: Any) -> Any:  # noqa: ANN401 - costs
    """Return a cost with the aggregation of another one."""
    return make_cost(one.id, aggregation=by.aggregation)


def test_an_event_of_a_moved_day_can_be_voided(places: Places) -> None:
    """It is found in ClickHouse, and takes its own amount back."""
    cost, most = COSTS[0], make_cost("cst_most", aggregation=Aggregation.MAX)
    with closing(places.open()) as store:
        store.add_cost(cost)
        store.add_cost(most)
        for number in (1, 2, 3):
            data = f'{{"amount":{number}.25}}'
            store.append([make_event(f"k{number}", data=data)], START + number)
        finish_background_work(store, NOW)
        places.move()
        done = void(store, "evt_k3", "evt_none")
        assert [one is not None for one in done] == [True, False]
        assert quantity(store, cost) == Decimal("3.5")
        assert quantity(store, most) == Decimal("2.25")
        # Without the preparation, the event is read in the step itself.
        store.correct("org_a", ["evt_k2"], partial(decide, VOID), NOW)
        assert quantity(store, cost) == Decimal("1.25")
        assert quantity(store, most) == Decimal("1.25")


@pytest.mark.slow
def test_a_correction_does_not_wait_long_for_a_silent_clickhouse(
    places: Places,
) -> None:
    """Its event moved after it was prepared, and posts wait for it."""
    with closing(places.open()) as store:
        store.append([make_event("k1")], START)
        places.move()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ThreadPoolExecutor() as pool,
    ):
        url = f"clickhouse://127.0.0.1:{silent.getsockname()[1]}/outlay"
        with closing(places._replace(history=url).open()) as store:
            corrected = pool.submit(
                store.correct, "org_a", ["evt_k1"], partial(decide, VOID), NOW
            )
            with pytest.raises(HistoryUnavailableError, match="does not respond"):
                corrected.result(60)  # half of the time that a view would wait
            assert not store.append([make_event("k2")], NOW)[0].duplicate


@pytest.mark.slow
def test_many_corrections_do_not_wait_longer_than_one(places: Places) -> None:
    """Each event was moved after all were prepared, and posts wait for the sum."""
    took = threading.Event()
    asked: list[str] = []

    def slow(history: EventHistory) -> None:
        asked.append(history.event.id)
        took.wait(6)  # more than a correction may wait for ClickHouse

    with closing(places.open()) as store:
        store.append([make_event(f"k{number}") for number in range(3)], START)
        places.move()
        ids = [f"evt_k{number}" for number in range(3)]
        with pytest.raises(HistoryUnavailableError, match="nothing was corrected"):
            store.correct("org_a", ids, slow, NOW)
        took.set()
        assert asked == ids[:1]
        assert store.correct("org_a", ids, slow, NOW) == [None] * 3


def texts_of(url: str) -> str:
    """Return all that ClickHouse has of moved events."""
    with closing(Connection(url)) as history:
        rows = history.rows(
            "SELECT subject, external_subject, external_id, data FROM "  # noqa: S608 - a test's
            f"merge('{history.database}', '^(events|rewritten)$')"
        )
    return repr(rows)


def test_an_erasure_reaches_moved_and_half_moved_days(places: Places) -> None:
    """No table keeps the id, no total changes, and the move goes on."""
    cost = COSTS[0]
    data = '{"amount":1.5,"user":"cus_1"}'
    with closing(places.open()) as store:
        store.add_cost(cost)
        for day in range(3):
            events = [
                make_event(f"k{day}_{number}", subject=f"cus_{number % 2}", data=data)
                for number in range(6)
            ]
            store.append(events, START + day * DAY)
        finish_background_work(store, NOW)
        places.move(START + 3 * DAY)
        with places.mover(slice_events=4) as mover:
            mover.step(START + 4 * DAY)  # the second day is copied
            mover.step(START + 4 * DAY)  # four of its events left the ledger
            store.begin_erasure("org_a", "cus_1", "erased_1", NOW)
            with store.reading() as reader:
                before = reader.count_events("org_a", EventFilter())
            while mover.step(START + 4 * DAY):
                assert quantity(store, cost, START - 1) == Decimal(27)
        places.move()
        finish_background_work(store, NOW)
        assert "cus_1" not in texts_of(places.history)
        with store.reading() as reader:
            assert reader.erasures("org_a") == []
            assert reader.count_events("org_a", EventFilter()) == before == 18
            where = EventFilter(customers=frozenset({"erased_1"}))
            assert reader.count_events("org_a", where) == 9
            assert _quantities(reader, compiled(cost), None).keys() == {
                (0, "cus_0", ("", "erased_1")),
                (0, "erased_1", ("", "erased_1")),
            }
        void(store, "evt_k0_1")
        assert quantity(store, cost, START - 1) == Decimal("25.5")


def test_old_events_leave_clickhouse_when_no_view_needs_them(places: Places) -> None:
    """Whole days by dropping them, and the rest of others stays, counted again."""
    cost = make_cost()
    with closing(places.open()) as store:
        store.add_cost(cost)
        for day in range(4):
            at = START + day * DAY
            events = [
                make_event(f"k{day}", at=at),
                make_event(f"other{day}", namespace="org_b", at=at),
            ]
            store.append(events[: 1 + day % 2], at)
        finish_background_work(store, NOW)
        places.move()
        store.set_retention("org_a", 28 * DAY)  # two days are older
        later = NOW + DAY // 4
        for now in (NOW, later):
            places.move(now)
            with store.reading() as reader:
                page = reader.events("org_a", EventFilter(), 100, None)
                count = reader.count_events("org_b", EventFilter())
            left = 4 if now == NOW else 2  # an earlier view may still read them
            found = [one.event.key for one in page.events]
            assert found == ["k3", "k2", "k1", "k0"][:left]
            assert count == 2
            assert quantity(store, cost, START, START + 4 * DAY) == 4
        with pytest.raises(HttpProblem, match="are deleted"):
            quantity(store, cost, START + 1)
        with pytest.raises(HttpProblem, match="are deleted"):
            quantity(store, cost, START, START + 4 * DAY, as_of=START)
        assert quantity(store, cost, START, START + 4 * DAY, as_of=NOW) == 4
        with closing(Connection(places.history)) as history:
            days = history.rows(
                f"SELECT day, count() FROM {history.database}.events"  # noqa: S608 - a test's
                " GROUP BY day ORDER BY day"
            )
        first = START // DAY
        assert days == [(first + 1, 1), (first + 2, 1), (first + 3, 2)]
        assert places.move(later) == 0  # the counts are right, and nothing is left


def test_a_billable_metric_matches_moved_events_as_well(places: Places) -> None:
    """An event that it counts is not among those that no metric counts."""
    billable = BillableFields("calls", "item_1", START)
    with closing(places.open()) as store:
        store.append([make_event("k1")], START)
        places.move()
        with store.reading() as reader:
            assert reader.unmatched_types("org_a", START, NOW) == {"cost.ai": 1}
        store.add_cost(make_cost("bm_1", currency="", billable=billable))
        with store.reading() as reader:
            assert reader.unmatched_types("org_a", START, NOW) == {}


def _move_until_killed(places: Places, statement: int) -> None:
    """Move days, and end with SIGKILL before a statement to either database."""
    statements = {
        method.__code__
        for method in (
            PostgresConnection.execute,
            Connection.command,
            Connection.rows,
            Connection.insert,
        )
    }
    count = 0

    def kill_at(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        if event == "call" and frame.f_code in statements:
            count += 1
            if count == statement:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(kill_at)
    places.move(slice_events=13)


def move_with_kills(places: Places, kills: Iterator[int]) -> None:
    """Kill the mover before one statement after the other, until it ends by itself."""
    context = multiprocessing.get_context("spawn")
    with closing(places.open()) as store:
        fill(store, retention=False)
        store.add_cost(make_cost("cst_late"))
        finish_background_work(store, NOW)
        before = everything(store)
        for statement in kills:
            process = context.Process(
                target=_move_until_killed, args=(places, statement)
            )
            process.start()
            process.join(60)
            assert process.exitcode in {0, -signal.SIGKILL}
            assert everything(store) == before
            if process.exitcode == 0:
                break
        places.move()
        finish_background_work(store, NOW)
        assert everything(store) == before
    assert places.moved_upto() == START // DAY + 5


@pytest.mark.serial
@pytest.mark.timeout(240)
def test_a_killed_mover_loses_and_doubles_nothing(places: Places) -> None:
    """Killed with SIGKILL in each kind of step. The next one goes on."""
    move_with_kills(places, iter((24, 31, 60)))


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.timeout(1200)
def test_a_mover_that_is_killed_before_each_statement(places: Places) -> None:
    """Until one run is long enough to end by itself."""
    move_with_kills(places, iter(range(1, 1000)))


@pytest.mark.serial
@pytest.mark.timeout(240)
def test_while_clickhouse_is_down_recent_days_are_answered() -> None:  # noqa: PLR0915 - one story
    """Posts and recent totals go on. Older events are a sentence, and lose nothing."""
    server = ClickHouseServer()
    server.start()
    places = Places(new_database(), f"clickhouse://127.0.0.1:{server.port}/outlay")
    cost = make_cost()
    try:
        with closing(places.open()) as store:
            store.add_cost(cost)
            older = make_event("older", at=START + 2)
            store.append([older, make_event("old", at=START + 5)], START)
            recent = START + 20 * DAY
            store.append([make_event("new", at=recent + 5)], recent)
            finish_background_work(store, NOW)
            places.move(recent)
            assert quantity(store, cost, START + 5) == 1
            server.pause()
            with limited(QueryLimit(0.1)), pytest.raises(QueryStoppedError):
                quantity(store, cost, START + 5)
            assert quantity(store, cost, recent + 5, recent + HOUR) == 1
            server.go_on()
            assert quantity(store, cost, START + 5) == 1
            server.kill()

            store.append([make_event("newer", at=recent + 7)], recent + HOUR)
            assert quantity(store, cost, recent + 5, recent + HOUR) == 2
            assert quantity(store, cost, START, recent + HOUR) == 4  # of whole hours
            with store.reading() as reader:
                page = reader.events("org_a", EventFilter(start=recent), 10, None)
                assert [one.event.key for one in page.events] == ["newer", "new"]
            with pytest.raises(HistoryUnavailableError, match="recent days are ans"):
                quantity(store, cost, START + 5)
            with pytest.raises(HistoryUnavailableError):
                void(store, "evt_old")
            with pytest.raises(HistoryUnavailableError):
                store.correct("org_a", ["evt_old"], partial(decide, VOID), NOW)
            assert void(store, "evt_new") != [None]
            with pytest.raises(HistoryUnavailableError):
                places.move(NOW + DAY)
            # A metric that comes now waits for the moved days, and others do not.
            store.add_cost(make_cost("cst_late"))
            store.add_cost(make_cost("cst_new", event_type="cost.new"))
            finish_background_work(store, NOW)

            server.restart()
            assert quantity(store, cost, START + 5) == 1
            places.move(NOW + DAY)
            finish_background_work(store, NOW)
            assert quantity(store, cost, START + 5, recent + 6) == 1
            assert quantity(store, make_cost("cst_late"), START, recent + HOUR) == 3
    finally:
        server.remove()
        drop_database(places.ledger)


def test_a_clickhouse_that_lost_a_day_is_noticed(places: Places) -> None:
    """Also one in the middle of a move. The ledger keeps what it has."""
    with closing(places.open()) as store:
        for day in range(3):
            events = [make_event(f"k{day}_{number}") for number in range(6)]
            store.append(events, START + day * DAY)
        places.move(START + 3 * DAY)
        with places.mover(slice_events=4) as mover:
            mover.step(START + 4 * DAY)  # the second day is copied
            mover.step(START + 4 * DAY)  # four of its events left the ledger
            with closing(Connection(places.history)) as history:
                table = f"{history.database}.events"
                history.command(f"DELETE FROM {table} WHERE key = 'k1_5'")  # noqa: S608 - a test's
                with pytest.raises(DayDiffersError, match="written again"):
                    mover.step(START + 4 * DAY)
                assert places.move(START + 4 * DAY) > 0  # its rest was copied again
                history.command(f"ALTER TABLE {table} DROP PARTITION {START // DAY}")
        with pytest.raises(DayDiffersError, match="restore ClickHouse"):
            places.move()
        with store.reading() as reader:
            assert reader.count_events("org_a", EventFilter()) == 12


def test_the_days_of_another_ledger_are_refused(places: Places) -> None:
    """Two ledgers in one database of ClickHouse would drop each other's days."""
    plain = PostgresStore(places.ledger, dedupe_window=DEDUPE_WINDOW)
    with closing(places.open()) as store:
        store.append([make_event("k")], START)
        places.move()
    # A server that was started without the history does not see less than others.
    with closing(plain):
        with (
            pytest.raises(StoreUnavailableError, match="restart this server with --h"),
            plain.reading(),
        ):
            pass
        with pytest.raises(StoreUnavailableError, match="with --history"):
            void(plain, "evt_k")
        with pytest.raises(StoreUnavailableError, match="with --history"):
            plain.add_cost(make_cost())
    with pytest.raises(DatabaseError, match="restart this server with --history"):
        PostgresStore(places.ledger, dedupe_window=DEDUPE_WINDOW)
    other = Places(new_database(), places.history)
    try:
        with closing(other.open()) as store:
            store.append([make_event("k")], START)
            with pytest.raises(DatabaseError, match="not have the days of this ledger"):
                other.move()
    finally:
        drop_database(other.ledger)
    elsewhere = Places(places.ledger, new_database_url())
    with closing(elsewhere.open()) as store:
        with closing(Connection(elsewhere.history)) as history:
            history.command(f"CREATE DATABASE {history.database}")
        with pytest.raises(HistoryUnavailableError), store.reading() as reader:
            reader.event("org_a", "evt_k")


def until_moved(client: httpx.Client, url: str) -> dict[str, Any]:
    """Return what ``/readyz`` says when all days are moved."""
    deadline = time.monotonic() + 60
    while True:
        found = client.get(f"{url}/readyz").json()["history"]
        if found.get("movedUntil") and not found["waitingDays"]:
            return dict(found)
        assert time.monotonic() < deadline, found
        time.sleep(0.05)  # noqa: TID251 - a thread of the server has no event


@pytest.mark.serial
@pytest.mark.timeout(180)
def test_a_server_moves_days_and_answers_from_both(places: Places) -> None:  # noqa: PLR0915 - one story
    """It says how far it is. Without ClickHouse it takes events, and says 503."""
    server = ClickHouseServer()
    server.start()
    history = f"clickhouse://127.0.0.1:{server.port}/outlay"
    with closing(PostgresStore(places.ledger, dedupe_window=DEDUPE_WINDOW)) as store:
        store.add_cost(make_cost(namespace="org_local"))
        for day in range(2):
            event = make_event(f"k{day}", namespace="org_local")
            store.append([event], START + day * DAY)
    settings = ServerSettings(
        port=0, store=places.ledger, history=history, api_key="sk_test_0123456789abcdef"
    )
    headers = {"authorization": f"Bearer {settings.api_key}"}
    try:
        with (
            httpx.Client(headers=headers, timeout=60) as client,
            BackgroundServer(settings) as one,
        ):
            assert not until_moved(client, one.url)["isFailing"]
            metrics = client.get(f"{one.url}/metrics").text
            assert "outlay_history_waiting_days 0.0" in metrics
            assert 'engine="PostgreSQL and ClickHouse"' in metrics
            old = f"{one.url}/v0/events/evt_k0"
            assert client.get(old).json()["event"]["idempotencyKey"] == "k0"
            listed = client.get(f"{one.url}/v0/events").json()["data"]
            assert {found["idempotencyKey"] for found in listed} == {"k0", "k1"}

            server.kill()
            body = {"reason": "test", "idempotencyKey": "v"}
            refused = client.post(f"{old}/void", json=body)
            for response in (refused, client.get(old)):
                assert response.status_code == 503, response.text
                assert response.headers["retry-after"]
                assert "recent days are answered" in response.json()["message"]
            body_of_event = {
                "idempotencyKey": "k",
                "type": "cost.ai",
                "source": "tests",
                "subject": "cus_1",
                "data": {"amount": 2},
            }
            assert (
                client.post(f"{one.url}/v0/events", json=body_of_event).status_code
                == 202
            )
            assert client.get(f"{one.url}/readyz").status_code == 200

            server.restart()
            assert client.post(f"{old}/void", json=body).status_code == 200
    finally:
        server.remove()


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.timeout(600)
def test_a_silent_clickhouse_holds_up_no_read_of_recent_days(places: Places) -> None:
    """More queries about old days wait than there are threads for quick ones."""
    server = ClickHouseServer()
    server.start()
    history = f"clickhouse://127.0.0.1:{server.port}/outlay"
    with closing(PostgresStore(places.ledger, dedupe_window=DEDUPE_WINDOW)) as store:
        store.append([make_event("old", namespace="org_local")], START)
    key = "sk_test_0123456789abcdef"
    settings = ServerSettings(
        port=0,
        store=places.ledger,
        history=history,
        api_key=key,
        accept_unmatched=True,
        query_timeout=20,
    )
    recent = {
        "idempotencyKey": "recent",
        "type": "cost.ai",
        "source": "tests",
        "subject": "cus_1",
        "data": {"amount": 2},
    }
    try:
        with (
            httpx.Client(
                headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False
            ) as client,
            BackgroundServer(settings) as one,
            ThreadPoolExecutor(8) as pool,
        ):
            until_moved(client, one.url)
            old = f"{one.url}/v0/events/evt_old"
            assert client.get(old).status_code == 200
            posted = client.post(f"{one.url}/v0/events", json=recent).json()
            server.pause()
            asked = [pool.submit(client.get, old) for _ in range(8)]
            for _ in range(5):
                found = client.get(f"{one.url}/v0/events/{posted['id']}")
                assert found.status_code == 200, found.text
            assert {one.result(200).status_code for one in asked} == {503}
            server.go_on()
            deadline = time.monotonic() + 60
            while client.get(old).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.5)  # noqa: TID251 - another process has no event
    finally:
        server.go_on()
        server.remove()


def test_a_history_needs_a_ledger_and_no_password_as_an_argument(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each with what to do."""
    with pytest.raises(ValidationError, match="history needs store"):
        ServerSettings(history="clickhouse://localhost/outlay")
    with pytest.raises(SystemExit):
        main(["serve", "--history", "clickhouse://outlay:hidden@localhost/outlay"])
    shown = capsys.readouterr().err
    assert "OUTLAY_SERVER_HISTORY" in shown
    assert "hidden" not in shown
