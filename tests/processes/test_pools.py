"""Costs tracked in the children of pools: forked, spawned, terminated, killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.processes import pool_program
from tests.processes.ledger import DEADLINE
from tests.support.events import total_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.processes.ledger import Ledger

pytestmark = pytest.mark.slow

_ROOT: Final = Path(__file__).parents[2]
_TASKS: Final = 20
_CELERY: Final = "tests.processes.celery_application"  # importing it configures outlay
_DEADLY: Final = 2  # of the tasks
_CUSTOMERS: Final = "tests.processes.celery_customers"  # as does this


def _run(environ: Mapping[str, str], *words: str) -> str:
    """Run a module to its successful end, and return what it said."""
    # Python 3.12 warns of forks in programs with threads; they are the point here.
    quiet = ("-W", "ignore::DeprecationWarning")
    done = subprocess.run(
        [sys.executable, *quiet, "-m", *words],
        cwd=_ROOT,
        env=environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )

    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_a_program_delivers_what_its_pool_has_tracked(
    ledger: Ledger, kind: str, start_method: str
) -> None:
    """Pools end their processes without exit hooks, or in the middle of something.

    What those leave behind the parent inherits: when its close() returns, all of it
    has arrived.
    """
    program = pool_program.__name__

    said = _run(ledger.environment(linger=1), program, kind, start_method)

    assert said == "True {}\n"
    assert ledger.total == total_of(range(pool_program.LAST + 1))
    assert ledger.inherit().recovered == 0


def test_a_task_that_kills_its_process_has_tracked_its_cost(ledger: Ledger) -> None:
    """The pool is broken and the result is lost; the provider was paid all the same."""
    program = pool_program.__name__

    said = _run(ledger.environment(linger=1), program, "broken-executor", "fork")

    assert said == "True {}\n"
    assert ledger.total == total_of(range(pool_program.LAST + 1))


def test_celery_tasks_count_once_though_their_processes_are_killed(
    ledger: Ledger, tmp_path: Path
) -> None:
    """A killed task is run again, tracks the same operation again, and counts once."""
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    environ = {**ledger.environment(), "TEST_BROKER_FOLDER": str(tmp_path)}
    _run(environ, _CELERY, str(_TASKS))

    with _celery_worker(environ, _CELERY) as worker:
        ledger.wait_for(lambda: len(_killed(tmp_path)) == _DEADLY, "the deaths")
        ledger.wait_for(lambda: ledger.counts.accepted >= _TASKS, "all tasks")
        worker.terminate()
        logged, _ = worker.communicate(timeout=DEADLINE)
    ledger.inherit()

    assert ledger.total == total_of(range(1, _TASKS + 1))
    assert ledger.counts.accepted == _TASKS
    assert logged.count("signal 9 (SIGKILL)") >= _DEADLY, logged


def test_celery_tasks_belong_to_whom_they_were_sent_for(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Sent alone, in a group or a chain, or again. Unattributed ones remain so."""
    sent = {"cus_1": [*range(1, 6)], "cus_2": [*range(6, 11)], "": [*range(11, 16)]}
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    environ = {**ledger.environment(), "TEST_BROKER_FOLDER": str(tmp_path)}
    _run(environ, _CUSTOMERS, json.dumps(sent))

    with _celery_worker(environ, _CUSTOMERS):
        every = sum(map(len, sent.values()))
        ledger.wait_for(lambda: ledger.counts.accepted >= every, "all tasks")

    for customer, numbers in sent.items():
        assert ledger.total_of(customer or "unattributed") == total_of(numbers)


def _killed(folder: Path) -> list[Path]:
    return list(folder.glob("died-*"))


@contextmanager
def _celery_worker(
    environ: Mapping[str, str], module: str
) -> Iterator[subprocess.Popen[str]]:
    options = ("--pool", "prefork", "--concurrency", "2", "--loglevel", "WARNING")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", module, "worker", *options, *quiet],
        cwd=_ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.communicate(timeout=DEADLINE)
