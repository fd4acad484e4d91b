"""Costs tracked by the workers of pre-forking servers, some of which are killed."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.processes.prefork import Address, Brand, Visits, site, visit, visit_everyone
from tests.support.events import total_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.processes.ledger import Ledger

pytestmark = pytest.mark.slow

_BEFORE: Final = range(1, 61)
_AFTER: Final = range(61, 81)  # and on, until both workers have answered
_WORKERS: Final = 2
_KILL_AFTER: Final = frozenset({30})
_MODULE: Final = "tests.processes.web_application"


def _gunicorn(*options: str) -> Brand:
    def command(address: Address) -> Sequence[str]:
        return (
            *(
                sys.executable,
                "-m",
                "gunicorn",
                f"{_MODULE}:wsgi",
                "--workers",
                f"{_WORKERS}",
            ),
            *("--bind", f"fd://{address.descriptor}", "--no-control-socket", *options),
        )

    return Brand(command)


def _granian(address: Address) -> Sequence[str]:
    return (
        *(
            sys.executable,
            "-m",
            "granian",
            f"{_MODULE}:wsgi",
            "--workers",
            f"{_WORKERS}",
        ),
        *("--interface", "wsgi", "--blocking-threads", "2"),
        *("--port", str(address.port)),
        *("--respawn-failed-workers", "--respawn-interval", "0.1"),
    )


def _uvicorn(address: Address) -> Sequence[str]:
    return (
        *(
            sys.executable,
            "-m",
            "uvicorn",
            f"{_MODULE}:asgi",
            "--workers",
            f"{_WORKERS}",
        ),
        *("--fd", str(address.descriptor)),
    )


_THREADS: Final = ("--worker-class", "gthread", "--threads", "4")
_GEVENT: Final = ("--worker-class", "gevent")

_GUNICORNS: Final = {
    "sync": _gunicorn(),
    "sync, preloaded": _gunicorn("--preload"),
    "threads": _gunicorn(*_THREADS),
    "threads, preloaded": _gunicorn("--preload", *_THREADS),
    "gevent": _gunicorn(*_GEVENT),
    "gevent, preloaded": _gunicorn("--preload", *_GEVENT),
}
_OTHERS: Final = {
    "granian": Brand(_granian, inherits=False),
    "uvicorn": Brand(_uvicorn),
}


@pytest.mark.parametrize("brand", _GUNICORNS.values(), ids=_GUNICORNS.keys())
def test_gunicorn_every_answered_request_counts_once_though_workers_are_killed(
    ledger: Ledger, brand: Brand
) -> None:
    """What a request was answered for is in the total, to the last digit.

    The workers ship on their own: a thread does not survive a fork, so a client made
    before it must start over in each of them. So do the workers that the master starts
    in place of killed ones. What those left behind, a sibling or successor delivers.
    """
    with site(brand, ledger.environment()) as running:
        before = visit(running, _BEFORE, kill_after=_KILL_AFTER)
        for worker in before.survivors:
            os.kill(worker, signal.SIGKILL)
        after = visit_everyone(running, _AFTER, workers=_WORKERS)
        _wait_for_the_living(ledger, after)
        logged = running.stop()

    _check(ledger, [0, *before.workers, *after.workers])
    assert not before.everyone & after.everyone
    assert "Traceback" not in logged, logged


@pytest.mark.parametrize("brand", _OTHERS.values(), ids=_OTHERS.keys())
def test_every_answered_request_counts_once_though_the_whole_site_is_killed(
    ledger: Ledger, brand: Brand
) -> None:
    """First a worker at its work, in the end the master with all workers at once."""
    with site(brand, ledger.environment()) as running:
        visits = visit(running, _BEFORE, kill_after=_KILL_AFTER)
        running.kill()

    _check(ledger, [0, *visits.workers])


def _wait_for_the_living(ledger: Ledger, visits: Visits) -> None:
    ledger.wait_for(
        lambda: ledger.counts.accepted >= len(visits.workers), "what was answered"
    )


def _check(ledger: Ledger, answered: Sequence[int]) -> None:
    ledger.inherit()
    assert ledger.total == total_of(answered)
    assert ledger.counts.accepted == len(answered)
    assert ledger.counts.conflicts == 0
