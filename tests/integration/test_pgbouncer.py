"""Servers that reach PostgreSQL through PgBouncer, in each of its modes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from outlay.server._errors import DatabaseError
from outlay.server._storage.postgres.store import PostgresStore
from tests.support.pgbouncer import PgBouncer, find_pgbouncer
from tests.support.postgres_server import PostgresServer
from tests.support.stores import DEDUPE_WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM: Final = find_pgbouncer()
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

pytestmark = pytest.mark.skipif(
    _PROGRAM is None, reason="needs PgBouncer: apt-get install pgbouncer"
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """Return a PostgreSQL of these tests."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


def pooler(postgres: PostgresServer, mode: str) -> PgBouncer:
    """Return a PgBouncer before it."""
    assert _PROGRAM is not None
    return PgBouncer(_PROGRAM, postgres.port, mode)


def event(key: str) -> dict[str, object]:
    """Return the body of an event."""
    return {
        "idempotencyKey": key,
        "type": "cost.ai",
        "source": "tests",
        "subject": "cus_1",
        "timestamp": "2026-11-03T12:00:00Z",
        "data": {"amount": 2},
    }


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_two_servers_share_a_ledger_through_a_pooler(
    postgres: PostgresServer, mode: str
) -> None:
    """They start at the same time, so that one makes the tables and the other waits."""
    database = postgres.create_database().rpartition("/")[2]
    with ExitStack() as stack:
        url = stack.enter_context(pooler(postgres, mode)).url_of(database)
        settings = ServerSettings(port=0, store=url, api_key=_KEY)
        servers = [BackgroundServer(settings), BackgroundServer(settings)]
        pool = stack.enter_context(ThreadPoolExecutor())
        for one in pool.map(BackgroundServer.start, servers):
            stack.callback(one.stop)
        client = stack.enter_context(
            httpx.Client(
                headers={"authorization": f"Bearer {_KEY}"}, timeout=60, trust_env=False
            )
        )
        first, second = (one.url for one in servers)
        created = client.post(f"{first}/v0/costs", json=_METRIC)
        assert created.status_code == 201, created.text

        def post(number: int) -> httpx.Response:
            place = (first, second)[number % 2]
            return client.post(f"{place}/v0/events", json=event(f"k{number // 4}"))

        # Each key twice to each server, at the same time.
        responses = [*pool.map(post, range(40))]
        assert {one.status_code for one in responses} == {202}
        assert len({one.json()["id"] for one in responses}) == 10
        for place in (first, second):
            summary = client.get(
                f"{place}/v0/costs/{created.json()['id']}/summary",
                params={"from": "2026-11-03T11:30:00Z", "to": "2026-11-03T12:30:00Z"},
            )
            assert summary.json()["totalQuantity"] == 20, summary.text


def test_a_pooler_of_statements_is_refused(postgres: PostgresServer) -> None:
    """An event, its key and its totals are stored together, or not at all."""
    database = postgres.create_database().rpartition("/")[2]
    with (
        pooler(postgres, "statement") as bouncer,
        pytest.raises(DatabaseError, match="pool_mode = transaction"),
    ):
        PostgresStore(bouncer.url_of(database), dedupe_window=DEDUPE_WINDOW)


def test_a_parameter_that_a_pooler_refuses_is_named(postgres: PostgresServer) -> None:
    """PgBouncer takes few of them."""
    database = postgres.create_database().rpartition("/")[2]
    with pooler(postgres, "transaction") as bouncer:
        url = f"{bouncer.url_of(database)}?options=-c%20search_path%3Dledger"
        with pytest.raises(DatabaseError, match=r"options\); leave .* of the URL"):
            PostgresStore(url, dedupe_window=DEDUPE_WINDOW)
