"""Each customer's total is exact, though workers of web servers are killed."""

from __future__ import annotations

import os
import select
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.integrations.customers import CUSTOMERS, totals
from tests.processes.ledger import DEADLINE
from tests.processes.prefork import Address, Brand, site, visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tests.processes.ledger import Ledger

pytestmark = pytest.mark.slow

_REQUESTS: Final = range(1, 81)
_KILL_AFTER: Final = frozenset({40})


def _uvicorn(application: str) -> Brand:
    return Brand(
        lambda address: (
            *(sys.executable, "-m", "uvicorn", application, "--workers", "2"),
            *("--fd", str(address.descriptor), "--lifespan", "off"),
        )
    )


def _granian(application: str) -> Brand:
    def command(address: Address) -> Sequence[str]:
        return (
            *(sys.executable, "-m", "granian", application, "--interface", "asgi"),
            *("--workers", "2", "--port", str(address.port)),
            *("--respawn-failed-workers", "--respawn-interval", "0.1"),
        )

    return Brand(command, inherits=False)


def _gunicorn(application: str) -> Brand:
    return Brand(
        lambda address: (
            *(sys.executable, "-m", "gunicorn", application, "--workers", "2"),
            *("--bind", f"fd://{address.descriptor}", "--no-control-socket"),
            *("--worker-class", "gthread", "--threads", "4", "--keep-alive", "0"),
        )
    )


@contextmanager
def ended(pids: Iterable[int]) -> Iterator[None]:
    """Wait until processes that the block kills have let go of their files."""
    with ExitStack() as stack:
        poll, waiting = select.poll(), set()
        for pid in pids:
            descriptor = os.pidfd_open(pid)
            stack.callback(os.close, descriptor)
            poll.register(descriptor, select.POLLIN)
            waiting.add(descriptor)
        yield
        while waiting:
            done = poll.poll(DEADLINE * 1000)
            assert done, "a killed process does not end"
            for descriptor, _ in done:
                poll.unregister(descriptor)
                waiting.discard(descriptor)


@pytest.mark.parametrize(
    ("server", "application"),
    [
        pytest.param(_uvicorn, "fastapi_application:site", id="fastapi"),
        pytest.param(_granian, "litestar_application:site", id="litestar"),
        pytest.param(_gunicorn, "flask_application:app", id="flask"),
        pytest.param(_gunicorn, "django_application:wsgi_site", id="django"),
        pytest.param(_uvicorn, "django_application:asgi_site", id="django, async"),
    ],
)
def test_each_customer_has_its_own_costs_though_workers_are_killed(
    ledger: Ledger, server: Callable[[str], Brand], application: str
) -> None:
    """Requests at the same time, in all ways that the framework runs code.

    A request whose worker is killed is sent again, and counts once. In the end the
    whole server is killed.
    """
    brand = server(f"tests.integrations.{application}")
    with site(brand, ledger.environment()) as running:
        visits = visit(running, _REQUESTS, kill_after=_KILL_AFTER)
        with ended(visits.survivors):
            running.kill()
    ledger.inherit()

    found = {customer: ledger.total_of(customer) for customer in CUSTOMERS}
    assert found == totals(visits.workers)
    assert ledger.counts.accepted == len(_REQUESTS)
