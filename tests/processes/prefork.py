"""Pre-forking web servers: started, visited while workers are killed, stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from tests.processes.ledger import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_ROOT: Final = Path(__file__).parents[2]
_VISITORS: Final = 4
_ANSWER_SECONDS: Final = 10.0  # of one attempt; another worker is asked after it


class Address(NamedTuple):
    """Where a server is to listen.

    Attributes:
        port: on loopback.
        descriptor: of a socket that is bound to it.
    """

    port: int
    descriptor: int


class Brand(NamedTuple):
    """A web server's program.

    Attributes:
        command: makes the command line.
        inherits: whether it takes a socket that listens already. Then the first
            visitors wait for the first worker, and none is refused, ever.
    """

    command: Callable[[Address], Sequence[str]]
    inherits: bool = True


class Site(NamedTuple):
    """A web server with several workers.

    Attributes:
        port: where it listens, on loopback.
        process: its master.
    """

    port: int
    process: subprocess.Popen[str]

    def stop(self) -> str:
        """Ask the master to end in order; return what was logged."""
        self.process.terminate()
        logged, _ = self.process.communicate(timeout=DEADLINE)
        return logged

    def kill(self) -> None:
        """Kill the master and all workers, and wait until they hold no lock.

        A killed worker holds its locks for some milliseconds longer than its master.
        """
        with contextlib.ExitStack() as members:
            ends = [members.enter_context(end) for end in _ends(self.process.pid)]
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # a session of its own
            self.process.wait(DEADLINE)
            for end in ends:
                assert select.select([end], [], [], DEADLINE)[0], "it outlives SIGKILL"
        if self.process.stdout is not None:
            self.process.stdout.close()


def _ends(group: int) -> Iterator[IO[bytes]]:
    """Yield a file for each process of a group. It is readable when the process ended.

    Source: pidfd_open(2).
    """
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(int(path.name)) == group:
                yield os.fdopen(os.pidfd_open(int(path.name)), "rb", buffering=0)


class Visits(NamedTuple):
    """What was answered.

    Attributes:
        workers: the worker that answered, by the number asked for.
        killed: the workers that were killed meanwhile.
    """

    workers: dict[int, int]
    killed: set[int]

    @property
    def everyone(self) -> set[int]:
        """The workers that answered."""
        return set(self.workers.values())

    @property
    def survivors(self) -> set[int]:
        """The workers that answered and were not killed."""
        return self.everyone - self.killed


@contextmanager
def site(brand: Brand, environ: Mapping[str, str]) -> Iterator[Site]:
    """Run a web server with these environment variables."""
    with socket.socket() as listener:
        # So that the port is ours, and a server that opens it itself can have it, too.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        address = Address(listener.getsockname()[1], listener.fileno())
        if brand.inherits:
            listener.listen(64)
        process = subprocess.Popen(
            brand.command(address),
            cwd=_ROOT,
            env=environ,
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    running = Site(address.port, process)
    try:
        yield running
    finally:
        running.kill()


def visit(
    running: Site, numbers: Sequence[int], *, kill_after: frozenset[int] = frozenset()
) -> Visits:
    """Ask for all ``numbers``, several at a time, each until it is answered.

    Args:
        running: the server.
        numbers: what to ask for.
        kill_after: the worker that answers one of these is killed at once.
    """
    killed: set[int] = set()

    def ask(number: int) -> int:
        pid = _ask(running, number)
        if number in kill_after:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        return pid

    with ThreadPoolExecutor(_VISITORS) as visitors:
        workers = dict(zip(numbers, visitors.map(ask, numbers), strict=True))
    return Visits(workers, killed)


def visit_everyone(running: Site, numbers: range, *, workers: int) -> Visits:
    """Ask for ``numbers``, and for the next ones until ``workers`` have answered.

    A worker that has answered is up, and will hear when it is told to stop.
    """
    until = time.monotonic() + DEADLINE
    visits = visit(running, numbers)
    while len(visits.everyone) < workers and time.monotonic() < until:
        numbers = range(numbers.stop, numbers.stop + len(numbers))
        visits.workers.update(visit(running, numbers).workers)
    assert len(visits.everyone) == workers, visits.everyone
    return visits


def _ask(running: Site, number: int) -> int:
    """Return the process id that answered.

    An attempt whose worker is killed says nothing about whether the cost was tracked.
    The operation is the same the next time, so it counts once.
    """
    until = time.monotonic() + DEADLINE
    while True:
        connection = http.client.HTTPConnection(
            "127.0.0.1", running.port, timeout=_ANSWER_SECONDS
        )
        try:
            connection.request("GET", f"/{number}")
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            return int(body)
        except (OSError, http.client.HTTPException):
            if time.monotonic() > until or running.process.poll() is not None:
                raise
        finally:
            connection.close()
