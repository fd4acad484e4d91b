"""The demo's worker processes, and the operations that they reported as tracked."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Self, cast

from outlay._cli.commands.demo.worker import KINDS, Operation, operations
from outlay._cli.exit_codes import CommandFailedError
from outlay._model.money import exact_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal
    from pathlib import Path
    from typing import IO

_MAX_SILENCE: Final = 30.0  # seconds without a report from any worker
_POLL_SECONDS: Final = 0.05  # between checks of a condition
_END: Final = b""


class TotalKey(NamedTuple):
    """The labels of one total."""

    customer: str
    metric: str
    provider: str


class TrackedOperations:
    """The operations that `track_cost` returned for, each once.

    The demo keeps this record without outlay's help.

    Attributes:
        repeated: The number of times that an operation was tracked again.
    """

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}
        self.repeated = 0

    def __len__(self) -> int:
        return len(self._operations)

    def add(self, operation: Operation) -> None:
        """Record that ``operation`` was tracked, perhaps again."""
        self.repeated += operation.operation_id in self._operations
        self._operations[operation.operation_id] = operation

    def totals(self) -> dict[TotalKey, Decimal]:
        """Return the sums by label, in order."""
        metrics = {kind.event_type: kind.metric for kind in KINDS}
        amounts: dict[TotalKey, list[Decimal]] = defaultdict(list)
        for operation in self._operations.values():
            metric = metrics[operation.event_type]
            key = TotalKey(operation.customer_id, metric, operation.provider)
            amounts[key].append(operation.amount)
        return {key: exact_sum(amounts[key]) for key in sorted(amounts)}


class Worker:
    """One worker process; see `outlay._cli.commands.demo.worker`.

    Attributes:
        job: The name of its job.
        operations: The operations of its job.
        next_index: The first operation of the job that it has not reported.
        stats: The client's counts, once it has delivered all events.
        has_ended: Whether it has ended and all its reports were read.
    """

    def __init__(
        self, job: str, start: int, end: int, process: subprocess.Popen[bytes]
    ) -> None:
        self.job = job
        self.operations = [*operations(job, end)]
        self.next_index = start
        self.stats: dict[str, int] = {}
        self.has_ended = False
        self.process = process
        self._input = cast("IO[bytes]", process.stdin)

    def go_on(self) -> None:
        """Let it track the second half of its operations."""
        with suppress(BrokenPipeError):
            self._input.write(b"\n")
            self._input.flush()

    def finish(self) -> None:
        """Let it deliver all events and exit."""
        with suppress(BrokenPipeError):
            self._input.close()

    def kill(self) -> None:
        """Kill the process, as the system does when memory runs out."""
        self.process.kill()
        self.process.wait()
        self.finish()


class WorkerPool:
    """All workers. Use it as a context manager: it kills the workers at its end.

    Thread safety: Only the demo's main thread uses it. One thread a worker reads the
    worker's output into a queue.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, pause: float
    ) -> None:
        self.tracked = TrackedOperations()
        self._folder = folder
        self._environment = dict(environment)
        self._pause = pause
        self._workers: list[Worker] = []
        self._readers: list[threading.Thread] = []
        self._lines: queue.SimpleQueue[tuple[Worker, bytes]] = queue.SimpleQueue()

    def start_worker(self, job: str, end: int, *, start: int = 0) -> Worker:
        """Start a worker that tracks operations ``start`` to ``end - 1`` of a job."""
        module = "outlay._cli.commands.demo.worker"
        words = [job, str(start), str(end), str(self._pause)]
        with self._log(len(self._workers)).open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", module, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                # The demo handles Ctrl-C. The workers must not get it.
                start_new_session=True,
            )
        worker = Worker(job, start, end, process)
        reader = threading.Thread(target=self._read, args=[worker], daemon=True)
        reader.start()
        self._workers.append(worker)
        self._readers.append(reader)
        return worker

    def finish(self, worker: Worker) -> None:
        """Let a worker deliver all events, and wait for its stats."""
        worker.finish()
        self.wait(lambda: bool(worker.stats))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Read reports until ``condition`` holds.

        Raises:
            CommandFailedError: A worker died that was not killed, or no worker
                reports any more.
        """
        last_report = time.monotonic()
        while not condition():
            with suppress(queue.Empty):
                self._apply(*self._lines.get(timeout=_POLL_SECONDS))
                last_report = time.monotonic()
            if time.monotonic() - last_report > _MAX_SILENCE:
                raise CommandFailedError("the demo is stuck: no worker reports")

    def stats(self) -> Counter[str]:
        """Return the sums of the stats of all workers that finished."""
        counts: Counter[str] = Counter()
        for worker in self._workers:
            counts.update(worker.stats)
        return counts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        for reader in self._readers:
            reader.join()

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number + 1}.log"

    def _read(self, worker: Worker) -> None:
        with cast("IO[bytes]", worker.process.stdout) as output:
            for line in output:
                self._lines.put((worker, line))
        self._lines.put((worker, _END))

    def _apply(self, worker: Worker, line: bytes) -> None:
        if line == _END:
            worker.has_ended = True
            if (code := worker.process.wait()) not in {0, -signal.SIGKILL}:
                log = self._log(self._workers.index(worker)).read_text()
                raise CommandFailedError(f"a worker died with exit code {code}:\n{log}")
            return
        report = json.loads(line)
        if isinstance(report, int):
            worker.next_index = report + 1
            self.tracked.add(worker.operations[report])
        else:
            report["dropped"] = sum(report["dropped"].values())
            # Counts can be added. Ages and groups of counts cannot.
            worker.stats = {k: v for k, v in report.items() if isinstance(v, int)}
