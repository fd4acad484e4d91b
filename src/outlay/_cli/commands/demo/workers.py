"""The demo's worker processes, and the operations that they reported as tracked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, cast

from outlay._cli.commands.demo.worker import Operation, operations
from outlay._cli.exit_codes import CommandFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import IO

_MAX_SILENCE: Final = 30.0  # seconds without a report from any worker
_POLL_SECONDS: Final = 0.05  # between looks at the reports


class Worker:
    """One worker process; see `outlay._cli.commands.demo.worker`.

    It prints into a file, which is still there when it is dead.

    Attributes:
        job: The name of its job.
        next_index: The first operation of the job that it has not reported.
        counts: The counts of its client, once it has delivered all events.
    """

    def __init__(
        self,
        job: str,
        span: tuple[int, int],
        pause: float,
        files: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.job = job
        self.next_index, end = span
        self.counts: dict[str, int] = {}
        self._operations = [*operations(job, end)]
        self._output, self._errors = files, files.with_suffix(".log")
        self._bytes_read = 0
        words = [job, *map(str, span), str(pause)]
        with files.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "outlay._cli.commands.demo.worker", *words],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                env=environment,
                # The demo handles Ctrl-C. The workers must not get it.
                start_new_session=True,
            )
        self._input = cast("IO[bytes]", self._process.stdin)

    def reports(self) -> list[Operation]:
        """Return the operations that it has tracked since the last look.

        Raises:
            CommandFailedError: It died, and was not killed.
        """
        code = self._process.poll()
        reports = [json.loads(line) for line in self._new_lines()]
        if reports and isinstance(reports[-1], dict):
            self.counts = reports.pop()
        elif code not in {None, -signal.SIGKILL} and not self.counts:
            errors = self._errors.read_text()
            raise CommandFailedError(f"a worker died with exit code {code}:\n{errors}")
        if reports:
            self.next_index = reports[-1] + 1
        return [self._operations[index] for index in reports]

    def _new_lines(self) -> list[bytes]:
        with self._output.open("rb") as output:
            output.seek(self._bytes_read)
            new = output.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._bytes_read += len(whole)
        return whole.splitlines()

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


class WorkerPool:
    """All workers. Use it as a context manager: it kills the workers at its end.

    The demo keeps the record of tracked operations without outlay's help.

    Attributes:
        tracked: The operations that `track_cost` returned for, by id.
        reports: The number of times that it returned.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, pause: float
    ) -> None:
        self.tracked: dict[str, Operation] = {}
        self.reports = 0
        self._folder = folder
        self._environment = environment
        self._pause = pause
        self._workers: list[Worker] = []

    def start_worker(self, job: str, end: int, *, start: int = 0) -> Worker:
        """Start a worker that tracks operations ``start`` to ``end - 1`` of a job."""
        files = self._folder / f"worker-{len(self._workers) + 1}.out"
        span = (start, end)
        worker = Worker(job, span, self._pause, files, self._environment)
        self._workers.append(worker)
        return worker

    def wait(self, condition: Callable[[], bool]) -> None:
        """Read reports until ``condition`` holds.

        Raises:
            CommandFailedError: A worker died that was not killed, or no worker
                reports any more.
        """
        last_report = time.monotonic()
        pause = threading.Event()
        while not condition():
            if self._read_reports():
                last_report = time.monotonic()
            elif time.monotonic() - last_report > _MAX_SILENCE:
                raise CommandFailedError("the demo is stuck: no worker reports")
            else:
                pause.wait(_POLL_SECONDS)

    def _read_reports(self) -> int:
        """Return how many operations the workers have tracked since the last look."""
        reports = [one for worker in self._workers for one in worker.reports()]
        self.tracked.update((one.operation_id, one) for one in reports)
        self.reports += len(reports)
        return len(reports)

    def kill(self, worker: Worker) -> None:
        """Kill a worker, and read what it reported until then."""
        worker.kill()
        self._read_reports()

    def finish(self, worker: Worker) -> None:
        """Let a worker deliver all events, and wait for its counts."""
        worker.finish()
        self.wait(lambda: bool(worker.counts))

    def counts(self) -> Counter[str]:
        """Return the sums of the counts of all workers that finished."""
        return sum((Counter(each.counts) for each in self._workers), Counter())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
