"""Run the product under load, kill parts of it, and compare with the provider's ledger.

    python examples/service/run.py --seconds 45

It starts outlay's server, a stand-in for two providers, the API, and a Celery worker.
Customers send requests, and repeat those that fail. Meanwhile the API, a process of the
worker in the middle of its work, and outlay's server are killed. In the end, each
customer's cost must equal the provider's ledger, to the digit. With ``--stay``, the
dashboard stays up.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path

import httpx

from outlay.api import Api

HERE = Path(__file__).parent
REVENUE = (
    "customer,amount,currency\ncus_ada,4.00,USD\ncus_bob,2.50,USD\ncus_eve,0.10,USD\n"
)
ADA = "token-of-ada"
CUSTOMERS = {ADA: 3, "token-of-bob": 2, "token-of-eve": 1}  # shares of load


class Service:
    """All processes, and how each is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = free_ports(3)
        self.server, self.provider, self.api = (f"http://127.0.0.1:{p}" for p in ports)
        self.environment = {
            **os.environ,
            "OUTLAY_BASE_URL": self.server,
            "OUTLAY_API_KEY": f"sk_{secrets.token_hex(24)}",
            "OUTLAY_JOURNAL_DIR": str(folder / "journal"),
            "PROVIDER_URL": self.provider,
            "PROVIDER_LEDGER": str(folder / "ledger.jsonl"),
            "QUEUE_FOLDER": str(folder / "queue"),
        }
        self.environment["OUTLAY_SERVER_API_KEY"] = self.environment["OUTLAY_API_KEY"]
        (folder / "queue").mkdir()
        (folder / "control").mkdir()
        python = sys.executable
        uvicorn = (python, "-m", "uvicorn", "--log-level", "warning", "--port")
        outlay = (python, "-m", "outlay")
        database = ("--db", str(folder / "costs.db"))
        self.commands = {
            "server": (*outlay, "serve", "--port", str(ports[0]), *database),
            "provider": (*uvicorn, str(ports[1]), "provider:app"),
            "API": (*uvicorn, str(ports[2]), "api:app"),
            "worker": (
                *(python, "-m", "celery", "-A", "worker:celery", "worker"),
                *("--concurrency", "2", "--loglevel", "critical", "--without-mingle"),
            ),
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a process. Its output goes to a file."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                self.commands[name],
                cwd=HERE,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """Kill a process as a crash does, and start the next one."""
        os.killpg(self.running[name].pid, signal.SIGKILL)
        self.running[name].wait()
        self.start(name)

    def stop(self) -> None:
        """End all processes, in order."""
        for process in reversed(self.running.values()):
            process.terminate()
            process.wait()

    def outlay(self, *words: str) -> str:
        """Run a command of outlay, and return what it prints."""
        return subprocess.run(
            [sys.executable, "-m", "outlay", *words],
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def billed(self) -> dict[str, Decimal]:
        """Return the provider's ledger: the amount of each customer."""
        totals: defaultdict[str, Decimal] = defaultdict(Decimal)
        for line in (self.folder / "ledger.jsonl").read_text().splitlines():
            row = json.loads(line)
            totals[row["customer"]] += Decimal(row["amount"])
        return totals

    def counted(self) -> dict[str, Decimal]:
        """Return outlay's totals: the amount of each customer this month."""
        start = datetime.now(UTC).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        with Api(
            base_url=self.server, api_key=self.environment["OUTLAY_API_KEY"]
        ) as api:
            report = api.report(start, datetime.now(UTC), by="customer")
        return {each.key: each.total for each in report.groups if each.total}


def free_ports(number: int) -> list[int]:
    """Return ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until something is so.

    Raises:
        SystemExit: It is not so in time.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:.0f} s in vain until {what}")
        threading.Event().wait(0.05)


def responds(url: str) -> bool:
    """Return whether a server is up, whatever it responds."""
    try:
        httpx.get(url, timeout=1)
    except httpx.HTTPError:
        return False
    return True


@contextmanager
def load(service: Service, accepted: Counter[str]) -> Iterator[None]:
    """Send requests of all customers until the block ends. Repeat those that fail."""
    stopped = threading.Event()
    numbers = count(1)

    def customer(token: str) -> None:
        with httpx.Client(
            base_url=service.api, headers={"authorization": token}, timeout=10
        ) as client:
            while not stopped.is_set():
                number = next(numbers)
                path = "/summaries" if number % 3 else "/documents"
                send(client, path, {"id": f"work-{number:06}", "text": "…"})
                accepted[path] += 1

    threads = [
        threading.Thread(target=customer, args=(token,))
        for token, share in CUSTOMERS.items()
        for _ in range(share)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def send(client: httpx.Client, path: str, work: dict[str, str]) -> None:
    """Send a request until the product accepts it."""
    while True:
        try:
            if client.post(path, json=work).is_success:
                return
        except httpx.HTTPError:
            pass
        threading.Event().wait(0.1)


def play(service: Service, seconds: float) -> bool:
    """Run everything, and return whether the totals are equal."""
    for name in service.commands:
        service.start(name)
    wait_until(partial(responds, service.server), "outlay's server is up")
    import_revenue(service)
    for url in (service.provider, service.api):
        wait_until(partial(responds, url), f"{url} is up")
    requests = under_load(service, seconds)
    print(f"{requests} requests")
    ledger = service.folder / "ledger.jsonl"
    wait_until(
        lambda: len(ledger.read_text().splitlines()) == requests, "all work is done"
    )
    wait_until(lambda: responds(service.server), "outlay's server is back")
    for name in ("worker", "API"):  # what they have not shipped is in the journal
        service.running[name].terminate()
        service.running.pop(name).wait()
    service.outlay("journal", "replay")

    billed, counted = service.billed(), service.counted()
    for customer in sorted(billed):
        print(
            f"{customer}  provider {billed[customer]}  outlay {counted.get(customer)}"
        )
    print(service.outlay("margins", "--by", "customer", "--month", this_month()))
    return counted == billed


def under_load(service: Service, seconds: float) -> int:
    """Kill parts while customers send requests. Return the number of requests."""
    accepted: Counter[str] = Counter()
    pause = threading.Event().wait
    with load(service, accepted):
        pause(seconds / 4)
        print("kill -9: the API")
        service.kill("API")
        pause(seconds / 4)
        print("kill -9: a process of the worker, in the middle of its work")
        with httpx.Client(
            base_url=service.api, headers={"authorization": ADA}
        ) as client:
            send(client, "/documents", {"id": "work-crash", "text": "crash"})
        accepted["/documents"] += 1
        pause(seconds / 4)
        print("kill -9: outlay's server")
        service.kill("server")
        pause(seconds / 4)
    return accepted.total()


def import_revenue(service: Service) -> None:
    """Tell the server what the customers pay this month."""
    file = service.folder / "revenue.csv"
    file.write_text(REVENUE)
    service.outlay("revenue", "import", str(file), "--month", this_month())


def this_month() -> str:
    """Return the current month, such as 2026-10."""
    return f"{datetime.now(UTC):%Y-%m}"


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=45, help="of load")
    parser.add_argument("--stay", action="store_true", help="keep the dashboard up")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder))
        try:
            same = play(service, given.seconds)
            print("equal to the digit" if same else "DIFFERENT")
            if given.stay:
                print(f"dashboard: {service.server}")
                print(f"key: {service.environment['OUTLAY_API_KEY']}")
                signal.sigwait({signal.SIGINT, signal.SIGTERM})
            return 0 if same else 1
        finally:
            service.stop()


if __name__ == "__main__":
    sys.exit(main())
