"""Evaluate budgets in the background, after events arrived.

Posts only note which customers had events. One task evaluates their budgets soon after,
and rests in proportion to the time that it took. Every half minute, and at the start,
it evaluates all budgets, if anything was written. That finds the events of a server
that was killed, and the writes of other servers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from outlay.server._errors import StoreUnavailableError
from outlay.server._services.budgets import Evaluation, newly_passed
from outlay.server._wire.problems import HttpProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from outlay.server._records import Event
    from outlay.server._services.query_pool import QueryPool
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store

log = logging.getLogger("outlay.server")

_REST_SECONDS: Final = 1.0  # at least, between two evaluations
_REST_SHARE: Final = 4  # times the evaluation's own time, so that it takes a fifth
_SWEEP_SECONDS: Final = 30.0
_MOST_CUSTOMERS: Final = 5000  # noted one by one; more stand for all
_LATE: Final = 48 * 3_600_000_000  # microseconds; older events count in no sweep


class _Changes:
    """The costs of one organization that changed since the last evaluation."""

    def __init__(self) -> None:
        self.customers: set[str] | None = set()
        self.since = 2**63 - 1

    def add(self, customer: str, at: int) -> None:
        self.since = min(self.since, at)
        if self.customers is not None:
            self.customers.add(customer)
            if len(self.customers) > _MOST_CUSTOMERS:
                self.customers = None

    def add_all(self, since: int) -> None:
        self.since = min(self.since, since)
        self.customers = None

    def merge(self, other: _Changes) -> None:
        self.since = min(self.since, other.since)
        if self.customers is None or other.customers is None:
            self.customers = None
        else:
            self.customers |= other.customers


class BudgetWatch:
    """Finds passed thresholds, and stores them. Thread safety: the event loop's thread.

    Args:
        store: The store.
        commits: The thread that writes.
        queries: The pool that computes costs.
        now: The source of the time, in microseconds since 1970.
        stored: A function that is called when new messages are stored.

    Attributes:
        passed: The number of thresholds that were passed since the start.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        queries: QueryPool,
        now: Callable[[], int],
        stored: Callable[[], None],
    ) -> None:
        self._store = store
        self._commits = commits
        self._queries = queries
        self._now = now
        self._stored = stored
        self._watched: set[str] = set()  # the organizations with budgets
        self._changes: dict[str, _Changes] = {}
        self._version = -1  # of the store at the last sweep
        self._wake = asyncio.Event()
        self.passed = 0

    def note(self, namespace: str, events: Iterable[Event]) -> None:
        """Note new events. It is fast, because posts call it."""
        if namespace not in self._watched:
            return
        changes = self._changes.setdefault(namespace, _Changes())
        for event in events:
            changes.add(event.customer, event.at)
        self._wake.set()

    def note_corrected(self, namespace: str) -> None:
        """Note corrections, or a changed cost metric. Earlier costs differ."""
        if namespace not in self._watched:
            return
        changes = self._changes.setdefault(namespace, _Changes())
        changes.add_all(self._now() - _LATE)
        self._wake.set()

    def note_all(self, namespace: str) -> None:
        """Note that all budgets of an organization must be evaluated."""
        self._watched.add(namespace)
        self._changes.setdefault(namespace, _Changes()).add_all(self._now())
        self._wake.set()

    async def run(self) -> None:
        """Evaluate budgets until the task is cancelled."""
        next_sweep = time.monotonic()
        while True:
            started = time.monotonic()
            if started >= next_sweep:
                self._begin_sweep()
                next_sweep = started + _SWEEP_SECONDS
            await self._evaluate_all()
            took = time.monotonic() - started
            await asyncio.sleep(max(_REST_SECONDS, _REST_SHARE * took))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_sweep - time.monotonic())):
                    await self._wake.wait()

    def _begin_sweep(self) -> None:
        """Note all budgets, unless nothing was written since the last sweep."""
        try:
            version = self._store.version()
            if version == self._version:
                return
            with self._store.reading() as reader:
                self._watched = reader.budget_namespaces()
        except StoreUnavailableError:
            return  # the next sweep does it
        self._version = version
        for namespace in self._watched:
            changes = self._changes.setdefault(namespace, _Changes())
            changes.add_all(self._now() - _LATE)

    async def _evaluate_all(self) -> None:
        self._wake.clear()
        waiting, self._changes = self._changes, {}
        for namespace, changes in waiting.items():
            try:
                await self._evaluate(namespace, changes)
            except (HttpProblem, StoreUnavailableError) as error:
                log.warning(
                    "the budgets of %s could not be evaluated; the server tries again "
                    "(%s)",
                    namespace,
                    error,
                )
                self._changes.setdefault(namespace, _Changes()).merge(changes)
            except Exception:
                log.exception("the budgets of %s could not be evaluated", namespace)

    async def _evaluate(self, namespace: str, changes: _Changes) -> None:
        customers = changes.customers
        wanted = Evaluation(
            namespace,
            None if customers is None else frozenset(customers),
            changes.since,
        )
        passed = await self._queries.run(_forever, newly_passed, wanted, self._now())
        if not passed:
            return
        count = await self._commits.run(lambda: self._store.pass_thresholds(passed))
        self.passed += count
        if count:
            log.info("budgets passed thresholds: %s count=%d", namespace, count)
            self._stored()


async def _forever() -> None:
    """Wait, because an evaluation has no client that may leave."""
    await asyncio.Event().wait()
