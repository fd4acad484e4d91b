"""Show that one ledger stays exact under several servers, while one of them is killed.

    python -m scripts.scale --events 100000

It starts PostgreSQL, two servers on one database, and a load balancer before them. Four
processes track costs, and ship them through both servers. Meanwhile, one server is
killed with SIGKILL, and started again. In the end, both servers must report the sum of
what was tracked, for each customer, to the digit.

With ``--history``, ClickHouse runs beside PostgreSQL, and must not be on the way of a
post. That needs the wheel chdb.

The variable OUTLAY_TEST_POSTGRES names another PostgreSQL, in which it creates a
database for the run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from outlay.api import Api
from scripts.scale_worker import amount_of, customer_of
from tests.support.clickhouse_server import new_database_url
from tests.support.postgres_server import drop_database, new_database
from tests.support.server_process import ServerProcess
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT: Final = Path(__file__).parents[1]
_PROCESSES: Final = 4
_DEADLINE: Final = 600.0  # seconds for each step, on a slow machine


class LoadBalancer:
    """Leads each new connection to the next server that takes connections.

    Use it as a context manager.

    Args:
        ports: The ports of the servers, on this machine.
    """

    def __init__(self, ports: list[int]) -> None:
        self.port: Final = free_port()
        self._ports = itertools.cycle(ports)
        self._tries = len(ports)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    @property
    def url(self) -> str:
        """The URL that clients use."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(listening, self._loop).result(_DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.closing(writer):
            for port in itertools.islice(self._ports, self._tries):
                try:
                    there = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    continue  # That server is down.
                await asyncio.gather(
                    _forward(reader, there[1]), _forward(there[0], writer)
                )
                return


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError):
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()


class Workers:
    """The processes that track costs.

    Args:
        events: The number of operations, of all processes.
        folder: The folder of the journal.
        variables: The settings of the clients.
    """

    def __init__(self, events: int, folder: Path, variables: dict[str, str]) -> None:
        bounds = [events * number // _PROCESSES for number in range(_PROCESSES + 1)]
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "scripts.scale_worker"),
                    *(str(number) for number in (first, end, end % events)),
                ],
                cwd=_ROOT,
                env={
                    **os.environ,
                    **variables,
                    "OUTLAY_JOURNAL_DIR": str(folder / "journal"),
                },
                stdin=subprocess.PIPE,
            )
            for first, end in itertools.pairwise(bounds)
        ]

    def go_on(self) -> None:
        """Let all processes begin their second half."""
        for each in self._processes:
            assert each.stdin is not None
            each.stdin.write(b"\n")
            each.stdin.flush()

    def finish(self) -> None:
        """Wait until everything is delivered.

        Raises:
            SystemExit: A process could not deliver everything.
        """
        for each in self._processes:
            if each.wait(_DEADLINE):
                raise SystemExit("a process has undelivered events")

    def stop(self) -> None:
        """End what still runs."""
        for each in self._processes:
            each.kill()
            each.wait()


def run(events: int, *, with_history: bool) -> bool:
    """Run everything, and return whether all totals are equal."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        key = f"sk_{secrets.token_hex(24)}"
        database = new_database()
        stack.callback(drop_database, database)
        settings = {
            "OUTLAY_SERVER_STORE": database,
            "OUTLAY_SERVER_API_KEY": key,
        }
        if with_history:
            settings["OUTLAY_SERVER_HISTORY"] = new_database_url()
        servers = [ServerProcess(name, folder, settings) for name in ("one", "two")]
        for each in servers:
            stack.callback(each.stop)
            _wait_until(each.is_ready, "a server is ready")
        print("two servers run on one PostgreSQL", flush=True)
        balancer = LoadBalancer([each.port for each in servers])
        stack.enter_context(balancer)
        workers = Workers(
            events, folder, {"OUTLAY_BASE_URL": balancer.url, "OUTLAY_API_KEY": key}
        )
        stack.callback(workers.stop)
        started = time.monotonic()
        _wait_until(servers[0].has_taken_events, "the first server has taken events")
        servers[0].restart_after_kill()
        print("kill -9: the first server, while it took events", flush=True)
        workers.go_on()
        workers.finish()
        seconds = time.monotonic() - started
        print(f"{_PROCESSES} processes delivered {events:,} events in {seconds:.0f} s")
        _wait_until(servers[0].is_ready, "the first server is back")
        return _compare(events, [_totals(each.url, key) for each in servers])


def _wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {_DEADLINE:.0f} s in vain until {what}")
        threading.Event().wait(0.02)


def _totals(url: str, key: str) -> dict[str, Decimal]:
    """Return the total of each customer, as a server reports it."""
    now = datetime.now(UTC)
    with Api(base_url=url, api_key=key) as api:
        report = api.report(
            now - timedelta(days=2), now + timedelta(days=1), by="customer"
        )
    return {each.key: each.total for each in report.groups if each.total}


def _compare(events: int, reported: list[dict[str, Decimal]]) -> bool:
    tracked: defaultdict[str, Decimal] = defaultdict(Decimal)
    for number in range(events):
        tracked[customer_of(number)] += amount_of(number)
    for customer, total in sorted(tracked.items()):
        there = "  ".join(str(each.get(customer)) for each in reported)
        print(f"{customer}  tracked {total.normalize():f}  servers {there}")
    return all(each == tracked for each in reported)


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument(
        "--history", action="store_true", help="keep old days in ClickHouse, too"
    )
    given = parser.parse_args()
    same = run(given.events, with_history=given.history)
    print("equal to the digit" if same else "DIFFERENT")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
