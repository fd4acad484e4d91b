"""The server as a process: starting, refusing to start, stopping, being killed."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from starlette.middleware import Middleware

from outlay.server import (
    AddressError,
    AddressInUseError,
    BackgroundServer,
    DatabaseBusyError,
    DatabaseError,
    ServerError,
    ServerSettings,
    serve,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = "sk_test_process"
DEADLINE: Final = 20  # seconds; only a hang takes that long

_SERVER: Final = """
import sys
from pathlib import Path
from outlay.server import ServerSettings, serve
settings = ServerSettings(port=0, database=Path(sys.argv[1]), api_key=sys.argv[2])
serve(settings, on_start=lambda started: print(started.url, flush=True))
print("returned", flush=True)
"""


@contextmanager
def server_process(database: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server in a process of its own; yield the process and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(database), KEY],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait(DEADLINE)
        process.stdout.close()


def client(url: str, key: str = KEY) -> httpx.Client:
    """Return a client of a server."""
    return httpx.Client(
        base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30
    )


def event(key: str) -> dict[str, Any]:
    """Return the body of an event that costs 1."""
    return {
        "type": "cost.ai",
        "source": "tests",
        "subject": "cus_1",
        "idempotencyKey": key,
        "data": {"amount": 1},
    }


def create_cost(http: httpx.Client) -> None:
    """Create the cost that reads the events."""
    wanted = {"name": "AI", "eventType": "cost.ai", "valueProperty": "$.amount"}
    http.post("/v0/costMetrics", json=wanted).raise_for_status()


def total(http: httpx.Client) -> int:
    """Return what all events cost."""
    [cost] = http.get("/v0/costs").json()["data"]
    period = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    summary = http.get(f"/v0/costs/{cost['id']}/summary", params=period).json()
    return int(summary["totalCost"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The caller of serve goes on after it, and the process ends with success."""
    with server_process(tmp_path / "outlay.db") as (process, url):
        with client(url) as http:
            assert http.get("/healthz").status_code == 200
        process.send_signal(number)
        output, _ = process.communicate(timeout=DEADLINE)

    assert (process.returncode, output) == (0, "returned\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_acknowledged_survives_the_server(
    tmp_path: Path, number: signal.Signals
) -> None:
    """A 202 means on disk, also while many clients are in the middle of posting."""
    acknowledged: set[str] = set()
    enough = threading.Event()

    def post(worker: int) -> None:
        with client(url) as http:
            for turn in range(10_000):
                key = f"{worker}-{turn}"
                try:
                    answer = http.post("/v0/events", json=event(key))
                except httpx.TransportError:
                    return
                if answer.status_code == 202:
                    acknowledged.add(key)
                if turn == 15:
                    enough.set()

    with server_process(tmp_path / "outlay.db") as (process, url):
        with client(url) as http:
            create_cost(http)
        with ThreadPoolExecutor(8) as pool:
            posting = [pool.submit(post, worker) for worker in range(8)]
            assert enough.wait(DEADLINE)
            process.send_signal(number)
            for one in posting:
                one.result(DEADLINE)
        process.wait(DEADLINE)

    with (
        BackgroundServer(
            ServerSettings(port=0, database=tmp_path / "outlay.db", api_key=KEY)
        ) as server,
        client(server.url) as http,
    ):
        stored = total(http)
        for key in acknowledged:
            again = http.post("/v0/events", json=event(key))
            assert again.headers.get("outlay-duplicate") == "true"
        # Not more than one a worker may be stored without its answer having arrived.
        assert len(acknowledged) <= stored <= len(acknowledged) + 8


def test_a_taken_port_is_said_so() -> None:
    """The most common mistake, so its message says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(AddressInUseError, match=f"port {port} .* is taken"):
            serve(ServerSettings(port=port, database=":memory:", api_key=KEY))
        with pytest.raises(AddressInUseError):
            BackgroundServer(
                ServerSettings(port=port, database=":memory:", api_key=KEY)
            ).start()


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_a_host_that_is_not_ours_is_said_so(host: str) -> None:
    """192.0.2.0/24 is reserved for documentation (RFC 5737)."""
    with pytest.raises(AddressError):
        serve(ServerSettings(host=host, port=0, database=":memory:", api_key=KEY))


def test_an_unusable_database_is_said_so(tmp_path: Path) -> None:
    """A folder instead of a file, and a folder that does not exist."""
    for database in (tmp_path, tmp_path / "none" / "outlay.db"):
        with pytest.raises(DatabaseError, match="cannot be used as database"):
            serve(ServerSettings(port=0, database=database, api_key=KEY))


def test_a_database_in_use_is_said_so(tmp_path: Path) -> None:
    """Two servers on one file would not know of each other's costs."""
    settings = ServerSettings(port=0, database=tmp_path / "outlay.db", api_key=KEY)

    with BackgroundServer(settings), pytest.raises(DatabaseBusyError):
        serve(settings)


def test_a_first_start_makes_a_key_and_a_second_does_not(tmp_path: Path) -> None:
    """It is shown once; only its hash is kept."""
    settings = ServerSettings(port=0, database=tmp_path / "outlay.db")
    with BackgroundServer(settings) as server:
        key = server.api_key
        assert key is not None
        assert key.startswith("sk_test_")

    with BackgroundServer(settings) as server:
        assert server.api_key is None
        with client(server.url, key) as http:
            assert http.get("/v0/costs").status_code == 200

    for path in tmp_path.iterdir():
        assert key.encode() not in path.read_bytes()


def test_a_fixed_key_is_not_kept(tmp_path: Path) -> None:
    """It need not be random, so that even its hash must not lie around."""
    database = tmp_path / "outlay.db"
    with BackgroundServer(ServerSettings(port=0, database=database, api_key=KEY)):
        pass

    with (
        BackgroundServer(
            ServerSettings(port=0, database=database, api_key="sk_test_next")
        ) as server,
        client(server.url) as http,
    ):
        assert http.get("/v0/costs").status_code == 401


def test_a_missing_extra_is_named() -> None:
    """The core installs without a web framework; the error says how to get one."""
    program = "import sys; sys.modules['starlette'] = None; import outlay.server"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert "MissingExtraError" in done.stderr
    assert "pip install '.[server]'" in done.stderr


def test_a_server_that_cannot_start_up_says_so(tmp_path: Path) -> None:
    """It must neither hang nor pretend, and must leave the database free."""
    settings = ServerSettings(port=0, database=tmp_path / "outlay.db", api_key=KEY)

    def broken(app: object) -> object:
        raise ZeroDivisionError(app)

    broken_too = [Middleware(broken)]  # type: ignore[arg-type]  # broken on purpose
    with pytest.raises(ServerError, match="did not start up"):
        BackgroundServer(settings, middleware=broken_too).start()
    with pytest.raises(ServerError, match="did not start up"):
        serve(settings, middleware=broken_too)

    with BackgroundServer(settings) as server:
        assert server.url


def test_a_write_that_fails_is_a_503_and_counts_nothing(tmp_path: Path) -> None:
    """As with a full disk: the client sends the event again, and it counts once."""
    database = tmp_path / "outlay.db"
    settings = ServerSettings(port=0, database=database, api_key=KEY)
    with (
        BackgroundServer(settings) as server,
        client(server.url) as http,
        closing(sqlite3.connect(database, isolation_level=None)) as other,
    ):
        create_cost(http)
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON events"
            " BEGIN SELECT raise(ABORT, 'disk is full'); END"
        )
        during = http.post("/v0/events", json=event("k"))
        other.execute("DROP TRIGGER full")
        after = http.post("/v0/events", json=event("k"))

        assert (during.status_code, during.headers["retry-after"]) == (503, "1")
        assert "disk is full" in during.json()["message"]
        assert after.status_code == 202
        assert "outlay-duplicate" not in after.headers
        assert total(http) == 1


def test_a_background_server_leaves_no_files_of_a_database_in_memory() -> None:
    """Tests start many of them."""
    with BackgroundServer(
        ServerSettings(port=0, database=":memory:", api_key=KEY)
    ) as server:
        folder = vars(server._core.store)["_folder"]
        assert folder is not None
        assert Path(folder.name).is_dir()

    assert not Path(folder.name).exists()


def test_concurrent_duplicates_count_once(tmp_path: Path) -> None:
    """Retries race with each other; the key decides, not the timing."""
    settings = ServerSettings(port=0, database=tmp_path / "outlay.db", api_key=KEY)
    with BackgroundServer(settings) as server, client(server.url) as http:
        create_cost(http)

        def post(number: int) -> int:
            return http.post("/v0/events", json=event(f"k{number % 50}")).status_code

        with ThreadPoolExecutor(16) as pool:
            statuses = set(pool.map(post, range(200)))

        assert statuses == {202}
        assert total(http) == 50
        assert (server.counts.accepted, server.counts.duplicates) == (50, 150)
