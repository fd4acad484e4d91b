"""The demo's play: four acts of trouble, and a comparison of totals."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from outlay._cli.commands.demo.report import Narrator, show_totals
from outlay._cli.commands.demo.worker import THREADS
from outlay._cli.commands.demo.workers import TotalKey, Worker, WorkerPool
from outlay._cli.commands.demo.workload import CUSTOMERS, KINDS
from outlay._cli.server_api import CUSTOMER, NewMetric, ServerApi
from outlay._model.clock import SystemClock, from_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from outlay._cli.commands.demo.faulty_server import DemoServer

_WORKERS: Final = 3
_TRACKING_SECONDS: Final = 2.0  # long enough to watch
_MAX_PAUSE: Final = 0.02  # seconds between a thread's operations
_REFUSALS: Final = 4  # answers of 503 before the server is up again
_LOST_ANSWERS: Final = 2


class DemoScenario:
    """The demo in its acts; each is a method, in the order of `perform`."""

    def __init__(self, stage: DemoServer, events: int, seed: int) -> None:
        self._stage = stage
        self._faults = stage.faults
        self._share = events // _WORKERS
        self._total = self._share * _WORKERS
        self._seed = seed
        self._narrator = Narrator(self._total)
        pause = _TRACKING_SECONDS * THREADS / self._share
        self._team = WorkerPool(
            stage.folder,
            stage.environment(),
            seed=seed,
            pause=min(pause, _MAX_PAUSE),
        )

    def run(self) -> bool:
        """Play all acts; return whether the totals are equal."""
        with self._narrator, self._team:
            self._set_up()
            workers = self._start()
            victim = self._outage(workers)
            successor = self._kill_worker(victim)
            self._recover(workers, successor)
        return self._compare()

    def _set_up(self) -> None:
        say = self._narrator.print_step
        say("server", f"{self._stage.server.url}, its database in a temporary folder")
        with ServerApi(self._stage.settings()) as api:
            for kind in KINDS:
                api.create_metric(
                    NewMetric(
                        name=kind.metric,
                        event_type=kind.event_type,
                        group_by={"provider": "$.provider"},
                    )
                )
        say("metrics", ", ".join(kind.metric for kind in KINDS))

    def _start(self) -> list[Worker]:
        """Act 1: a fair day. Half of the operations are tracked."""
        self._narrator.print_step(
            "traffic",
            f"{_WORKERS} processes of {THREADS} threads track {self._total} operations "
            f"for {len(CUSTOMERS)} customers",
        )
        workers = [
            self._team.start_worker(f"job-{number}", self._share)
            for number in range(1, _WORKERS + 1)
        ]
        for worker in workers:
            worker.run(0, self._half)
        self._wait(lambda: all(w.has_tracked(0, self._half) for w in workers))
        return workers

    def _outage(self, workers: list[Worker]) -> Worker:
        """Act 2: the server is down, and the rest is tracked all the same."""
        self._faults.down = True
        self._narrator.print_step("outage", "the server answers 503; tracking goes on")
        for worker in workers:
            worker.run(self._half, self._share)
        victim = workers[-1]
        enough = (self._share - self._half) // 2
        self._wait(
            lambda: (
                self._at_risk(victim) >= enough and self._faults.refused >= _REFUSALS
            )
        )
        return victim

    def _kill_worker(self, victim: Worker) -> Worker:
        """Act 3: a worker dies in the middle of it, and another takes its job over."""
        victim.kill()
        self._wait(lambda: victim.ended)
        self._narrator.print_step(
            "kill -9",
            f"a worker is dead; {self._at_risk(victim)} or more of its events are "
            "nowhere but in its journal",
        )
        # What the victim did just before its death nobody knows for sure: like a task
        # queue, have the last operations done again. Their ids are the same.
        resume = max(0, victim.first_unreported() - self._half // 4)
        successor = self._team.start_worker(victim.job, self._share)
        successor.run(resume, self._share)
        self._narrator.print_step(
            "successor",
            f"delivers that journal, runs the job again from operation {resume}",
        )
        self._wait(lambda: bool(successor.reported))
        return successor

    def _recover(self, workers: list[Worker], successor: Worker) -> None:
        """Act 4: the server is back, loses some answers, and all is delivered."""
        self._faults.answers_to_lose = _LOST_ANSWERS
        self._faults.down = False
        self._narrator.print_step(
            "recovery", "the server is back, but loses a few answers"
        )
        survivors = [successor, *workers[:-1]]
        # The successor first: a worker that ends looks for the journals of dead ones,
        # too, and this one is to be seen doing it.
        for worker in survivors:
            worker.finish()
            self._wait(functools.partial(_is_finished, worker))

    @property
    def _half(self) -> int:
        return self._share // 2

    def _at_risk(self, worker: Worker) -> int:
        """Return how many events it has tracked since the outage began."""
        return sum(index >= self._half for index in worker.reported)

    def _wait(self, condition: Callable[[], bool]) -> None:
        self._team.wait(
            condition,
            look=lambda: self._narrator.show(self._stage.server.counts.accepted),
        )

    def _compare(self) -> bool:
        """The end: the server's totals beside the demo's own."""
        equal = show_totals(self._team.ledger.totals(), self._counted())
        counts, stats = self._stage.server.counts, self._team.stats()
        tracked = len(self._team.ledger)
        left = sum(stats[place] for place in _UNDELIVERED)
        facts = {
            "tracked": f"{tracked} operations; {counts.accepted} events were counted",
            "recovered": f"{stats['recovered']} events, from the dead worker's journal",
            "retried": f"{stats['retried']} events, after {self._faults.refused} "
            f"requests met the outage and {self._faults.lost} answers were lost",
            "repeated": f"{self._team.ledger.repeated} operations, by the job that was "
            "run again",
            "dedupe": f"{counts.duplicates} events came again; each was counted once",
        }
        for topic, text in facts.items():
            self._narrator.print_step(topic, text)
        if equal and counts.accepted == tracked and not left:
            self._narrator.print_step("OK", "all totals are equal, to the last digit")
            return True
        self._narrator.print_step(
            "MISMATCH", f"the totals above differ, or {left} events are not delivered"
        )
        return False

    def _counted(self) -> dict[TotalKey, Decimal]:
        """Return the totals as the server has them."""
        now = from_ms(SystemClock().now_ms())
        day = timedelta(days=1)
        totals = {}
        with ServerApi(self._stage.settings()) as api:
            for metric in api.metrics():
                by = (CUSTOMER, "provider")
                summary = api.summary(metric, now - day, now + day, by=by)
                for group in summary.groups:
                    customer, provider = (
                        group.dimensions[metric.wire_name(name)] for name in by
                    )
                    totals[TotalKey(customer, metric.name, provider)] = group.cost
        return totals


def _is_finished(worker: Worker) -> bool:
    return bool(worker.finished)


_UNDELIVERED: Final = (
    "pending",
    "parked",
    "dead",
    "quarantined",
    "dropped",
    "damaged",
)
