"""The reference server: killed, stopped and out of disk, while clients post to it.

A 202 tells a client that its event is stored. After the fault a new server opens
the file. It must have each of these events once, and its total must be their sum, to
the last digit. Then all of them are posted again, and must be known.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec

from tests.faults.judge import DEADLINE
from tests.faults.scenario import Books, Scenario
from tests.support.processes import environment

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterator, Sequence

    from tests.faults.scenario import Play, Tally

KEY: Final = "sk_test_of_faults_only"
PERSON: Final = "person-of-faults"
CLIENTS: Final = 4
BATCH: Final = 20  # events; every second request has one event only
PERIOD: Final = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
MIB: Final = 1024 * 1024
LONG_AGO: Final = "2024-06-01T12:30:00Z"
TWO_DAYS: Final = 2 * 24 * 3600 * 10**6  # microseconds, beyond the dedupe window

_SERVER: Final = """
import resource, sys
from pathlib import Path
from outlay.server import ServerSettings, serve
if sys.argv[3] != "0":
    sys.dont_write_bytecode = True  # else an import could leave one cut short
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
settings = ServerSettings(port=0, database=Path(sys.argv[1]), api_key=sys.argv[2])
serve(settings, on_start=lambda started: print(started.url, flush=True))
"""

_exact: Final = msgspec.json.Decoder(float_hook=Decimal).decode


class Site:
    """A database file, its server, and what clients were told.

    Attributes:
        database: The file.
        told: The amounts of the events with a 202, by key.
        tried: The amounts of all events that were posted, by key.
    """

    def __init__(self, folder: Path) -> None:
        self.database = folder / "outlay.db"
        self.told: dict[str, Decimal] = {}
        self.tried: dict[str, Decimal] = {}
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._wanted = 0

    def start(self, *, file_bytes: int = 0) -> None:
        """Start a server on the file.

        Args:
            file_bytes: The largest size of a file that it can write. 0 means no limit.
        """
        arguments = [str(self.database), KEY, str(file_bytes)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *arguments],
            env=environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the server did not start"

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the server a signal, and wait for its end."""
        self.process.send_signal(number)
        self.process.wait(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def client(self) -> httpx.Client:
        """Return a client of the server."""
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=DEADLINE)

    @contextmanager
    def ingest(self, chance: random.Random, size: int) -> Iterator[None]:
        """Post from several clients, and yield when ``size`` events have a 202.

        The clients go on during the block, until the server is gone or the block ends.
        """
        self._wanted = len(self.told) + size
        self._enough.clear()
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._post, args=[f"{chance.random()}", stop])
            for _ in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            assert self._enough.wait(DEADLINE), "too few events were accepted"
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(DEADLINE)

    def _post(self, name: str, stop: threading.Event) -> None:
        turn = 0
        with self.client() as http:
            while not stop.is_set():
                turn += 1
                count = BATCH if turn % 2 else 1
                amounts = {
                    f"{name}/{turn}/{each}": Decimal(turn * BATCH + each) / 10**7
                    for each in range(count)
                }
                with self._lock:
                    self.tried |= amounts
                try:
                    accepted = send(http, amounts)
                except httpx.TransportError:
                    return
                with self._lock:
                    self.told |= {key: amounts[key] for key in accepted}
                    if len(self.told) >= self._wanted:
                        self._enough.set()

    def fill(self, http: httpx.Client) -> None:
        """Post large events until the server refuses one, because the disk is full."""
        for number in range(1000):
            key, amount = f"large/{number}", Decimal(number)
            body = event(key, amount)
            body["data"]["padding"] = "x" * 200_000
            self.tried[key] = amount
            response = http.post("/v0/events", json=body)
            if response.status_code == 503:
                return
            assert response.status_code == 202
            self.told[key] = amount
        raise AssertionError("the disk never became full")

    def judge(self, *, deleted: Collection[str] = ()) -> Tally:
        """Open the file with a new server, and compare it with what was told.

        Args:
            deleted: The keys of the events that the server must delete. They count.
        """
        self.start()
        try:
            with self.client() as http:
                self._post_again(http, [*self.told.keys() - {*deleted}])
                self._wait_for_deletion({*deleted})
                [metric] = http.get("/v0/costs").json()["data"]
                path = f"/v0/costs/{metric['id']}/summary"
                summary = _exact(http.get(path, params=PERIOD).content)
        finally:
            self.end(signal.SIGTERM)
        with closing(sqlite3.connect(self.database)) as connection:
            counted = Counter(self._keys(connection)) + Counter({*deleted})
            [(sound,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
        assert sound == "ok", sound
        books = Books(self.told, counted, Decimal(summary["totalCostExact"]), {})
        untold = {k: v for k, v in self.tried.items() if k not in self.told}
        return books.tally(untold=untold, at_most=len(untold))

    def _wait_for_deletion(self, keys: set[str]) -> None:
        ends_at = time.monotonic() + DEADLINE
        with closing(sqlite3.connect(self.database)) as connection:
            while keys & {*self._keys(connection)}:
                assert time.monotonic() < ends_at, "old events were not deleted"
                threading.Event().wait(0.1)

    @staticmethod
    def _keys(connection: sqlite3.Connection) -> list[str]:
        rows = connection.execute("SELECT key FROM events")
        return [key for (key,) in rows]

    def _post_again(self, http: httpx.Client, keys: Sequence[str]) -> None:
        """Post accepted events again, as clients do whose response was lost."""
        for at in range(0, len(keys), 500):
            amounts = {key: self.told[key] for key in keys[at : at + 500]}
            assert send(http, amounts) == amounts.keys()


def send(http: httpx.Client, amounts: dict[str, Decimal]) -> set[str]:
    """Post events, and return the keys of those that were accepted."""
    events = [event(key, amount) for key, amount in amounts.items()]
    if len(events) == 1:
        response = http.post("/v0/events", json=events[0])
        return set(amounts) if response.status_code == 202 else set()
    response = http.post("/v0/events/batch", json={"events": events})
    if response.status_code != 202:
        return set()
    return {one["idempotencyKey"] for one in response.json()["successful"]}


def event(key: str, amount: Decimal) -> dict[str, Any]:
    """Return an event's body."""
    return {
        "type": "cost.ai",
        "source": "tests",
        "subject": PERSON if key.endswith("1") else "cus_2",
        "idempotencyKey": key,
        "timestamp": LONG_AGO,
        "data": {"amount": str(amount), "user": PERSON},
    }


@contextmanager
def site() -> Iterator[Site]:
    """Yield a site whose server has a metric, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        made = Site(Path(folder))
        made.start()
        create = {
            "name": "AI",
            "eventType": "cost.ai",
            "valueProperty": "$.amount",
            "groupBy": {"user": "$.user"},
        }
        with made.client() as http:
            http.post("/v0/costMetrics", json=create).raise_for_status()
        try:
            yield made
        finally:
            made.process.kill()
            made.process.wait(DEADLINE)


def ended_by(number: signal.Signals) -> Play:
    """Return the play in which a signal ends the server in full ingest."""

    def play(chance: random.Random, size: int) -> Tally:
        with site() as made:
            for _ in range(2):
                with made.ingest(chance, chance.randint(1, size)):
                    made.end(number)
                made.start()
            made.end(signal.SIGTERM)
            return made.judge()

    return play


def killed_during(act: Callable[[Site], object]) -> Play:
    """Return the play in which the server is killed while ``act`` is under way."""

    def play(chance: random.Random, size: int) -> Tally:
        with site() as made:
            with made.ingest(chance, size):
                acting = threading.Thread(target=act, args=[made])
                acting.start()
                threading.Event().wait(chance.random() / 20)  # any instant of it
                made.end()
                acting.join(DEADLINE)
            return made.judge()

    return play


def on_a_full_disk(chance: random.Random, size: int) -> Tally:
    """Let each file of the server end at a size, in full ingest."""
    with site() as made:
        made.end(signal.SIGTERM)
        room = made.database.stat().st_size + chance.randint(100_000, 2 * MIB)
        made.start(file_bytes=room)
        with made.ingest(chance, min(size, 50)), made.client() as http:
            made.fill(http)
            assert http.get("/healthz").status_code == 200
        made.end(signal.SIGKILL if chance.random() < 0.5 else signal.SIGTERM)
        return made.judge()


def killed_during_retention(chance: random.Random, size: int) -> Tally:
    """Kill the server while it deletes events of long ago, in full ingest."""
    with site() as made:
        with made.ingest(chance, size):
            pass
        made.end(signal.SIGTERM)
        old = [*made.told]
        assert len(old) == len(made.tried)
        with closing(sqlite3.connect(made.database)) as connection, connection:
            # Within the dedupe window, an event is never deleted.
            connection.execute(
                "UPDATE events SET received_at = received_at - ?", (TWO_DAYS,)
            )
        made.start()
        with made.ingest(chance, size), made.client() as http:
            http.put("/v0/retention", json={"eventDays": 2}).raise_for_status()
            threading.Event().wait(chance.random() / 20)  # any instant of it
            made.end()
        return made.judge(deleted=old)


def begin_erasure(made: Site) -> None:
    """Ask the server to erase a person. It may be killed before it responds."""
    with made.client() as http:
        try:
            http.post("/v0/erasures", json={"customer": PERSON})
        except httpx.TransportError:
            return


def back_up(made: Site) -> None:
    """Back the file up, and check that there is a whole copy or none."""
    output = made.database.with_name("backup.db")
    words = ["backup", "--db", str(made.database), "--output", str(output)]
    subprocess.run(
        [sys.executable, "-m", "outlay", *words],
        env=environment({}),
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    with closing(sqlite3.connect(output)) as connection:
        [(sound,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
    assert sound == "ok"


SCENARIOS: Final = (
    Scenario("server: kill -9 in full ingest", ended_by(signal.SIGKILL), 20, 1, 400),
    Scenario("server: restart in full ingest", ended_by(signal.SIGTERM), 10, 0, 400),
    Scenario(
        "server: kill -9 during an erasure", killed_during(begin_erasure), 20, 0, 400
    ),
    Scenario("server: kill -9 during a backup", killed_during(back_up), 10, 0, 400),
    Scenario("server: kill -9 during retention", killed_during_retention, 10, 0, 200),
    Scenario("server: the disk is full", on_a_full_disk, 10, 0, 200),
)
