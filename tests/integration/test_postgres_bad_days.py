"""PostgreSQL on bad days: each is a sentence with what to do, and loses nothing."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import TYPE_CHECKING, Final
from uuid import UUID

import httpx
import psycopg
import pytest
import trustme

from outlay.server import BackgroundServer, ServerSettings
from outlay.server._errors import DatabaseError, StoreUnavailableError
from outlay.server._storage.postgres.connecting import connect
from outlay.server._storage.postgres.receipts import key_hash
from outlay.server._storage.postgres.schema import check_version
from outlay.server._storage.postgres.store import PostgresStore
from tests.support.clock import ManualClock
from tests.support.cutting_proxy import CuttingProxy, Moment
from tests.support.disks import may_mount, small_disk
from tests.support.postgres_server import (
    PASSWORD,
    PostgresServer,
    drop_database,
    new_database,
)
from tests.support.stores import (
    DEDUPE_WINDOW,
    START,
    finish_background_work,
    make_cost,
    make_event,
    quantity,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COST: Final = make_cost()
_KEY: Final = "sk_test_0123456789abcdef"
_METRIC: Final = {
    "name": "AI",
    "type": "metered",
    "eventType": "cost.ai",
    "aggregation": "SUM",
    "valueProperty": "$.amount",
    "unitCost": 1,
    "currency": "USD",
    "productId": "prod_1",
}


@pytest.fixture
def url() -> Iterator[str]:
    """Return the URL of an empty database."""
    url = new_database()
    yield url
    drop_database(url)


@contextmanager
def running(*settings: str) -> Iterator[PostgresServer]:
    """Run a PostgreSQL of the test's own."""
    server = PostgresServer(*settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def opened(url: str, *, follows_clock: bool = False) -> PostgresStore:
    """Open the ledger, as one server does."""
    return PostgresStore(url, dedupe_window=DEDUPE_WINDOW, follows_clock=follows_clock)


def execute(url: str, statement: str) -> None:
    """Execute a statement as an administrator."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it takes too long"
        threading.Event().wait(0.02)


# -- what a server finds at its start


def test_a_version_that_is_too_old_is_refused() -> None:
    """The number is ``server_version_num``: 140012 is PostgreSQL 14.12."""
    with pytest.raises(DatabaseError, match=r"^x is PostgreSQL 14; .* 15 or later"):
        check_version(140_012, "x")
    check_version(150_000, "x")


def test_a_read_only_database_is_refused(url: str) -> None:
    """A standby is one. The test of a promotion has a real one."""
    name = url.rpartition("/")[2]
    execute(url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with pytest.raises(DatabaseError, match="name the primary"):
        opened(url)


def test_a_limit_of_connections_is_a_sentence(url: str) -> None:
    """At the start, and later, when a query needs one more."""
    role = "few_" + url.rpartition("_")[2]
    execute(url, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 3")
    execute(url, f"GRANT ALL ON SCHEMA public TO {role}")
    limited = url.replace("//outlay:", f"//{role}:")
    try:
        with closing(opened(limited)) as store, store.reading():
            with (
                pytest.raises(StoreUnavailableError, match="raise the limit"),
                store.reading(),
            ):
                pass
            with pytest.raises(DatabaseError, match="raise the limit of the user"):
                opened(limited)
            assert len(store.append([make_event("a")], START)) == 1
    finally:
        execute(url, f"DROP OWNED BY {role}")
        execute(url, f"DROP ROLE {role}")


def test_a_user_without_rights_is_told_which(url: str) -> None:
    """Since PostgreSQL 15, a new user may create nothing in the schema public."""
    role = "poor_" + url.rpartition("_")[2]
    execute(url, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    try:
        with pytest.raises(DatabaseError, match="grant the user all rights"):
            opened(url.replace("//outlay:", f"//{role}:"))
    finally:
        execute(url, f"DROP ROLE {role}")


@pytest.mark.slow
def test_certificates_are_checked_as_the_url_says(tmp_path: Path) -> None:
    """A wrong authority, a wrong name, and TLS that a server asks for."""
    authority, other = trustme.CA(), trustme.CA()
    roots = {"right": tmp_path / "right.pem", "wrong": tmp_path / "wrong.pem"}
    authority.cert_pem.write_to_path(roots["right"])
    other.cert_pem.write_to_path(roots["wrong"])
    server = PostgresServer(
        "ssl=on", "ssl_cert_file=server.pem", "ssl_key_file=server.key"
    )
    certificate = authority.issue_cert("localhost")
    for name, blob in (
        ("server.pem", certificate.cert_chain_pems[0]),
        ("server.key", certificate.private_key_pem),
    ):
        path = server.data / name
        blob.write_to_path(path)
        owner = server.data.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o600)
    try:
        server.start()
        url = server.create_database()
        verified = f"{url}?sslmode=verify-full&sslrootcert="
        for wrong in (
            verified + str(roots["wrong"]),
            verified + str(roots["right"]),  # its name is localhost, not 127.0.0.1
        ):
            with pytest.raises(DatabaseError, match="check sslmode, sslrootcert"):
                opened(wrong)
        right = (verified + str(roots["right"])).replace("127.0.0.1", "localhost")
        opened(right + "&hostaddr=127.0.0.1").close()
        rules = server.data / "pg_hba.conf"
        rules.write_text("hostssl all all all scram-sha-256\n")
        execute(url, "SELECT pg_reload_conf()")
        with pytest.raises(DatabaseError, match="add sslmode=require"):
            opened(f"{url}?sslmode=disable")
    finally:
        server.remove()


# -- what happens while a server runs


def failing(
    url: str, sqlstate: str, times: int, *, table: str = "events", after: int = 0
) -> None:
    """Let PostgreSQL refuse insertions after the next ones, with a code."""
    execute(
        url,
        f"""
        CREATE SEQUENCE refusals;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        -- BETWEEN would evaluate nextval twice.
        DECLARE insertion bigint := nextval('refusals');
        BEGIN
            IF insertion BETWEEN {after + 1} AND {after + times} THEN
                RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON {table}
            FOR EACH ROW EXECUTE FUNCTION refuse();
        """,
    )


@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "55P03"])
def test_a_conflict_is_tried_again(url: str, sqlstate: str) -> None:
    """A deadlock, a serialization failure and a lock are no client's business."""
    with closing(opened(url)) as store:
        store.add_cost(COST)
        failing(url, sqlstate, times=2)
        [result] = store.append([make_event("a")], START)
        assert not result.duplicate
        assert quantity(store, COST) == 1


def test_corrections_that_are_tried_again_are_counted_once(url: str) -> None:
    """The second of three events meets a deadlock, so that all are decided again."""
    events = [
        {
            "idempotencyKey": key,
            "type": "cost.ai",
            "source": "tests",
            "subject": "cus_1",
            "data": {"amount": 1},
        }
        for key in ("a", "b", "c")
    ]
    order = {"kind": "void", "reason": "r", "idempotencyKey": "k", "types": ["cost.ai"]}
    with (
        BackgroundServer(ServerSettings(port=0, store=url, api_key=_KEY)) as server,
        httpx.Client(
            base_url=server.url,
            headers={"authorization": f"Bearer {_KEY}"},
            timeout=60,
            trust_env=False,
        ) as client,
    ):
        assert client.post("/v0/costs", json=_METRIC).status_code == 201
        for event in events:
            assert client.post("/v0/events", json=event).status_code == 202
        failing(url, "40P01", 1, table="corrections", after=1)
        done = client.post("/v0/corrections", json=order).json()
        again = client.post("/v0/corrections", json=order).json()

    assert (done["matched"], done["corrected"], done["unchanged"]) == (3, 3, 0)
    assert (again["matched"], again["corrected"], again["unchanged"]) == (3, 0, 3)


@pytest.mark.parametrize(
    ("sqlstate", "remedy"),
    [
        ("53100", "the disk of PostgreSQL is full; free some space"),
        ("53200", "PostgreSQL has too little memory"),
        ("40P01", "send it again"),  # again and again
    ],
)
def test_a_refused_write_is_a_sentence_and_stores_nothing(
    url: str, sqlstate: str, remedy: str
) -> None:
    """The key must be free, so that the client's next try counts."""
    with closing(opened(url)) as store:
        store.add_cost(COST)
        failing(url, sqlstate, times=5)
        events = [make_event("a"), make_event("b")]
        refusal = f"nothing of this request was accepted; .*{remedy}"
        for _ in range(1 if sqlstate == "40P01" else 5):
            with pytest.raises(StoreUnavailableError, match=refusal):
                store.append(events, START)
        assert not quantity(store, COST)
        assert not any(one.duplicate for one in store.append(events, START))
        assert quantity(store, COST) == 2


@pytest.mark.slow
def test_a_deadlock_with_another_program_is_tried_again(url: str) -> None:
    """A real one: each waits for a key that the other has inserted."""
    first, second = sorted(("a", "b"), key=lambda key: key_hash("org_a", key))
    results: list[bool] = []
    with (
        closing(opened(f"{url}?options=-c%20deadlock_timeout%3D3s")) as store,
        closing(connect(url, options="-c deadlock_timeout=1h")) as other,
    ):
        store.add_cost(COST)
        store.append([make_event("c")], START)

        def append() -> None:
            events = [make_event(first), make_event(second)]
            results.extend(one.duplicate for one in store.append(events, START))

        def insert(key: str) -> None:
            other.execute(
                "INSERT INTO receipts SELECT epoch, ?, 0, 0 FROM outlay_state",
                (UUID(key_hash("org_a", key)),),
            )

        other.execute("BEGIN")
        insert(second)
        appending = threading.Thread(target=append)
        appending.start()
        with psycopg.connect(url, autocommit=True) as watching:
            wait_until(
                lambda: (
                    watching.execute(
                        "SELECT count(*) FROM pg_stat_activity"
                        " WHERE datname = current_database()"
                        " AND wait_event = 'transactionid'"
                    ).fetchone()
                    == (1,)
                )
            )
        insert(first)  # waits until the store gives way
        other.execute("ROLLBACK")
        appending.join()
        assert results == [False, False]
        assert quantity(store, COST) == 3


@pytest.mark.parametrize("moment", Moment)
def test_the_key_decides_after_a_commit_of_unknown_outcome(
    url: str, moment: Moment
) -> None:
    """The connection breaks before the commit arrives, or before its response does."""
    with psycopg.connect(url) as connection:
        port = connection.info.port
    with CuttingProxy(port) as proxy:
        through = url.replace(f":{port}/", f":{proxy.port}/")
        with closing(opened(through)) as store:
            store.add_cost(COST)
            store.append([make_event("before")], START)
            proxy.cut_next_commit(moment)
            with pytest.raises(
                StoreUnavailableError,
                match="unknown whether this request was stored, and its key decides",
            ):
                store.append([make_event("a", id="evt_1")], START)

            [again] = store.append([make_event("a", id="evt_2")], START)
            assert again.duplicate is (moment is Moment.AFTER)
            assert again.event.id == ("evt_1" if again.duplicate else "evt_2")
            finish_background_work(store)
            assert quantity(store, COST) == 2


@contextmanager
def on_a_small_disk() -> Iterator[tuple[str, Path]]:
    """Return the URL of a database on a disk of 24 MB, and a file of 8 MB on it."""
    with running() as server, small_disk(server.folder / "small", "24m") as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(8 << 20))
        space = disk / "space"
        space.mkdir()
        owner = server.data.stat()
        for folder in (disk, space):
            os.chown(folder, owner.st_uid, owner.st_gid)
        execute(server.url, f"CREATE TABLESPACE small LOCATION '{space}'")
        url = server.create_database()
        name = url.rpartition("/")[2]
        execute(url, f'ALTER DATABASE "{name}" SET default_tablespace = small')
        yield url, filler
        drop_database(url)
        execute(server.url, "DROP TABLESPACE small")


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="only root may mount a small disk")
def test_a_full_disk_loses_nothing() -> None:
    """What was accepted stays, and events are taken when there is room again."""
    accepted = 0
    with on_a_small_disk() as (url, filler), closing(opened(url)) as store:

        def append() -> int:
            events = [
                make_event(key, data=f'{{"amount":1,"text":"{token_hex(1000)}"}}')
                for key in (token_hex() for _ in range(200))
            ]
            return sum(not one.duplicate for one in store.append(events, START))

        store.add_cost(COST)
        refusal = None
        while refusal is None:
            try:
                accepted += append()
            except StoreUnavailableError as error:
                refusal = str(error)
            assert accepted < 20_000
        assert "the disk of PostgreSQL is full; free some space" in refusal
        assert quantity(store, COST) == accepted > 0
        filler.unlink()
        accepted += append()
        assert quantity(store, COST) == accepted
        finish_background_work(store)
        assert quantity(store, COST) == accepted


@pytest.mark.slow
def test_all_connections_of_the_cluster_in_use_are_a_sentence() -> None:
    """Other programs may take all of them."""
    with running("max_connections=8", "superuser_reserved_connections=0") as server:
        url = server.create_database()
        with closing(opened(url)) as store:
            store.add_cost(COST)
            others: list[psycopg.Connection] = []
            with contextlib.suppress(psycopg.OperationalError):
                while len(others) < 8:
                    others.append(psycopg.connect(server.url))
            with pytest.raises(StoreUnavailableError, match="raise max_connections"):
                quantity(store, COST)
            with pytest.raises(DatabaseError, match="raise max_connections"):
                opened(url)
            for other in others:
                other.close()


# -- several servers


def serving(url: str, clock: ManualClock | None = None) -> BackgroundServer:
    """Return a server on the ledger, which a block starts and stops."""
    settings = ServerSettings(port=0, store=url, api_key=_KEY)
    return BackgroundServer(settings, clock=clock)


def test_the_clock_of_the_ledger_decides(url: str) -> None:
    """A server whose clock is days ahead must not take a key as free again."""
    now = datetime.now(UTC)
    skewed = ManualClock()
    skewed.step((now + timedelta(days=3)).timestamp() - skewed.now_ms() / 1000)
    event = {
        "idempotencyKey": "k",
        "type": "cost.ai",
        "source": "tests",
        "subject": "cus_1",
        "timestamp": now.isoformat(),
        "data": {"amount": 2},
    }
    client = httpx.Client(headers={"authorization": f"Bearer {_KEY}"}, timeout=30)
    with client, serving(url) as one, serving(url, skewed) as other:
        cost = client.post(f"{one.url}/v0/costs", json=_METRIC).json()
        for place in (one, other, one):
            assert client.post(f"{place.url}/v0/events", json=event).is_success
        skewed.step(-6 * 86_400)  # an administrator sets it, in the wrong direction
        later = {**event, "idempotencyKey": "k2"}
        for place in (other, one):
            assert client.post(f"{place.url}/v0/events", json=later).is_success
        summary = client.get(
            f"{other.url}/v0/costs/{cost['id']}/summary",
            params={"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"},
        ).json()
        stored = client.get(f"{one.url}/v0/events").json()
    assert summary["totalQuantity"] == 4
    for one_event in stored["data"]:
        received_at = datetime.fromisoformat(one_event["receivedAt"])
        assert abs(received_at - now) < timedelta(minutes=10)


def test_a_revoked_key_is_refused_by_the_other_server(url: str) -> None:
    """An administrator talks to one server, and a thief to another."""
    client = httpx.Client(headers={"authorization": f"Bearer {_KEY}"}, timeout=30)
    with client, serving(url) as one, serving(url) as other:
        body = {"name": "reader", "permissions": ["costs:read"]}
        made = client.post(f"{one.url}/v0/apiKeys", json=body).json()
        thief = {"authorization": f"Bearer {made['key']}"}

        def status() -> int:
            return httpx.get(
                f"{other.url}/v0/costs", headers=thief, timeout=30
            ).status_code

        assert status() == 200
        revoked = client.delete(f"{one.url}/v0/apiKeys/{made['id']}")
        assert revoked.status_code == 204
        wait_until(lambda: status() == 401)
