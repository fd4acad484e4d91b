"""Whole days in ClickHouse: exact, once, and repeatable after a kill at any step."""

from __future__ import annotations

from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlay.server._errors import DatabaseError, NewerDatabaseError
from outlay.server._records import MICROSECONDS_PER_HOUR, Aggregation
from outlay.server._storage.clickhouse import moving
from outlay.server._storage.clickhouse.connection import (
    Connection,
    HistoryUnavailableError,
)
from outlay.server._storage.clickhouse.event_rows import MovedEvents
from outlay.server._storage.clickhouse.moving import DayDiffersError, MovedEvent
from outlay.server._storage.clickhouse.quantities import Moved, contributions
from outlay.server._storage.clickhouse.schema import SCHEMA_VERSION, migrate
from outlay.server._storage.event_filter import event_matcher
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.store import CUSTOMER_NAME
from tests.support.clickhouse_server import (
    ClickHouseServer,
    new_database_url,
    shared_server,
)
from tests.support.questions import (
    Question,
    ask,
    events,
    make_event,
    make_metric,
    model,
    questions,
)
from tests.support.stores import compiled
from tests.support.stores import make_event as make_simple_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._records import Event

DAY: Final = 24 * MICROSECONDS_PER_HOUR
FIRST: Final = 20_000  # the first day of receipt, in days since 1970


@contextmanager
def database(url: str | None = None) -> Iterator[Connection]:
    """Return a new database with the tables of this version."""
    connection = Connection(url or new_database_url())
    migrate(connection)
    try:
        yield connection
    finally:
        connection.command(f"DROP DATABASE {connection.database}")
        connection.close()


@pytest.fixture(scope="module")
def history() -> Iterator[Connection]:
    """Return a database that the tests of this module share, one after the other."""
    with database() as connection:
        yield connection


def received(made: Sequence[Event], start: int = 1) -> list[MovedEvent]:
    """Return events with their order of receipt."""
    return [
        MovedEvent(seq, FIRST * DAY + seq, one) for seq, one in enumerate(made, start)
    ]


class Views:
    """Answers questions to a view of moved days, as a store does."""

    def __init__(self, connection: Connection, moved: Moved) -> None:
        self._connection = connection
        self._moved = moved

    @contextmanager
    def reading(self) -> Iterator[Views]:
        """Return the view."""
        yield self

    def contributions(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        **options: Any,  # noqa: ANN401 - those of `contributions`
    ) -> Iterator[Contribution]:
        """Yield the contributions of moved days."""
        return contributions(
            self._connection, metric, self._moved, start, end, **options
        )


@pytest.mark.timeout(180)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=events,
    cut=st.integers(0, 40),
    loaded=st.sets(st.sampled_from([FIRST, FIRST + 1])),
    aggregation=st.sampled_from(Aggregation),
    names=st.sampled_from([(), ("provider",), ("provider", "region")]),
    asked=st.lists(questions, min_size=1, max_size=4),
)
def test_any_question_equals_the_plain_model(  # noqa: PLR0917 - one drawn value each
    history: Connection,
    rows: list[tuple[str, int, str, str, str, str]],
    cut: int,
    loaded: set[int],
    aggregation: Aggregation,
    names: tuple[str, ...],
    asked: Sequence[Question],
) -> None:
    """With rollups of each day, of one, or of none, as of a metric that came later."""
    metric = make_metric(aggregation, *names)
    made = [make_event(number, row) for number, row in enumerate(rows)]
    moving.write_day(history, FIRST, received(made[:cut]))
    moving.write_day(history, FIRST + 1, received(made[cut:], len(made[:cut]) + 1))
    loads = {day: day * 10 for day in loaded} if compiled(metric).can_roll_up else {}
    for day, load in loads.items():
        moving.fold_day(history, compiled(metric), 7, day, load)
    views: Any = Views(history, Moved(FIRST - 1, FIRST + 1, loads))
    for one in asked:
        known = {*names, CUSTOMER_NAME}
        where = {key: some for key, some in one.where.items() if key in known}
        question = one._replace(names=one.names & known, where=where)
        assert ask(views, metric, question) == model(aggregation, names, made, question)


AMOUNTS: Final = (
    "1e90",
    "-1e90",
    "0.000000000000000000000000000000000000001",
    "99999999999999999999.99999999999999999999999999999999999999",
    "99999999999999999999.99999999999999999999999999999999999999",
    "100000000000000000000",
    "-0.00000000000000000000000000000000000001",
    "1E+3",
)


@pytest.mark.parametrize(
    "aggregation",
    [Aggregation.SUM, Aggregation.MIN, Aggregation.MAX, Aggregation.LATEST],
)
def test_values_beyond_the_column_are_exact(
    history: Connection, aggregation: Aggregation
) -> None:
    """A column of 76 digits would wrap or cut them without an error."""
    made = [
        make_event(number, (literal, number * 7, "ann", "x", "eu", ""))
        for number, literal in enumerate(AMOUNTS)
    ]
    metric = make_metric(aggregation)
    moving.write_day(history, FIRST, received(made))
    moving.fold_day(history, compiled(metric), 7, FIRST, 1)
    views: Any = Views(history, Moved(FIRST - 1, FIRST, {FIRST: 1}))
    asked = Question(0, 2**52, frozenset(), {}, None)

    assert ask(views, metric, asked) == model(aggregation, (), made, asked)


def test_a_day_that_is_written_again_counts_once(history: Connection) -> None:
    """A mover that was killed begins again. What it left must not count."""
    metric = make_metric(Aggregation.SUM)
    made = [make_event(n, ("1.5", n, "ann", "x", "eu", "")) for n in range(10)]
    moving.write_day(history, FIRST, received(made[:7]))
    moving.fold_day(history, compiled(metric), 7, FIRST, 1)
    assert moving.write_day(history, FIRST, received(made)) == 10
    moving.fold_day(history, compiled(metric), 7, FIRST, 2)  # it was killed
    moving.fold_day(history, compiled(metric), 7, FIRST, 3)
    views: Any = Views(history, Moved(FIRST - 1, FIRST, {FIRST: 3}))
    asked = Question(0, 2**52, frozenset(), {}, None)
    assert ask(views, metric, asked) == {(None,): Decimal(15)}

    moving.drop_other_loads(history, FIRST, [3])
    loads = history.rows(
        "SELECT DISTINCT load FROM "  # noqa: S608 - a test's
        f"{history.database}.hours WHERE day = {FIRST}"  # another test leaves its day
    )
    assert loads == [(3,)]
    assert ask(views, metric, asked) == {(None,): Decimal(15)}


def test_a_day_that_lost_an_event_is_found(history: Connection) -> None:
    """The ledger must not forget a day that ClickHouse has only in part."""
    made = received([make_event(n, ("1", n, "", "", "", "")) for n in range(5)])
    moving.write_day(history, FIRST, made)
    total = sum(one.seq for one in made)
    moving.check_day(history, FIRST, 5, total)
    history.command(
        f"DELETE FROM {history.database}.events WHERE seq = 3"  # noqa: S608 - a test's
    )
    with pytest.raises(DayDiffersError, match=r"has 4 events .* the ledger has 5"):
        moving.check_day(history, FIRST, 5, total)
    with pytest.raises(DayDiffersError):
        moving.write_day(history, FIRST, [*made, made[-1]])


def test_single_events_are_found_as_they_were(history: Connection) -> None:
    """Each field of each event, by id, by filter, and in pages."""
    texts = ("a\0b", "'", "\\", "ü'\\'", "", None)
    made = [
        make_simple_event(
            f"k{number}'\0",
            subject=texts[number % 6],
            external_subject=texts[number % 5],
            external_id=texts[number % 4],
            at=number // 2 * DAY,
            data='{"amount":1e400,"a":"\\u0000","text":"\'\\\\\0ü"}'.replace("\0", ""),
        )
        for number in range(60)
    ]
    moving.write_day(history, FIRST, received(made))
    view = MovedEvents(history, FIRST - 1, FIRST)
    plain = [(one.id, one.subject, one.external_subject, one.data) for one in made]

    found = view.event("org_a", made[7].id)
    assert found is not None
    assert (found.seq, found.received_at) == (8, FIRST * DAY + 8)
    assert found.event.key == made[7].key
    assert view.event("org_b", made[7].id) is None
    everything = [one.event for one in view.before("org_a", EventFilter(), (2**60, 0))]
    assert [
        (one.id, one.subject, one.external_subject, one.data)
        for one in reversed(everything)
    ] == plain
    for where in (
        EventFilter(customers=frozenset({"a\0b", ""})),
        EventFilter(customers=frozenset()),
        EventFilter(types=frozenset({"cost.ai"}), start=5 * DAY, end=9 * DAY),
        EventFilter(key=made[3].key),
        EventFilter(external_id="\\"),
        EventFilter(external_subject="'"),
    ):
        matches = event_matcher(where)
        wanted = [one.id for one in reversed(made) if matches(one)]
        pages = view.before("org_a", where, (2**60, 0))
        assert [one.event.id for one in pages] == wanted
        assert view.count("org_a", where) == len(wanted)
    assert view.time_range("org_a", "cost.ai") == (0, 29 * DAY)
    assert view.types("org_a", 0, DAY) == {"cost.ai": 2}
    assert MovedEvents(history, FIRST, FIRST).count("org_a", EventFilter()) == 0


def test_a_killed_clickhouse_loses_no_day() -> None:
    """While it is down, a sentence says so. After its restart, a day is whole."""
    server = ClickHouseServer()
    server.start()
    try:
        history = Connection(f"clickhouse://127.0.0.1:{server.port}/outlay")
        migrate(history)
        made = [make_event(n, ("1", n, "", "", "", "")) for n in range(2000)]

        def killing() -> Iterator[MovedEvent]:
            for one in received(made):
                yield one
                if one.seq == 1500:
                    server.kill()

        moving.write_day(history, FIRST, received(made[:5]))
        with pytest.raises(HistoryUnavailableError, match="does not respond"):
            moving.write_day(history, FIRST + 1, killing())
        with pytest.raises(HistoryUnavailableError, match="recent days are answered"):
            MovedEvents(history, 0, FIRST).count("org_a", EventFilter())
        server.restart()
        total = sum(range(1, 2001))
        moving.check_day(history, FIRST, 5, 15)
        with pytest.raises(DayDiffersError):
            moving.check_day(history, FIRST + 1, 2000, total)
        assert moving.write_day(history, FIRST + 1, received(made)) == 2000
        server.kill()
        server.restart()
        moving.check_day(history, FIRST + 1, 2000, total)
        history.close()
    finally:
        server.remove()


def test_a_database_that_cannot_be_used_is_refused() -> None:
    """Each with what to do."""
    shared_server()
    for url, message in (
        ("http://localhost/outlay", "must be a URL such as clickhouse://"),
        ("clickhouse://localhost/a-b", "no name of a database"),
    ):
        with pytest.raises(DatabaseError, match=message):
            Connection(url)
    with database() as connection:
        connection.insert("outlay_schema", ["version"], [[SCHEMA_VERSION + 1]])
        with pytest.raises(NewerDatabaseError, match="upgrade outlay"):
            migrate(connection)
    other = Connection(new_database_url())
    other.command(f"CREATE DATABASE {other.database}")
    other.command(
        f"CREATE TABLE {other.database}.x (a Int8) ENGINE = MergeTree ORDER BY a"
    )
    with pytest.raises(DatabaseError, match="tables of another program"):
        migrate(other)
    other.close()
    with pytest.raises(HistoryUnavailableError, match="check that it runs"):
        migrate(Connection("clickhouse://user:secret@127.0.0.1:1/outlay"))


def test_two_servers_may_migrate_at_the_same_time(history: Connection) -> None:
    """Each step can be repeated."""
    migrate(history)
    again = Connection(f"clickhouse://{str(history).partition('://')[2]}")
    migrate(again)
    again.close()
