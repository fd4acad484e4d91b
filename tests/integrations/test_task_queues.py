"""Costs of tasks belong to the customers that the tasks were sent for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from redis import Redis

from tests.integrations.customers import CUSTOMERS, totals
from tests.integrations.queue_tasks import (
    DEADLY,
    FAILING,
    FOLDER_VARIABLE,
    SOCKET_VARIABLE,
    TASKS,
)
from tests.processes.ledger import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.processes.ledger import Ledger

_ROOT: Final = Path(__file__).parents[2]
_TASKS: Final = "tests.integrations.{}_tasks"
_REDIS: Final = shutil.which("redis-server")
_CHAINED: Final = (100, 105)
_GROUPED: Final = (110, 115)


class _Queue(NamedTuple):
    """A task queue.

    Attributes:
        name: The name of its package.
        worker: The command of its worker.
        numbers: The numbers of the tasks that are sent.
    """

    name: str
    worker: tuple[str, ...]
    numbers: tuple[int, ...] = tuple(TASKS)


_CELERY: Final = _Queue(
    "celery",
    (
        *("celery", "-A", _TASKS.format("celery"), "worker", "--loglevel", "WARNING"),
        *("--pool", "prefork", "--concurrency", "2"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ),
    (*TASKS, *_CHAINED, *_GROUPED),
)
_WITH_REDIS: Final = (
    _Queue("rq", ("rq.cli", "worker", "-c", _TASKS.format("rq"), "-u", "{url}", "-q")),
    _Queue(
        "dramatiq",
        (
            *("dramatiq", _TASKS.format("dramatiq"), "--processes", "2"),
            *("--threads", "4"),
        ),
        (*TASKS, *_CHAINED),
    ),
    _Queue("arq", ("arq", _TASKS.format("arq") + ".WorkerSettings")),
)


@pytest.fixture(scope="module")
def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run a Redis server that listens on a socket in a folder."""
    if _REDIS is None:
        pytest.skip("redis-server is not on this machine: apt-get install redis-server")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    options = ("--port", "0", "--unixsocket", path, "--save", "", "--dir", folder)
    with subprocess.Popen([_REDIS, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for_redis(process, path)
            yield path
        finally:
            process.terminate()


def _wait_for_redis(process: subprocess.Popen[bytes], path: Path) -> None:
    until = time.monotonic() + DEADLINE
    with socket.socket(socket.AF_UNIX) as connection:
        while connection.connect_ex(str(path)):
            assert time.monotonic() < until, "Redis does not start"
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert process.wait(0.02) is None, "Redis has ended"


@pytest.mark.slow
def test_celery_tasks_keep_their_customers_though_workers_are_killed(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Alone, in groups and chains, tried again, and beside other packages' headers.

    A task that is killed runs again, as the same operation, and counts once.
    """
    for name in ("queue", "control"):
        (tmp_path / name).mkdir()
    environ = {**ledger.environment(), FOLDER_VARIABLE: str(tmp_path)}

    _run_all(_CELERY, environ, ledger)

    _check(_CELERY, ledger)
    assert _ran_twice(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("queue", _WITH_REDIS, ids=lambda queue: queue.name)
def test_tasks_keep_their_customers_though_workers_are_killed(
    ledger: Ledger, tmp_path: Path, redis_socket: Path, queue: _Queue
) -> None:
    """Also when they are tried again; a killed one counts once, as one operation."""
    with Redis(unix_socket_path=str(redis_socket)) as redis:
        redis.flushall()
        environ = {
            **ledger.environment(),
            FOLDER_VARIABLE: str(tmp_path),
            SOCKET_VARIABLE: str(redis_socket),
        }

        _run_all(queue, environ, ledger, redis)

    _check(queue, ledger)
    assert _ran_twice(tmp_path)


def _ran_twice(folder: Path) -> bool:
    """Return whether a task has failed, and a task has killed its process."""
    return all((folder / f"began-{number}").exists() for number in (FAILING, DEADLY))


def _check(queue: _Queue, ledger: Ledger) -> None:
    ledger.inherit()
    found = {customer: ledger.total_of(customer) for customer in CUSTOMERS}
    assert found == totals(queue.numbers)
    assert ledger.counts.accepted == len(queue.numbers)


def _run_all(
    queue: _Queue,
    environ: Mapping[str, str],
    ledger: Ledger,
    redis: Redis | None = None,
) -> None:
    """Send all tasks, and run workers until their costs have arrived."""
    module = _TASKS.format(queue.name)
    sent = subprocess.run(
        [sys.executable, "-m", module], cwd=_ROOT, env=environ, check=False, timeout=60
    )
    assert sent.returncode == 0

    def arrived() -> bool:
        return ledger.counts.accepted >= len(queue.numbers)

    until = time.monotonic() + 2 * DEADLINE
    while not arrived():
        with _worker(queue, environ) as worker:
            while not arrived() and worker.poll() is None:
                assert time.monotonic() < until, ledger.counts
                with ledger._changed:
                    ledger._changed.wait_for(arrived, 0.2)
            worker.terminate()
            worker.wait(DEADLINE)
        if redis is not None:  # what expires after a minute, when a worker is killed
            for key in redis.scan_iter("arq:in-progress:*"):
                redis.delete(key)


@contextmanager
def _worker(
    queue: _Queue, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    url = f"unix://{environ.get(SOCKET_VARIABLE)}"
    process = subprocess.Popen(
        [sys.executable, "-m", *(each.format(url=url) for each in queue.worker)],
        cwd=_ROOT,
        env=environ,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE)
