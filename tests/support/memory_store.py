"""A plain store in memory: the promises of `Store`, in the most obvious way.

It computes each quantity from the events, keeps no rollups, and defers nothing. The
tests of the store run over it as well, so that they state promises and not an engine.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from outlay.server._errors import QueryStoppedError
from outlay.server._records import (
    ApiKey,
    CostMetric,
    Erasure,
    Event,
    IngestResult,
    Product,
    ReceivedEvent,
    Retention,
)
from outlay.server._storage.event_filter import contribution_matcher, event_matcher
from outlay.server._storage.event_store import CursorError, EventFilter, EventPage
from outlay.server._storage.query_limit import current_limit
from outlay.server._storage.renaming import Renaming
from outlay.server._storage.store import NO_FILTER, keep_all
from outlay.server._wire.response_models import LAST_INSTANT
from tests.support.memory_budgets import (
    BudgetTables,
    MemoryBudgetReader,
    MemoryBudgetWriter,
)
from tests.support.memory_corrections import (
    CorrectionTables,
    MemoryCorrectionReader,
    MemoryCorrectionWriter,
)
from tests.support.memory_reconciliations import (
    MemoryReconciliationReader,
    MemoryReconciliationWriter,
    ReconciliationTables,
)
from tests.support.memory_revenue import (
    MemoryRevenueReader,
    MemoryRevenueWriter,
    RevenueTables,
)

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._storage.page import Page
    from outlay.server._storage.store import Change, Moving, Review
    from outlay.server._wire.request_models import Window


class Received(NamedTuple):
    """An event, and its time of receipt in microseconds since 1970."""

    event: Event
    at: int


@dataclass
class Tables:
    """Everything that a store holds. It outlives the store, as a disk does.

    Attributes:
        events: The events in order of receipt.
        first: The place in `events` of the event that a key stands for.
        costs: The costs that are not deleted, oldest first.
        had_costs: Whether there ever was a cost.
        commits: The number of commits.
    """

    events: list[Received] = field(default_factory=list)
    first: dict[tuple[str, str], int] = field(default_factory=dict)
    costs: dict[str, CostMetric] = field(default_factory=dict)
    products: dict[tuple[str, str], Product] = field(default_factory=dict)
    keys: dict[bytes, ApiKey] = field(default_factory=dict)
    revenue: RevenueTables = field(default_factory=RevenueTables)
    corrections: CorrectionTables = field(default_factory=CorrectionTables)
    budgets: BudgetTables = field(default_factory=BudgetTables)
    reconciliations: ReconciliationTables = field(default_factory=ReconciliationTables)
    retention: dict[str, Retention] = field(default_factory=dict)
    ended_tokens: dict[bytes, int] = field(default_factory=dict)
    had_costs: bool = False
    commits: int = 0

    def snapshot(self) -> Tables:
        """Return a view that later writes do not change."""
        view = copy(self)
        view.events = [*self.events]
        view.costs = {**self.costs}
        view.products = {**self.products}
        view.keys = {**self.keys}
        view.ended_tokens = {**self.ended_tokens}
        view.revenue = self.revenue.copy()
        view.corrections = self.corrections.copy()
        view.budgets = self.budgets.copy()
        view.reconciliations = self.reconciliations.copy()
        return view


class MemoryStore(
    MemoryRevenueWriter,
    MemoryCorrectionWriter,
    MemoryBudgetWriter,
    MemoryReconciliationWriter,
):
    """Stores everything in `Tables`. Thread safety: as `Store`.

    Args:
        tables: The data. A second store on the same tables is the first one, reopened.
        dedupe_window: The time for which a key is remembered, in microseconds.
    """

    def __init__(self, tables: Tables, *, dedupe_window: int) -> None:
        self._tables = tables
        self._dedupe_window = dedupe_window
        self._lock = threading.Lock()

    def append(self, events: Sequence[Event], now: int) -> list[IngestResult]:
        """Store ``events``, the first with each key, and return a result for each."""
        with self._writing() as tables:
            return [self._append(tables, event, now) for event in events]

    def _append(self, tables: Tables, event: Event, now: int) -> IngestResult:
        place = tables.first.get((event.namespace, event.key))
        if place is not None:
            first, received_at = tables.events[place]
            if now - received_at < self._dedupe_window:
                return IngestResult(
                    first, duplicate=True, conflict=_sent(first) != _sent(event)
                )
        tables.first[event.namespace, event.key] = len(tables.events)
        tables.events.append(Received(event, now))
        tables.corrections.add_late(event, now)
        return IngestResult(event)

    def do_background_work(self, now: int) -> bool:
        """Defer nothing."""
        del now
        return False

    def add_cost(self, cost: CostMetric, review: Review = keep_all) -> None:
        """Store a new cost."""
        with self._writing() as tables:
            _replace_costs(tables, cost, review)
            tables.costs[cost.id] = cost
            tables.had_costs = True

    def add_first_costs(self, costs: Iterable[CostMetric]) -> bool:
        """Store costs, unless the store ever had a cost or an event."""
        with self._writing() as tables:
            if tables.had_costs or tables.events:
                return False
            tables.costs.update((cost.id, cost) for cost in costs)
            tables.had_costs = True
            return True

    def change_cost(
        self,
        namespace: str,
        cost_id: str,
        change: Change,
        review: Review = keep_all,
    ) -> CostMetric | None:
        """Change a cost, and return it as changed."""
        with self._writing() as tables:
            old = _cost(tables, namespace, cost_id)
            if old is None:
                return None
            new = change(old)
            if new.event_type != old.event_type:
                _replace_costs(tables, new, review)
            tables.costs[cost_id] = new
            return new

    def delete_cost(self, namespace: str, cost_id: str, now: int) -> bool:
        """Delete a cost."""
        del now
        with self._writing() as tables:
            cost = _cost(tables, namespace, cost_id)
            if cost is None or cost.billable is not None:
                return False
            del tables.costs[cost_id]
            return True

    def add_product(self, product: Product) -> None:
        """Store a product, unless its id exists."""
        with self._writing() as tables:
            tables.products.setdefault((product.namespace, product.id), product)

    def add_key(self, key: ApiKey) -> None:
        """Store an API key."""
        with self._writing() as tables:
            tables.keys[key.digest] = key

    def add_first_key(self, key: ApiKey) -> bool:
        """Store an API key, unless there is one already."""
        with self._writing() as tables:
            if tables.keys:
                return False
            tables.keys[key.digest] = key
            return True

    def revoke_key(self, key_id: str, now: int) -> None:
        """Revoke the API key with this id."""
        self._change_keys(
            lambda key: key.id == key_id and key.revoked_at is None, revoked_at=now
        )

    def rotate_key(self, key_id: str, successor: ApiKey, expires_at: int) -> None:
        """Store ``successor``, and let the key with this id expire."""

        def outlives(key: ApiKey) -> bool:
            return key.id == key_id and (
                key.expires_at is None or key.expires_at > expires_at
            )

        with self._writing() as tables:
            _change_keys(tables, outlives, expires_at=expires_at)
            tables.keys[successor.digest] = successor

    def end_token(self, digest: bytes, until: int, now: int) -> bool:
        """Note that a token is not valid any more. Return whether it was before."""
        del now
        with self._writing() as tables:
            if digest in tables.ended_tokens:
                return False
            tables.ended_tokens[digest] = until
            return True

    def begin_erasure(
        self, namespace: str, customer: str, pseudonym: str, now: int
    ) -> str:
        """Replace a customer's id by a pseudonym, and defer nothing."""
        del now
        renaming = Renaming(customer, pseudonym)
        with self._writing() as tables:
            tables.events = [
                Received(renaming.event(one.event), one.at)
                if one.event.namespace == namespace
                else one
                for one in tables.events
            ]
            tables.revenue.rename(namespace, customer, pseudonym)
            tables.budgets.delete_of(namespace, customer)
        return pseudonym

    def set_retention(self, namespace: str, keep: int | None) -> None:
        """Set how long events are kept. They may be deleted, and need not be."""
        with self._writing() as tables:
            tables.retention[namespace] = Retention(keep)

    def note_key_uses(self, digests: Collection[bytes], now: int) -> None:
        """Note that the keys with these SHA-256 were used."""
        self._change_keys(lambda key: key.digest in digests, last_used_at=now)

    def _change_keys(self, chosen: Callable[[ApiKey], bool], **fields: int) -> None:
        with self._writing() as tables:
            _change_keys(tables, chosen, **fields)

    def has_metric_for(self, namespace: str, event_type: str) -> bool:
        """Return whether some cost reads events of this type."""
        with self._lock:
            costs = _metrics_of_type(self._tables, namespace, event_type)
        return any(cost.aggregation is not None for cost in costs)

    def stored_bytes(self) -> int:
        """Return 0, because nothing is on disk."""
        return 0

    def unfolded(self) -> int:
        """Return 0, because nothing is deferred."""
        return 0

    def moving(self) -> Moving | None:
        """Return None, because no day moves."""
        return None

    def version(self) -> int:
        """Return the number of commits."""
        return self._tables.commits

    def access_version(self) -> int:
        """Return the number of commits."""
        return self._tables.commits

    @contextmanager
    def reading(self) -> Iterator[MemoryReader]:
        """Open a consistent view."""
        limit = current_limit()
        if limit is not None and limit.is_over():
            raise QueryStoppedError("the query was stopped")
        with self._lock:
            view = self._tables.snapshot()
        yield MemoryReader(view)

    def reopener(self) -> None:
        """Return None, because no other process has the tables."""

    def close(self) -> None:
        """Keep the tables."""

    @contextmanager
    def _writing_corrections(
        self,
    ) -> Iterator[tuple[CorrectionTables, dict[str, Event]]]:
        with self._writing() as tables:
            yield (
                tables.corrections,
                {each.event.id: each.event for each in tables.events},
            )

    @contextmanager
    def _writing_budgets(self) -> Iterator[BudgetTables]:
        with self._writing() as tables:
            yield tables.budgets

    @contextmanager
    def _writing_reconciliations(self) -> Iterator[ReconciliationTables]:
        with self._writing() as tables:
            yield tables.reconciliations

    @contextmanager
    def _writing_revenue(self) -> Iterator[RevenueTables]:
        with self._writing() as tables:
            yield tables.revenue

    @contextmanager
    def _writing(self) -> Iterator[Tables]:
        """Count a commit at the end of the block, or undo it and raise its error."""
        with self._lock:
            before, first = self._tables.snapshot(), {**self._tables.first}
            try:
                yield self._tables
            except BaseException:
                vars(self._tables).update({**vars(before), "first": first})
                raise
            self._tables.commits += 1


class MemoryReader(
    MemoryRevenueReader,
    MemoryCorrectionReader,
    MemoryBudgetReader,
    MemoryReconciliationReader,
):
    """One view of the tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def _corrections(self) -> CorrectionTables:
        return self._tables.corrections

    def _books(self) -> RevenueTables:
        return self._tables.revenue

    def _budgets(self) -> BudgetTables:
        return self._tables.budgets

    def _reconciliations(self) -> ReconciliationTables:
        return self._tables.reconciliations

    def cost(self, namespace: str, cost_id: str) -> CostMetric | None:
        """Return a cost that is not deleted."""
        cost = _cost(self._tables, namespace, cost_id)
        return None if cost is None or cost.billable else cost

    def billable_metric(self, namespace: str, metric_id: str) -> CostMetric | None:
        """Return a billable metric."""
        metric = _cost(self._tables, namespace, metric_id)
        return metric if metric is not None and metric.billable else None

    def billable_metrics(
        self, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        """Return a page of billable metrics, oldest first, and the number of all."""
        found = [
            metric
            for metric in self._tables.costs.values()
            if metric.namespace == namespace
            and product_id in {None, metric.product_id}
            and metric.billable is not None
        ]
        return found[page.offset : page.offset + page.limit], len(found)

    def costs(
        self, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        """Return a page of costs, oldest first, and the number of all."""
        found = [
            cost
            for cost in self._tables.costs.values()
            if cost.namespace == namespace
            and product_id in {None, cost.product_id}
            and cost.billable is None
        ]
        return found[page.offset : page.offset + page.limit], len(found)

    def costs_of_type(self, namespace: str, event_type: str) -> list[CostMetric]:
        """Return the costs that read events of this type, oldest first."""
        return _costs_of_type(self._tables, namespace, event_type)

    def unmatched_types(
        self, namespace: str, start: int, end: int, *, as_of: int | None = None
    ) -> dict[str, int]:
        """Return the number of events by type that no cost reads."""
        found = Counter(
            event.type
            for event, at in self._tables.events
            if event.namespace == namespace
            and start <= event.at < end
            and (as_of is None or at <= as_of)
        )
        counted = {
            cost.event_type
            for cost in self._tables.costs.values()
            if cost.namespace == namespace and cost.aggregation is not None
        }
        return {name: found[name] for name in sorted(found.keys() - counted)}

    def product(self, namespace: str, product_id: str) -> Product | None:
        """Return a product."""
        return self._tables.products.get((namespace, product_id))

    def products(self, namespace: str, page: Page) -> tuple[list[Product], int]:
        """Return a page of products, oldest first, and the number of all."""
        found = [
            product
            for product in self._tables.products.values()
            if product.namespace == namespace
        ]
        return found[page.offset : page.offset + page.limit], len(found)

    def key(self, digest: bytes) -> ApiKey | None:
        """Return the API key with this SHA-256."""
        return self._tables.keys.get(digest)

    def key_with_id(self, namespace: str, key_id: str) -> ApiKey | None:
        """Return the API key of an organization with this id."""
        for key in self._tables.keys.values():
            if (key.namespace, key.id) == (namespace, key_id):
                return key
        return None

    def keys(self, namespace: str, page: Page) -> tuple[list[ApiKey], int]:
        """Return a page of an organization's keys, newest first, and their number."""
        found = [
            key for key in self._tables.keys.values() if key.namespace == namespace
        ]
        found.sort(key=lambda key: (-key.created_at, key.id))
        return found[page.offset : page.offset + page.limit], len(found)

    def erasures(self, namespace: str) -> list[Erasure]:
        """Return no erasure, because none is deferred."""
        del namespace
        return []

    def retention(self, namespace: str) -> Retention:
        """Return how long an organization's events are kept."""
        return self._tables.retention.get(namespace, Retention())

    def ended_tokens(self) -> frozenset[bytes]:
        """Return the digests of tokens that are not valid any more."""
        return frozenset(self._tables.ended_tokens)

    def namespaces(self) -> set[str]:
        """Return the organizations that have a key."""
        return {key.namespace for key in self._tables.keys.values()}

    def contributions(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        names: Collection[str] = (),
        where: Mapping[str, frozenset[str]] = NO_FILTER,
        window: Window | None = None,
        gross: bool = False,
        as_of: int | None = None,
    ) -> Iterator[Contribution]:
        """Yield the contributions of each event."""
        del names, window  # no two events are folded
        matches = contribution_matcher(metric, where)
        for seq, (event, received_at) in enumerate(self._tables.events):
            cost = metric.cost
            if (event.namespace, event.type) != (cost.namespace, cost.event_type):
                continue
            if as_of is not None and received_at > as_of:
                continue
            for _, one in self._tables.corrections.contributions(
                metric, seq, event, gross=gross, as_of=as_of
            ):
                if start <= one.bucket_at < end and matches(one):
                    yield one

    def closed_adjustments(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        where: Mapping[str, frozenset[str]] = NO_FILTER,
        as_of: int | None = None,
    ) -> Iterator[tuple[int, Contribution]]:
        """Yield what counts in a period, and belongs to a closed one."""
        matches = contribution_matcher(metric, where)
        for seq, event in self._events_of(metric):
            for entry, one in self._tables.corrections.contributions(
                metric, seq, event, gross=False, as_of=as_of
            ):
                if entry is None or entry.closed_start is None:
                    continue
                is_shown = entry.effective_at != event.at and matches(one)
                if is_shown and start <= entry.effective_at < end:
                    yield entry.closed_start, one

    def time_range(self, metric: CompiledMetric) -> tuple[int, int] | None:
        """Return the times of the first and of the last event that a cost reads."""
        times = [event.at for _, event in self._events_of(metric)]
        return (min(times), max(times)) if times else None

    def event(self, namespace: str, event_id: str) -> ReceivedEvent | None:
        """Return the event with this id."""
        for event, at in self._tables.events:
            if (event.namespace, event.id) == (namespace, event_id):
                return ReceivedEvent(event, at)
        return None

    def event_of_key(self, namespace: str, key: str) -> ReceivedEvent | None:
        """Return the event that an idempotency key stands for."""
        place = self._tables.first.get((namespace, key))
        return None if place is None else ReceivedEvent(*self._tables.events[place])

    def count_events(self, namespace: str, where: EventFilter) -> int:
        """Return the number of wanted events."""
        matches = event_matcher(where)
        last = LAST_INSTANT if where.as_of is None else where.as_of
        return sum(
            event.namespace == namespace and at <= last and matches(event)
            for event, at in self._tables.events
        )

    def events(
        self, namespace: str, where: EventFilter, limit: int, cursor: str | None
    ) -> EventPage:
        """Return a page of events, the newest first."""
        matches = event_matcher(where)
        last = LAST_INSTANT if where.as_of is None else where.as_of
        found = [
            (event.at, place, ReceivedEvent(event, at))
            for place, (event, at) in enumerate(self._tables.events)
            if event.namespace == namespace and at <= last and matches(event)
        ]
        found.sort(key=lambda one: one[:2], reverse=True)
        if cursor is not None:
            try:
                start = found.index(next(o for o in found if o[2].event.id == cursor))
            except StopIteration:
                raise CursorError("pass the nextCursor of the page before") from None
            found = found[start + 1 :]
        events = [received for _, _, received in found[:limit]]
        return EventPage(events, events[-1].event.id if found[limit:] else None)

    def _events_of(self, metric: CompiledMetric) -> Iterator[tuple[int, Event]]:
        cost = metric.cost
        for seq, (event, _) in enumerate(self._tables.events):
            if (event.namespace, event.type) == (cost.namespace, cost.event_type):
                yield seq, event


def _sent(event: Event) -> tuple[object, ...]:
    """Return the parts of an event that its sender decided."""
    return (
        event.type,
        event.source,
        event.subject,
        event.external_subject,
        event.data,
    )


def _change_keys(
    tables: Tables, chosen: Callable[[ApiKey], bool], **fields: int
) -> None:
    for digest, key in tables.keys.items():
        if chosen(key):
            tables.keys[digest] = msgspec.structs.replace(key, **fields)


def _cost(tables: Tables, namespace: str, cost_id: str) -> CostMetric | None:
    cost = tables.costs.get(cost_id)
    return cost if cost is not None and cost.namespace == namespace else None


def _replace_costs(tables: Tables, cost: CostMetric, review: Review) -> None:
    """Delete the costs that a cost of a new type of event replaces."""
    metrics = _metrics_of_type(tables, cost.namespace, cost.event_type)
    for cost_id in review([one for one in metrics if one.id != cost.id]):
        del tables.costs[cost_id]


def _costs_of_type(
    tables: Tables, namespace: str, event_type: str | None
) -> list[CostMetric]:
    metrics = _metrics_of_type(tables, namespace, event_type)
    return [metric for metric in metrics if metric.billable is None]


def _metrics_of_type(
    tables: Tables, namespace: str, event_type: str | None
) -> list[CostMetric]:
    return [
        cost
        for cost in tables.costs.values()
        if cost.event_type is not None
        and (cost.namespace, cost.event_type) == (namespace, event_type)
    ]
