"""The demo's scenario: traffic, an outage, a kill, and a comparison of totals."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._cli.commands.demo.worker import CUSTOMERS, KINDS
from outlay._cli.commands.demo.workers import WorkerPool
from outlay._cli.connection import open_api
from outlay._cli.output import Table, print_table
from outlay._model.clock import SystemClock, from_ms
from outlay._model.money import exact_sum
from outlay.api import CUSTOMER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from outlay._cli.commands.demo.faulty_server import DemoServer
    from outlay._cli.commands.demo.worker import Operation
    from outlay._cli.commands.demo.workers import Worker

_WORKERS: Final = 3
_TRACKING_SECONDS: Final = 2.0  # long enough to watch
_MAX_PAUSE: Final = 0.01  # seconds between a worker's operations
_REFUSALS: Final = 4  # responses of 503 before the server is up again
_LOST_RESPONSES: Final = 2


class TotalKey(NamedTuple):
    """The labels of one total."""

    customer: str
    metric: str
    provider: str


class DemoScenario:
    """The steps of the demo. Each is a method, in the order of `run`."""

    def __init__(self, demo_server: DemoServer, events: int) -> None:
        self._demo_server = demo_server
        self._share = events // _WORKERS
        self._pool = WorkerPool(
            demo_server.folder,
            demo_server.worker_environment(),
            pause=min(_TRACKING_SECONDS / self._share, _MAX_PAUSE),
        )

    def run(self) -> bool:
        """Run all steps, and return whether the totals are equal."""
        with self._pool:
            self._create_metrics()
            workers = self._start_workers()
            self._stop_server(workers)
            replacement = self._kill_worker(workers.pop())
            self._recover([replacement, *workers])
        return self._compare()

    def _create_metrics(self) -> None:
        url = self._demo_server.server.url
        print_step("server", f"{url}, with a database in a temporary folder")
        with open_api(self._demo_server.settings()) as api:
            for kind in KINDS:
                api.create_metric(kind.metric, kind.event_type, group_by=["provider"])
        print_step("metrics", ", ".join(kind.metric for kind in KINDS))

    def _start_workers(self) -> list[Worker]:
        """Step 1: the server is up, and the workers track half of the operations."""
        print_step(
            "traffic",
            f"{_WORKERS} processes track {self._share * _WORKERS} operations for "
            f"{len(CUSTOMERS)} customers",
        )
        workers = [
            self._pool.start_worker(f"job-{number}", self._share)
            for number in range(1, _WORKERS + 1)
        ]
        half = self._share // 2
        self._pool.wait(lambda: all(worker.next_index >= half for worker in workers))
        return workers

    def _stop_server(self, workers: list[Worker]) -> None:
        """Step 2: the server is down, and the workers track the other half."""
        self._demo_server.is_down = True
        print_step("outage", "the server responds 503; tracking goes on")
        for worker in workers:
            worker.go_on()
        last = workers[-1]
        self._pool.wait(
            lambda: (
                last.next_index >= self._share * 3 // 4
                and self._demo_server.refused >= _REFUSALS
            )
        )

    def _kill_worker(self, to_kill: Worker) -> Worker:
        """Step 3: a worker is killed, and a new one continues its job."""
        self._pool.kill(to_kill)
        print_step(
            "kill -9", "a worker is dead; its last events are in its journal only"
        )
        # The last operations before the kill may or may not be tracked. The job
        # repeats some, as a task queue does. Their ids are the same.
        start = max(0, to_kill.next_index - self._share // 8)
        replacement = self._pool.start_worker(to_kill.job, self._share, start=start)
        print_step(
            "restart",
            f"a new worker delivers that journal, and repeats the job from {start}",
        )
        self._pool.wait(lambda: replacement.next_index > start)
        return replacement

    def _recover(self, workers: list[Worker]) -> None:
        """Step 4: the server is up, loses some responses, and gets all events."""
        self._demo_server.responses_to_lose = _LOST_RESPONSES
        self._demo_server.is_down = False
        print_step(
            "recovery", f"the server is up, but loses {_LOST_RESPONSES} responses"
        )
        # The replacement finishes first: every worker adopts the journals of dead ones
        # when it ends, and the replacement is the one that should.
        for worker in workers:
            self._pool.finish(worker)

    def _compare(self) -> bool:
        """Step 5: compare the server's totals with the demo's own record."""
        tracked, counts = self._pool.tracked, self._pool.counts()
        faults, ingested = self._demo_server, self._demo_server.server.counts
        equal = print_comparison(totals(tracked.values()), self._server_totals())
        for topic, text in {
            "tracked": f"{len(tracked)} operations; {ingested.accepted} events counted",
            "recovered": f"{counts['recovered']} events, from the dead worker's "
            "journal",
            "retried": f"{counts['retried']} events, after {faults.refused} refused "
            f"requests and {faults.lost} lost responses",
            "repeated": f"{self._pool.reports - len(tracked)} operations, by the job "
            "that ran again",
            "dedupe": f"{ingested.duplicates} events arrived again; each counts once",
        }.items():
            print_step(topic, text)
        left = counts["undelivered"]
        if equal and ingested.accepted == len(tracked) and not left:
            print_step("OK", "all totals are equal, to the last digit")
            return True
        print_step("MISMATCH", f"the totals differ, or {left} events are not delivered")
        return False

    def _server_totals(self) -> dict[TotalKey, Decimal]:
        now, day = from_ms(SystemClock().now_ms()), timedelta(days=1)
        by = (CUSTOMER, "provider")
        counted = {}
        with open_api(self._demo_server.settings()) as api:
            for metric in api.metrics():
                summary = api.summary(metric, now - day, now + day, by=by)
                for group in summary.groups:
                    customer, provider = (group.dimensions[name] for name in by)
                    counted[TotalKey(customer, metric.name, provider)] = group.cost
        return counted


def totals(tracked: Iterable[Operation]) -> dict[TotalKey, Decimal]:
    """Return the sums of the amounts by label."""
    metrics = {kind.event_type: kind.metric for kind in KINDS}
    amounts: defaultdict[TotalKey, list[Decimal]] = defaultdict(list)
    for one in tracked:
        key = TotalKey(one.customer_id, metrics[one.event_type], one.provider)
        amounts[key].append(one.amount)
    return {key: exact_sum(each) for key, each in amounts.items()}


def print_step(topic: str, text: str) -> None:
    """Print one line of the story."""
    print(f"  {topic:<10}  {text}", flush=True)


def print_comparison(
    tracked: Mapping[TotalKey, Decimal], counted: Mapping[TotalKey, Decimal]
) -> bool:
    """Print tracked and counted totals, and return whether all are equal."""
    headers = ("customer", "cost", "provider", "tracked, USD", "on the server, USD", "")
    keys = sorted({*tracked, *counted})
    pairs = [(tracked.get(key, Decimal()), counted.get(key, Decimal())) for key in keys]
    sums = exact_sum(left for left, _ in pairs), exact_sum(right for _, right in pairs)
    rows = [
        (*key, left, right, "" if left == right else "DIFFERS")
        for key, (left, right) in zip(keys, pairs, strict=True)
    ]
    total = ("all", "", "", *sums, "" if sums[0] == sums[1] else "DIFFERS")
    print_table(Table(headers, rows, [total]))
    return all(left == right for left, right in pairs)
