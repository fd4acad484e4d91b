"""Processes that track, and tell the trial of each event that they track.

They are forked by a server that has imported outlay already (multiprocessing's
"forkserver"): a trial costs milliseconds, and no child inherits a thread or a lock of
the trial's. They end as multiprocessing's children do, without exit hooks, or by kill.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Final

from tests.faults.judge import DEADLINE
from tests.support.events import track

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from typing import Concatenate, ParamSpec

    from outlay import Client
    from tests.faults.judge import Judge

    P = ParamSpec("P")

_context: Final = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "outlay",
        "outlay._shipping.planner",
        "outlay._shipping.http_transport",
        "httpx",
        "tests.faults.matrix",
    ]
)

_never: Final = threading.Event()


class Teller:
    """A child's end of the line."""

    def __init__(self, line: Connection) -> None:
        self._line = line

    def track(self, client: Client, number: int) -> None:
        """Track an event, then tell of it."""
        self.tell(number, track(client, number))

    def tell(self, number: int, key: str) -> None:
        """Tell that event ``number`` is tracked; forked children may, too."""
        # One write of a few bytes, which the kernel does not tear.
        self._line.send_bytes(f"{number} {key}".encode())


class Child:
    """A process that works until it is done, or killed."""

    def __init__(
        self,
        judge: Judge,
        work: Callable[Concatenate[Teller, P], None],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Start ``work`` with a teller and the arguments, which are pickled."""
        self._judge = judge
        self._line, theirs = _context.Pipe(duplex=False)
        self._process = _context.Process(
            target=_run, args=(work, theirs, args, kwargs), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def line(self) -> Connection:
        """Where it tells; readable when there is something to `hear`."""
        return self._line

    def hear(self) -> bool:
        """Wait for the next event that it tells of; return False if none will come."""
        try:
            assert self._line.poll(DEADLINE), "a child hangs"
            number, key = self._line.recv_bytes().split()
        except EOFError:
            return False
        self._judge.tell(int(number), key.decode())
        return True

    def hear_some(self, count: int) -> None:
        """Wait until it has told of so many events, or ended."""
        for _ in range(count):
            if not self.hear():
                return

    def kill(self, *, after: float = 0.0) -> None:
        """Kill it, ``after`` so many seconds, and hear what it had told."""
        self._process.join(after)
        self._process.kill()
        self.finish(code=None)

    def finish(self, *, code: int | None = 0) -> None:
        """Hear all that it tells, and wait for its end.

        Args:
            code: its exit code; None: it may be killed, or be done already.
        """
        while self.hear():
            pass
        self._line.close()
        self._process.join(DEADLINE)
        expected = {code} if code is not None else {0, -signal.SIGKILL}
        assert self._process.exitcode in expected, self._process.exitcode
        self._process.close()


def _run(
    work: Callable[..., None],
    line: Connection,
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    logging.getLogger("outlay").addHandler(logging.NullHandler())  # it has to complain
    work(Teller(line), *args, **kwargs)


def wait_to_be_killed() -> None:
    """Do nothing more; threads go on."""
    _never.wait(DEADLINE)


def die() -> None:
    """Be killed now."""
    os.kill(os.getpid(), signal.SIGKILL)
