"""The demo's worker processes, and the operations that they reported as tracked."""

from __future__ import annotations

import json
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


class TotalKey(NamedTuple):
    """The labels of one total."""

    customer: str
    metric: str
    provider: str


class TrackedOperations:
    """The operations that `track_cost` returned for, each once.

    The demo keeps this record without outlay's help.

    Attributes:
        repeated: How often an operation was tracked again.
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
        next_index: The first operation of the job that it has not reported.
        stats: The client's stats, once it has delivered all events.
        has_ended: Whether it has ended and all its reports were read.
    """

    def __init__(
        self, job: str, start: int, process: subprocess.Popen[bytes], log: Path
    ) -> None:
        self.job = job
        self.next_index = start
        self.stats: dict[str, int] = {}
        self.has_ended = False
        self._process = process
        self._input = cast("IO[bytes]", process.stdin)
        self._log = log

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
        self._process.kill()
        self._process.wait()
        self.finish()

    def check(self) -> None:
        """Check that it runs, has finished, or was killed.

        Raises:
            CommandFailedError: It died.
        """
        if self.has_ended and self._process.wait() not in {0, -signal.SIGKILL}:
            code, log = self._process.returncode, self._log.read_text()
            raise CommandFailedError(f"a worker died with exit code {code}:\n{log}")


class WorkerPool:
    """All workers. Use it as a context manager: it kills the workers at its end.

    Thread safety: Only the demo's main thread uses it. One thread a worker reads its
    output.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, seed: int, pause: float
    ) -> None:
        self.tracked = TrackedOperations()
        self._folder = folder
        self._environment = dict(environment)
        self._seed = seed
        self._pause = pause
        self._workers: list[Worker] = []
        self._readers: list[threading.Thread] = []
        self._reported = threading.Condition()

    def start_worker(self, job: str, end: int, *, start: int = 0) -> Worker:
        """Start a worker that tracks operations ``start`` to ``end - 1`` of a job."""
        log = self._folder / f"worker-{len(self._workers) + 1}.log"
        module = "outlay._cli.commands.demo.worker"
        words = [str(self._seed), job, str(start), str(end), str(self._pause)]
        with log.open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", module, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                # The demo handles Ctrl-C. The workers must not get it.
                start_new_session=True,
            )
        worker = Worker(job, start, process, log)
        todo = operations(self._seed, job, end)
        output = cast("IO[bytes]", process.stdout)
        reader = threading.Thread(
            target=self._read, args=[worker, output, todo], daemon=True
        )
        reader.start()
        self._workers.append(worker)
        self._readers.append(reader)
        return worker

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds.

        Raises:
            CommandFailedError: A worker died that was not killed, or no worker
                reports any more.
        """
        last_report = time.monotonic()
        with self._reported:
            while not condition():
                if self._reported.wait(_POLL_SECONDS):
                    last_report = time.monotonic()
                elif time.monotonic() - last_report > _MAX_SILENCE:
                    raise CommandFailedError("the demo is stuck: no worker reports")
                for worker in self._workers:
                    worker.check()

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

    def _read(self, worker: Worker, output: IO[bytes], todo: list[Operation]) -> None:
        with output:
            for line in output:
                report = json.loads(line)
                with self._reported:
                    if isinstance(report, int):
                        worker.next_index = report + 1
                        self.tracked.add(todo[report])
                    else:
                        report["dropped"] = sum(report["dropped"].values())
                        # Counts can be added; ages and groups of counts cannot.
                        worker.stats = {
                            name: count
                            for name, count in report.items()
                            if isinstance(count, int)
                        }
                    self._reported.notify_all()
        with self._reported:
            worker.has_ended = True
            self._reported.notify_all()
