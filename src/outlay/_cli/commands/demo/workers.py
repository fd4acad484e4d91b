"""The demo's worker processes, and what they said they have tracked."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast

from outlay._cli.commands.demo.workload import KINDS, Operation
from outlay._cli.exit_codes import CommandFailedError
from outlay._model.money import exact_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import IO

_PATIENCE: Final = 30.0  # seconds without a word from any worker; a demo takes five
_GLANCE: Final = 0.05  # seconds between looks at what a condition depends on


class TotalKey(NamedTuple):
    """What a total is broken down by."""

    customer: str
    metric: str
    provider: str


class TrackedOperations:
    """What the workers said that `track_cost` returned for, each operation once.

    The demo's own record, made without outlay's help.
    """

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}
        self.repeated = 0
        """How often an operation was tracked that had been tracked before."""

    def __len__(self) -> int:
        return len(self._operations)

    def add(self, operation: Operation) -> None:
        """Note that ``operation`` was tracked, perhaps again."""
        if operation.operation_id in self._operations:
            self.repeated += 1
        else:
            self._operations[operation.operation_id] = operation

    def totals(self) -> dict[TotalKey, Decimal]:
        """Return the sums by cell, in order."""
        metrics = {kind.event_type: kind.metric for kind in KINDS}
        amounts: dict[TotalKey, list[Decimal]] = defaultdict(list)
        for operation in self._operations.values():
            metric = metrics[operation.event_type]
            cell = TotalKey(operation.customer_id, metric, operation.provider)
            amounts[cell].append(operation.amount)
        return {cell: exact_sum(amounts[cell]) for cell in sorted(amounts)}


class Worker:
    """One worker process; see `outlay._cli.commands.demo.worker` for what it obeys."""

    def __init__(self, job: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.job = job
        self.process = process
        self.log = log
        self.commands = cast("IO[bytes]", process.stdin)
        self.output = cast("IO[bytes]", process.stdout)
        self.ended = False
        """Whether all that it said has been taken in."""
        self.reported: set[int] = set()
        """Indexes of the operations that it reported."""
        self.finished: dict[str, int] = {}
        """Where its events are, once it has finished."""

    def run(self, start: int, end: int) -> None:
        """Have it track the operations ``start`` to ``end - 1`` of its job."""
        self._command({"run": [start, end]})

    def finish(self) -> None:
        """Have it deliver what is left, and end."""
        self._command({"finish": True})

    def kill(self) -> None:
        """Kill it as the system does when memory runs out: without a chance to act."""
        self.process.kill()
        self.process.wait()
        with suppress(BrokenPipeError):
            self.commands.close()

    def has_tracked(self, start: int, end: int) -> bool:
        """Return whether it has reported all of these operations."""
        return self.reported.issuperset(range(start, end))

    def first_unreported(self) -> int:
        """Return the first operation of the job that it has not reported."""
        index = 0
        while index in self.reported:
            index += 1
        return index

    def _command(self, command: Mapping[str, object]) -> None:
        try:
            self.commands.write(json.dumps(command).encode() + b"\n")
            self.commands.flush()
        except BrokenPipeError as error:
            raise CommandFailedError(
                f"a worker died:\n{self.log.read_text()}"
            ) from error


class WorkerPool:
    """All workers. Use as a context manager: none of them outlives it.

    Thread safety: the demo's main thread; a thread for each worker reads its output.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, seed: int, pause: float
    ) -> None:
        self.ledger = TrackedOperations()
        self._folder = folder
        self._environment = dict(environment)
        self._seed = seed
        self._pause = pause
        self._workers: list[Worker] = []
        self._listeners: list[threading.Thread] = []
        self._said: queue.SimpleQueue[tuple[Worker, bytes]] = queue.SimpleQueue()

    def start_worker(self, job: str, count: int) -> Worker:
        """Start a worker for a job of ``count`` operations."""
        log = self._folder / f"worker-{len(self._workers) + 1}.log"
        module = "outlay._cli.commands.demo.worker"
        words = [str(self._seed), job, str(count), str(self._pause)]
        with log.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", module, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                # Ctrl-C is the demo's to handle, not the workers'.
                start_new_session=True,
            )
        worker = Worker(job, process, log)
        self._workers.append(worker)
        listener = threading.Thread(target=self._listen, args=[worker], daemon=True)
        listener.start()
        self._listeners.append(listener)
        return worker

    def wait(self, condition: Callable[[], bool], look: Callable[[], None]) -> None:
        """Take in what workers say until ``condition`` holds.

        Args:
            condition: looked at after every message, and every so often.
            look: called as often, to show the progress.

        Raises:
            FailedError: a worker died that was not killed, or nothing happens any more.
        """
        silence = 0.0
        while not condition():
            try:
                worker, line = self._said.get(timeout=_GLANCE)
            except queue.Empty:
                silence += _GLANCE
                if silence > _PATIENCE:
                    raise CommandFailedError(
                        "the demo is stuck: no worker reports"
                    ) from None
            else:
                silence = 0.0
                self._take(worker, line)
            look()

    def stats(self) -> Counter[str]:
        """Return the counts of all workers that finished, added up."""
        counts: Counter[str] = Counter()
        for worker in self._workers:
            counts.update(worker.finished)
        return counts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.kill()
        for listener in self._listeners:
            listener.join()

    def _listen(self, worker: Worker) -> None:
        with worker.output:
            for line in worker.output:
                self._said.put((worker, line))
        self._said.put((worker, b""))

    def _take(self, worker: Worker, line: bytes) -> None:
        if not line:
            worker.ended = True
            self._check_end(worker)
            return
        message: dict[str, Any] = json.loads(line)
        if "finished" in message:
            stats = message["finished"]
            stats["dropped"] = sum(stats["dropped"].values())
            # Counts add up; ages do not, nor does what is told by kind.
            worker.finished = {
                name: count for name, count in stats.items() if isinstance(count, int)
            }
            return
        worker.reported.add(message["index"])
        fields = message["operation"]
        fields["amount"] = Decimal(fields["amount"])
        self.ledger.add(Operation(**fields))

    def _check_end(self, worker: Worker) -> None:
        code = worker.process.wait()
        if code not in {0, -signal.SIGKILL}:
            raise CommandFailedError(
                f"a worker died with exit code {code}:\n{worker.log.read_text()}"
            )
