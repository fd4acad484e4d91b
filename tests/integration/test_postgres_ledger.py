"""Many servers on one ledger: each key counts once, whatever is killed meanwhile."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import psycopg
import pytest

from outlay._cli.main import main
from outlay.server import BackgroundServer, ServerSettings
from outlay.server._errors import (
    DatabaseError,
    NewerDatabaseError,
    StoreUnavailableError,
)
from outlay.server._records import CorrectionKind
from outlay.server._services.corrections import Order, decide
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.postgres.connecting import connect
from outlay.server._storage.postgres.partitions import existing_days
from outlay.server._storage.postgres.schema import MIGRATIONS, open_ledger
from outlay.server._storage.postgres.store import PostgresStore
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._storage.store_copy import copy_store
from tests.support.filled import DAY, fill
from tests.support.ledger_writer import URL_VARIABLE
from tests.support.postgres_server import PostgresServer, drop_database, new_database
from tests.support.stores import (
    DEDUPE_WINDOW,
    START,
    compiled,
    finish_background_work,
    make_cost,
    make_event,
    make_key,
    quantity,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from outlay.server._records import Correction
    from outlay.server._storage.correction_store import Decision, EventHistory

_ROOT: Final = Path(__file__).parents[2]
_KEY: Final = "sk_test_0123456789abcdef"
COST: Final = make_cost()


@pytest.fixture
def url() -> Iterator[str]:
    """Return the URL of an empty database."""
    url = new_database()
    yield url
    drop_database(url)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Return a PostgreSQL that the test may kill."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


def opened(url: str) -> PostgresStore:
    """Open the ledger, as one server does."""
    return PostgresStore(url, dedupe_window=DEDUPE_WINDOW)


def start_writer(url: str, name: str, prefix: str, count: int) -> subprocess.Popen[str]:
    """Start a process that stores events."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.ledger_writer", name, prefix, str(count)],
        cwd=_ROOT,
        env={**os.environ, URL_VARIABLE: url},
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged(writer: subprocess.Popen[str]) -> dict[str, str]:
    """Return the first id of each acknowledged key, when the process has ended.

    `wait_for_begin` was called before.
    """
    output, _ = writer.communicate(timeout=100)
    lines = output.splitlines() if output.endswith("\n") else output.splitlines()[:-1]
    return dict(line.split() for line in lines)


def stored_ids(store: PostgresStore) -> list[str]:
    """Return the ids of all events."""
    with store.reading() as reader:
        page = reader.events("org_a", EventFilter(), 1000, None)
        events = [*page.events]
        while page.cursor is not None:
            page = reader.events("org_a", EventFilter(), 1000, page.cursor)
            events += page.events
    return [one.event.id for one in events]


def wait_for_begin(writers: Iterable[subprocess.Popen[str]]) -> None:
    """Wait until each process has stored a batch."""
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()


def assert_holds(url: str, reported: Iterable[Mapping[str, str]], count: int) -> None:
    """Check that a ledger has each key once, with the id that was acknowledged."""
    merged: dict[str, str] = {}
    for each in reported:
        for key, first in each.items():
            assert merged.setdefault(key, first) == first
    with closing(opened(url)) as store:
        ids = stored_ids(store)
        assert len(ids) == count
        assert {*merged.values()} <= {*ids}
        assert quantity(store, COST) == count
        finish_background_work(store)
        assert quantity(store, COST) == count


def with_cost(url: str) -> str:
    """Create the metric in a ledger, and return its URL."""
    with closing(opened(url)) as store:
        store.add_cost(COST)
    return url


@pytest.mark.slow
def test_four_writers_of_the_same_keys_are_told_the_same_first_event(
    server: PostgresServer,
) -> None:
    """Clients may send an event to several servers, while parts are killed."""
    url = with_cost(server.create_database())
    writers = [start_writer(url, f"w{n}", "k", 400) for n in range(4)]
    wait_for_begin(writers)
    writers[0].kill()
    server.kill()
    server.restart()

    assert_holds(url, [acknowledged(writer) for writer in writers], 400)


@pytest.mark.slow
def test_nothing_is_lost_when_the_standby_is_promoted(server: PostgresServer) -> None:
    """A commit waits for the synchronous standby, so that it has all of them."""
    url = with_cost(server.create_database())
    standby = PostgresServer(primary=server)
    try:
        standby.start()
        with pytest.raises(DatabaseError, match="name the primary"):
            opened(standby.url_of(url.rpartition("/")[2]))
        with psycopg.connect(server.url, autocommit=True) as primary:
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.execute("SELECT pg_reload_conf()")
        here, there = (f"127.0.0.1:{one.port}" for one in (server, standby))
        both = url.replace(here, f"{here},{there}")
        writers = [start_writer(both, f"w{n}", f"p{n}_", 300) for n in range(2)]
        wait_for_begin(writers)
        server.kill()
        with psycopg.connect(standby.url, autocommit=True) as promoted:
            promoted.execute("SELECT pg_promote()")

        assert_holds(both, [acknowledged(writer) for writer in writers], 600)
    finally:
        standby.remove()


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_writers_and_postgresql_are_killed(
    server: PostgresServer,
) -> None:
    """What was acknowledged is stored, and what was sent again is stored once."""
    url = with_cost(server.create_database())
    reported: list[dict[str, str]] = []
    for round_number in range(2):
        writers = [start_writer(url, f"w{n}", f"p{n}_", 300) for n in range(2)]
        wait_for_begin(writers)
        if round_number:
            server.kill()
            server.restart()
        else:
            writers[0].kill()
        reported += [acknowledged(writer) for writer in writers]

    assert_holds(url, reported, 600)


def test_what_one_server_learns_another_knows_at_once(url: str) -> None:
    """A new metric must not make the next server refuse its events."""
    one, other = opened(url), opened(url)
    assert not other.has_metric_for("org_a", "cost.ai")

    one.add_cost(COST)
    other.append([make_event("a")], START)

    assert other.has_metric_for("org_a", "cost.ai")
    assert quantity(one, COST) == 1
    one.delete_cost("org_a", COST.id, START)
    second = make_cost("cst_2")
    one.add_cost(second)
    other.append([make_event("b")], START)
    assert quantity(one, second) == 2
    one.close()
    other.close()


def _wait_for_a_lock(url: str, step: Future[None]) -> None:
    """Wait until a step of a server waits for another one's lock, or ends."""
    deadline = time.monotonic() + 60
    waiting = 0
    with closing(connect(url)) as connection:
        while not waiting and not step.done():
            assert time.monotonic() < deadline
            (waiting, _) = connection.execute(
                "SELECT count(*), pg_sleep(0.01) FROM pg_locks WHERE NOT granted"
                " AND locktype = 'advisory' AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchone()


def test_a_correction_under_way_gets_the_pseudonym(url: str) -> None:
    """It read its event before another server renamed it, and is stored afterwards."""
    is_read, may_store = threading.Event(), threading.Event()
    order = Order(CorrectionKind.VOID, "test", None, "finance", START)

    def decide_late(history: EventHistory) -> Decision | Correction | None:
        is_read.set()
        assert may_store.wait(60)
        return decide(order, history)

    with (
        closing(opened(url)) as correcting,
        closing(opened(url)) as erasing,
        ThreadPoolExecutor() as pool,
    ):
        correcting.add_cost(COST)
        correcting.append([make_event("k1", subject="cus_1")], START)
        finish_background_work(correcting)
        erasing.begin_erasure("org_a", "cus_1", "erased_1", START)
        corrected = pool.submit(
            correcting.correct, "org_a", ["evt_k1"], decide_late, START
        )
        assert is_read.wait(60)
        erased = pool.submit(finish_background_work, erasing)
        try:
            _wait_for_a_lock(url, erased)
        finally:
            may_store.set()
        corrected.result(60)
        erased.result(60)
        finish_background_work(erasing)
        with erasing.reading() as reader:
            assert reader.erasures("org_a") == []
            found = reader.contributions(
                compiled(COST), START, START + 1, names=["customer"]
            )
            assert {one.customer for one in found} == {"erased_1"}


def test_a_revoked_key_is_noticed_by_the_other_server(url: str) -> None:
    """Its cache of keys ends with the version, within a second."""
    one, other = opened(url), opened(url)
    one.add_key(make_key(1))
    other.note_key_uses([], START)  # it is connected
    before = other.version()
    one.revoke_key("key_1", START)

    deadline = 200
    while other.version() == before and deadline:
        deadline -= 1
        other._watcher.check()
    assert other.version() != before
    one.close()
    other.close()


def test_a_dead_database_is_a_clear_error_and_comes_back(
    server: PostgresServer,
) -> None:
    """Clients keep their events, and the server needs no restart."""
    url = server.create_database()
    store = opened(url)
    store.add_cost(COST)
    store.append([make_event("a")], START)
    server.kill()

    with pytest.raises(StoreUnavailableError, match="send it again"):
        store.append([make_event("b")], START)
    with pytest.raises(StoreUnavailableError, match="check that PostgreSQL runs"):
        quantity(store, COST)
    with pytest.raises(StoreUnavailableError):
        store.has_metric_for("org_a", "cost.unknown")
    server.restart()

    store.append([make_event("a"), make_event("b")], START)
    assert quantity(store, COST) == 2
    store.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda url: url.replace("not-secret", "wrong"), "check the user and the pass"),
        (lambda url: url + "_none", "check the names of the database and the user"),
        (lambda url: url + "?sslmode=require", "use sslmode=disable"),
        (lambda url: url.replace("127.0.0.1", "127.0.0.1:1/x?a="), "correct the URL"),
        (lambda url: url + "?port=1", "Connection refused.; check that PostgreSQL"),
        (lambda url: url + "?host=no.invalid", "check the host in the URL"),
    ],
    ids=["password", "database", "tls", "url", "port", "host"],
)
def test_a_wrong_url_is_a_sentence_without_the_password(
    url: str, change: object, message: str
) -> None:
    """A person must learn what to correct, and a log must not learn the password."""
    assert callable(change)
    with pytest.raises(DatabaseError, match=message) as refused:
        opened(change(url))

    assert "not-secret" not in str(refused.value)
    assert "wrong" not in str(refused.value)


def test_a_database_of_another_program_is_left_alone(url: str) -> None:
    """Its tables must not get company."""
    with_tables = connect(url)
    with_tables.execute("CREATE TABLE orders (id int)")

    with pytest.raises(DatabaseError, match="tables of another program"):
        opened(url)
    with_tables.execute("DROP TABLE orders")
    opened(url).close()
    with_tables.execute("UPDATE outlay_state SET schema_version = 999")
    with pytest.raises(NewerDatabaseError, match="upgrade outlay"):
        opened(url)
    with_tables.close()


def test_each_step_of_an_update_is_logged(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An update of large tables takes minutes, in which the server is silent."""
    caplog.set_level(logging.INFO, "outlay.server")
    later = "CREATE TABLE later (id int);", "ALTER TABLE later ADD COLUMN note text;"
    opened(url).close()
    for _ in range(2):
        with closing(open_ledger(url, (*MIGRATIONS, *later))[0]):
            pass

    steps = [each for each in caplog.messages if "updating the database" in each]
    assert steps == [f"updating the database: step {number} of 2" for number in (1, 2)]
    with pytest.raises(NewerDatabaseError, match="upgrade outlay"):
        opened(url)


def test_a_new_database_is_no_update(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its log would begin with a long list of steps."""
    caplog.set_level(logging.INFO, "outlay.server")
    opened(url).close()

    assert [each for each in caplog.messages if "updating" in each] == []


_ADD_COLUMNS: Final = """
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')
            AND NOT relispartition AND relnamespace = 'public'::regnamespace
            ORDER BY relname DESC
        LOOP
            EXECUTE format('ALTER TABLE %I ADD later int NOT NULL DEFAULT 1', name);
        END LOOP;
    END $$;
"""
"""Everything that a later version may do to tables of this one, to each of them."""


def test_an_older_server_goes_on_after_an_update(url: str, tmp_path: Path) -> None:
    """The first new server of a rolling upgrade migrates, and the old ones go on."""
    older = opened(url)
    older.append([make_event("before")], START)
    open_ledger(url, (*MIGRATIONS, _ADD_COLUMNS))[0].close()
    fill(older)
    finish_background_work(older)

    with (
        closing(older),
        closing(SqliteStore(tmp_path / "copy.db", dedupe_window=DEDUPE_WINDOW)) as copy,
    ):
        result = copy_store(older, copy, START + 4 * DAY, lambda *_: None)
    assert result.events == 122
    assert all(result.records.values()), result.records


def test_an_update_is_tried_again_after_a_deadlock(url: str) -> None:
    """An append may wait for a table of the update, and the update for one of it."""
    opened(url).close()
    with closing(connect(url)) as append, ThreadPoolExecutor() as pool:
        append.execute("SET deadlock_timeout = '1h'")  # the update notices it
        append.execute("BEGIN")
        append.execute("LOCK TABLE costs IN ROW EXCLUSIVE MODE")
        updated = pool.submit(open_ledger, url, (*MIGRATIONS, _ADD_COLUMNS))
        while not _is_locked(url, "events"):
            assert not updated.done()
        append.execute("LOCK TABLE events IN ROW EXCLUSIVE MODE")
        append.execute("COMMIT")
        updated.result()[0].close()


def _is_locked(url: str, table: str) -> bool:
    """Return whether a transaction has a table for itself alone."""
    with closing(connect(url)) as ledger:
        (is_locked,) = ledger.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE granted"
            " AND relation = ?::regclass AND mode = 'AccessExclusiveLock')",
            (table,),
        ).fetchone()
    return bool(is_locked)


def test_texts_with_any_character_come_back(url: str) -> None:
    """PostgreSQL's texts cannot hold U+0000, and COPY has characters of its own."""
    store = opened(url)
    cost = make_cost(group_by={"provider": "$.provider"})
    store.add_cost(cost)
    odd = 'a\0b\x1ac\x1a0\\N\t\n\r"{},'
    store.append(
        [
            make_event(
                odd,
                id="evt_odd",
                subject=odd,
                source=odd,
                data='{"amount":1,"provider":"a\\u0000b\\u001a\\\\"}',
            )
        ],
        START,
    )
    finish_background_work(store)
    [again] = store.append([make_event(odd, subject=odd)], START + 1)

    assert again.duplicate
    assert (again.event.key, again.event.subject, again.event.source) == (odd,) * 3
    with store.reading() as reader:
        [one] = reader.contributions(
            compiled(cost), START, START + 3_600_000_000, names=("provider",)
        )
    assert one.dimensions == ("a\0b\x1a\\",)
    store.close()


def serving(url: str) -> BackgroundServer:
    """Return a server on the ledger, which a block starts and stops."""
    return BackgroundServer(ServerSettings(port=0, store=url, api_key=_KEY))


def test_two_servers_take_the_events_of_one_client(server: PostgresServer) -> None:
    """Either may be restarted, and a client may send each event to both."""
    url = server.create_database()
    client = httpx.Client(headers={"authorization": f"Bearer {_KEY}"}, timeout=30)
    with client, serving(url) as one, serving(url) as other:
        metric = {
            "name": "AI",
            "type": "metered",
            "eventType": "cost.ai",
            "aggregation": "SUM",
            "valueProperty": "$.amount",
            "unitCost": 1,
            "currency": "USD",
            "productId": "prod_1",
        }
        cost = client.post(f"{one.url}/v0/costs", json=metric)
        assert cost.status_code == 201, cost.text
        event = {
            "idempotencyKey": "k",
            "type": "cost.ai",
            "source": "tests",
            "subject": "cus_1",
            "data": {"amount": 2},
        }
        for place in (one, other, one):
            accepted = client.post(f"{place.url}/v0/events", json=event)
            assert accepted.status_code == 202, accepted.text
        summary = client.get(
            f"{other.url}/v0/costs/{cost.json()['id']}/summary",
            params={"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"},
        )
        assert summary.json()["totalQuantity"] == 2, summary.text
        metrics = client.get(f"{one.url}/metrics").text
        assert 'outlay_store_info{engine="PostgreSQL"} 1' in metrics
        assert client.get(f"{one.url}/readyz").json()["store"] == "PostgreSQL"

        server.kill()
        ready = client.get(f"{one.url}/readyz")
        alive = client.get(f"{one.url}/healthz")
        refused = client.post(f"{other.url}/v0/events", json=event)
        assert client.get(f"{one.url}/metrics").status_code == 200
        server.restart()
        again = client.post(f"{other.url}/v0/events", json=event)

    assert ready.status_code == 503
    assert alive.status_code == 200  # a restart would not help
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert "send it again" in refused.json()["message"]
    assert again.status_code == 202


def test_a_browser_may_ask_any_server_of_one_secret(url: str) -> None:
    """So a balancer needs no sticky sessions. A sign-out counts everywhere."""

    def server(secret: str) -> BackgroundServer:
        return BackgroundServer(
            ServerSettings(port=0, store=url, api_key=_KEY, session_secret=secret)
        )

    secret = "0123456789abcdef" * 2
    with (
        httpx.Client(trust_env=False, timeout=30) as browser,
        server(secret) as one,
        server(secret) as other,
        server(secret[::-1]) as stranger,
    ):
        signed_in = browser.post(f"{one.url}/sign-in", data={"key": _KEY})
        assert signed_in.status_code == 303
        cookie = {"cookie": f"outlay_session={signed_in.cookies['outlay_session']}"}
        browser.cookies.clear()
        assert browser.get(other.url, headers=cookie).status_code == 200
        assert browser.get(stranger.url, headers=cookie).status_code == 303
        page = browser.get(f"{one.url}/cost-metrics?new=", headers=cookie).text
        found = re.search(r'name="csrf" value="(\w+)"', page)
        assert found is not None
        form = {"csrf": found[1]}
        out = browser.post(f"{other.url}/sign-out", data=form, headers=cookie)
        assert out.status_code == 303
        assert browser.get(other.url, headers=cookie).status_code == 303
        deadline = time.monotonic() + 30
        while browser.get(one.url, headers=cookie).status_code != 303:
            assert time.monotonic() < deadline


def test_the_table_of_a_deleted_day_is_dropped(url: str) -> None:
    """Else retention would keep the disk small, and each read would lock more."""
    first, last = START // DEDUPE_WINDOW, START // DEDUPE_WINDOW + 20
    with closing(opened(with_cost(url))) as store:
        store.set_retention("org_a", 10 * DEDUPE_WINDOW)
        for day in range(first, last + 1, 5):
            now = day * DEDUPE_WINDOW
            store.append([make_event(f"k{day}", at=now)], now)
            finish_background_work(store, now)
        end = (last + 5) * DEDUPE_WINDOW
        finish_background_work(store, end)
        with closing(connect(url)) as other:
            assert existing_days(other) == {last - 5, last}
        assert not store.append([make_event("again")], START)[0].duplicate
        assert quantity(store, COST, START - DEDUPE_WINDOW, end) == 6


def test_totals_lock_few_tables_however_old_the_ledger_is(url: str) -> None:
    """PostgreSQL has a limit of locks, which a few readers could use up."""
    with closing(opened(with_cost(url))) as store:
        for day in range(30):
            store.append([make_event(f"k{day}")], START + day * DEDUPE_WINDOW)
        finish_background_work(store, START + 31 * DEDUPE_WINDOW)
        assert quantity(store, COST) == 30
        with store.reading() as reader:
            end = START + 40 * DEDUPE_WINDOW
            assert [*reader.contributions(compiled(COST), START, end)]
            with closing(connect(url)) as other:
                (locks,) = other.execute(
                    "SELECT max(n) FROM (SELECT count(*) AS n FROM pg_locks"
                    " WHERE database = (SELECT oid FROM pg_database"
                    " WHERE datname = current_database()) GROUP BY pid) l"
                ).fetchone()
    assert locks < 30


def test_a_password_is_no_argument_of_serve(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Other users of the machine can read the arguments of a program."""
    with pytest.raises(SystemExit):
        main(["serve", "--store", "postgresql://outlay:hidden@localhost/outlay"])

    shown = capsys.readouterr().err
    assert "OUTLAY_SERVER_STORE" in shown
    assert "hidden" not in shown
