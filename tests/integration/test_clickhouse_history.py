"""Whole days in ClickHouse: exact, once, and repeatable after a kill at any step."""

from __future__ import annotations

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from outlay.server._errors import (
    DatabaseError,
    NewerDatabaseError,
    QueryStoppedError,
)
from outlay.server._records import MICROSECONDS_PER_HOUR
from outlay.server._storage.clickhouse import days
from outlay.server._storage.clickhouse.connection import (
    Connection,
    HistoryUnavailableError,
)
from outlay.server._storage.clickhouse.days import (
    Contents,
    DayDiffersError,
    MovedEvent,
)
from outlay.server._storage.clickhouse.event_rows import MovedEvents
from outlay.server._storage.clickhouse.schema import SCHEMA_VERSION, migrate
from outlay.server._storage.event_filter import event_matcher
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.postgres.history import Place
from outlay.server._storage.query_limit import QueryLimit
from outlay.transport import TransportResponse
from tests.support.clickhouse_server import (
    ClickHouseServer,
    new_database_url,
    shared_server,
)
from tests.support.questions import make_event
from tests.support.servers import ScriptedServer
from tests.support.stores import make_event as make_simple_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from outlay.server._records import Event

ROOT: Final = Path(__file__).parents[2]
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


def test_a_day_that_is_written_again_counts_once(history: Connection) -> None:
    """A mover that was killed begins again. What it left must not count."""
    made = [make_event(n, ("1.5", n, "ann", "x", "eu", "")) for n in range(10)]
    days.write_day(history, FIRST, received(made[:7]))
    written = days.write_day(history, FIRST, received(made))

    assert written == Contents(10, 55)
    assert days.contents(history, FIRST, after=3, upto=8) == Contents(5, 30)
    rest = received(made[:4], 7)
    assert days.write_day(history, FIRST, rest, after=6) == Contents(4, 34)
    assert days.contents(history, FIRST) == Contents(10, 55)
    everything = MovedEvents(history, Place(FIRST + 1, 0))
    assert everything.count("org_a", EventFilter()) == 10
    assert MovedEvents(history, Place(FIRST, 4)).count("org_a", EventFilter()) == 4


def test_a_day_that_lost_an_event_is_found(history: Connection) -> None:
    """The ledger must not forget a day that ClickHouse has only in part."""
    made = received([make_event(n, ("1", n, "", "", "", "")) for n in range(5)])
    days.write_day(history, FIRST, made)
    total = sum(one.seq for one in made)
    days.check_day(history, FIRST, Contents(5, total))
    history.command(
        f"DELETE FROM {history.database}.events WHERE seq = 3"  # noqa: S608 - a test's
    )
    with pytest.raises(DayDiffersError, match=r"has 4 events .* the ledger has 5"):
        days.check_day(history, FIRST, Contents(5, total))
    with pytest.raises(DayDiffersError):
        days.write_day(history, FIRST, [*made, made[-1]])


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
    days.write_day(history, FIRST, received(made))
    view = MovedEvents(history, Place(FIRST + 1, 0))
    plain = [(one.id, one.subject, one.external_subject, one.data) for one in made]

    [found] = view.events("org_a", [made[7].id, "evt_none"])
    assert found is not None
    assert (found.seq, found.received_at) == (8, FIRST * DAY + 8)
    assert found.event.key == made[7].key
    assert view.events("org_b", [made[7].id]) == []
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
    assert view.types("org_a", ["cost.ai"], 0, DAY) == {"cost.ai": 2}


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

        days.write_day(history, FIRST, received(made[:5]))
        with pytest.raises(HistoryUnavailableError, match="does not respond"):
            days.write_day(history, FIRST + 1, killing())
        with pytest.raises(HistoryUnavailableError, match="recent days are answered"):
            MovedEvents(history, Place(FIRST, 9)).count("org_a", EventFilter())
        server.restart()
        total = sum(range(1, 2001))
        days.check_day(history, FIRST, Contents(5, 15))
        with pytest.raises(DayDiffersError):
            days.check_day(history, FIRST + 1, Contents(2000, total))
        assert days.write_day(history, FIRST + 1, received(made)).events == 2000
        server.kill()
        server.restart()
        days.check_day(history, FIRST + 1, Contents(2000, total))
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


@pytest.mark.parametrize(
    ("status", "code", "name", "remedy"),
    [
        (403, 516, "AUTHENTICATION_FAILED", "refuses the user 'ann'; check the name, "),
        (404, 192, "UNKNOWN_USER", "refuses the user 'ann'"),
        (403, 497, "ACCESS_DENIED", "grant it ALL on the database"),
        (500, 243, "NOT_ENOUGH_SPACE", "has a full disk; days stay in PostgreSQL"),
        (500, 60, "UNKNOWN_TABLE", "failed: .*UNKNOWN_TABLE"),
    ],
)
def test_an_error_of_clickhouse_is_a_sentence_without_the_password(
    status: int, code: int, name: str, remedy: str
) -> None:
    """A stand-in sends what ClickHouse 26.9 does. chDB has no users."""
    body = f"Code: {code}. DB::Exception: It is refused. ({name})".encode()
    headers = {"X-ClickHouse-Exception-Code": str(code)}

    with ScriptedServer(lambda _: TransportResponse(status, headers, body)) as server:
        url = server.url.replace("http://", "clickhouse://ann:sec-ret@") + "/outlay"
        with (
            closing(Connection(url)) as connection,
            pytest.raises(HistoryUnavailableError, match=remedy) as refused,
        ):
            connection.command("SELECT 1")

    assert "sec-ret" not in str(refused.value)


@pytest.mark.parametrize(
    "password", ["sec/ret", "sec#ret", "sec?ret", "77/ret", "77#ret", "77?ret"]
)
def test_a_malformed_url_shows_no_part_of_its_password(password: str) -> None:
    """A character that ends the host moves a part into the port or the name."""
    with pytest.raises(DatabaseError, match="%23") as refused:
        Connection(f"clickhouse://user:{password}@host/outlay")
    assert not re.search("sec|ret|77", str(refused.value))
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_a_silent_clickhouse_is_given_up() -> None:
    """It takes connections, and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"clickhouse://127.0.0.1:{silent.getsockname()[1]}/outlay"
        with (
            closing(Connection(url, response_seconds=1)) as connection,
            pytest.raises(HistoryUnavailableError, match="does not respond"),
        ):
            connection.rows("SELECT 1")


def test_a_silent_clickhouse_holds_up_no_query_longer_than_its_limit() -> None:
    """The threads of quick queries have recent days to read as well."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"clickhouse://127.0.0.1:{silent.getsockname()[1]}/outlay"
        with closing(Connection(url)) as connection:
            for _ in range(2):
                limit = QueryLimit(0.1)
                limit.begin()
                with pytest.raises(QueryStoppedError):
                    connection.rows("SELECT 1", limit)
            # No query waits for it again so soon, also not with more time.
            with pytest.raises(HistoryUnavailableError, match="does not respond"):
                connection.rows("SELECT 1", QueryLimit(60))


def test_no_thread_waits_for_the_connection_of_another() -> None:
    """Each connects by itself."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        ThreadPoolExecutor(2) as pool,
    ):
        silent.settimeout(4)  # less than a thread waits for its first response
        url = f"clickhouse://127.0.0.1:{silent.getsockname()[1]}/outlay"
        with closing(Connection(url)) as connection:
            asked = [pool.submit(connection.rows, "SELECT 1") for _ in range(2)]
            with silent.accept()[0], silent.accept()[0]:
                assert not any(one.done() for one in asked)
            silent.close()
            for one in asked:
                with pytest.raises(HistoryUnavailableError, match="does not respond"):
                    one.result(60)


def test_two_servers_may_migrate_at_the_same_time(history: Connection) -> None:
    """Each step can be repeated."""
    migrate(history)
    again = Connection(f"clickhouse://{str(history).partition('://')[2]}")
    migrate(again)
    again.close()


def statements_of(name: str) -> list[str]:
    """Return the statements of a file that the pages offer."""
    text = (ROOT / "docs" / "how-to" / name).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [one.strip() for one in "\n".join(lines).split(";") if one.strip()]


def columns_of(connection: Connection) -> list[object]:
    """Return all columns of a database, and the order of the tables."""
    where = f"WHERE database = '{connection.database}'"
    return [
        *connection.rows(
            "SELECT table, name, type, default_expression, compression_codec"  # noqa: S608 - a test's
            f" FROM system.columns {where} ORDER BY table, name"
        ),
        *connection.rows(
            "SELECT name, partition_key, sorting_key FROM system.tables"  # noqa: S608 - a test's
            f" {where} ORDER BY name"
        ),
    ]


def test_the_offered_replicated_tables_are_those_of_this_version(
    history: Connection,
) -> None:
    """This engine has no Keeper, so that the tables are made without replicas."""
    other = Connection(new_database_url())
    for statement in statements_of("clickhouse-replicated.sql"):
        history.command(f"EXPLAIN AST {statement}")
        if "PROFILE" not in statement:
            plain = re.sub(r"Replicated(MergeTree)\([^)]*\)", r"\1", statement)
            plain = plain.replace(" ON CLUSTER outlay", "")
            other.command(re.sub(r"\boutlay\b(?!_)", other.database, plain))
    try:
        assert columns_of(other) == columns_of(history)
        migrate(other)  # it finds its own version
    finally:
        other.command(f"DROP DATABASE {other.database}")
        other.close()


def test_statements_about_sharded_days_are_understood(history: Connection) -> None:
    """ClickHouse parses them. Only a real cluster can execute them."""
    replicated = statements_of("clickhouse-replicated.sql")
    columns = {
        one[one.index("day Int32") :] for one in replicated if "day Int32" in one
    }
    for statement in statements_of("clickhouse-sharded.sql"):
        history.command(f"EXPLAIN AST {statement}")
        if "day Int32" in statement:
            table = statement[statement.index("day Int32") :].partition("ENGINE")[0]
            assert {one.partition("ENGINE")[0] for one in columns} == {table}
    with pytest.raises(DatabaseError, match="no name of a cluster"):
        Connection("clickhouse://localhost/outlay?cluster=a-b")
    sharded = Connection("clickhouse://localhost/outlay?cluster=shards")
    for statement in (
        f"ALTER TABLE {sharded.local('events')} DROP PARTITION 20000",
        f"DELETE FROM {sharded.local('events')} WHERE day = 20000 AND seq > 5",  # noqa: S608 - a test's
        sharded.replace_partition("events", 20_000, "rewritten"),
    ):
        assert "_local ON CLUSTER shards " in statement
        history.command(f"EXPLAIN AST {statement}")
