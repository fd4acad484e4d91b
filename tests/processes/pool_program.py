"""A program whose pool of processes tracks costs, as does the program itself.

``python -m tests.processes.pool_program KIND`` tracks events 0 to 41: the first and the
last by the program, the others by its pool. Then it closes its client, and says how
that went.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Final

import outlay
from tests.support.events import track

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

LAST: Final = 41
_TASKS: Final = range(1, LAST)


def work(number: int) -> None:
    """Track an event with the client of this process."""
    track(outlay.default_client(), number)


def work_and_die(number: int) -> None:
    """Track an event and be killed, as by the system when memory is short."""
    work(number)
    os.kill(os.getpid(), signal.SIGKILL)


def _pool(context: BaseContext) -> None:
    with context.Pool(3) as pool:
        pool.map(work, _TASKS, chunksize=2)
    # Leaving the block terminates the workers, whatever they are doing.


def _executor(context: BaseContext) -> None:
    with ProcessPoolExecutor(3, mp_context=context) as executor:
        list(executor.map(work, _TASKS))


def _broken_executor(context: BaseContext) -> None:
    for number in _TASKS:
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            doomed = number % 10 == 0
            task = executor.submit(work_and_die if doomed else work, number)
            try:
                task.result()
            except BrokenProcessPool:
                assert doomed


_KINDS: Final[dict[str, Callable[[BaseContext], None]]] = {
    "pool": _pool,
    "executor": _executor,
    "broken-executor": _broken_executor,
}


def main(kind: str, start_method: str) -> None:
    """Run the program."""
    client = outlay.default_client()
    track(client, 0)
    _KINDS[kind](multiprocessing.get_context(start_method))
    track(client, LAST)
    report = client.close(20)
    print(report.complete, report.stats.dropped)  # noqa: T201 - a program's output


if __name__ == "__main__":
    main(*sys.argv[1:])
