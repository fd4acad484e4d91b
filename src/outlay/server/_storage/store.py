"""The seam between the services and the storage of events.

Nothing above this module knows an engine. An implementation keeps the promises of these
docstrings; ``tests/contract/store`` checks them for every store. Quantities are stated
by their result: `Reader.contributions` may fold events in any way and at any time. The
folded contributions must equal those of the single events, to the last digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from outlay.server._storage.budget_store import BudgetReader, BudgetWriter
from outlay.server._storage.correction_store import (
    CorrectionReader,
    CorrectionWriter,
)
from outlay.server._storage.event_store import EventReader
from outlay.server._storage.reconciliation_store import (
    ReconciliationReader,
    ReconciliationWriter,
)
from outlay.server._storage.revenue_store import RevenueReader, RevenueWriter

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from contextlib import AbstractContextManager

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._records import (
        ApiKey,
        CostMetric,
        Erasure,
        Event,
        IngestResult,
        Product,
        Retention,
    )
    from outlay.server._storage.page import Page
    from outlay.server._wire.request_models import Window


NO_FILTER: Final[Mapping[str, frozenset[str]]] = {}

CUSTOMER_NAME: Final = ""
"""The customer, among the names of dimensions. No dimension has this name."""


class Moving(NamedTuple):
    """How far days of receipt that are over are moved to another database.

    Attributes:
        moved_until: The first instant that is not moved, in microseconds since 1970.
            None if no day was moved yet.
        waiting_days: The number of days that could be there, and are not.
        problem: The reason that no day moves. None if all is well.
    """

    moved_until: int | None
    waiting_days: int
    problem: str | None


class Reader(
    EventReader,
    RevenueReader,
    CorrectionReader,
    BudgetReader,
    ReconciliationReader,
    Protocol,
):
    """One consistent view of the store, for the thread that opened it."""

    def cost(self, namespace: str, cost_id: str) -> CostMetric | None:
        """Return a cost that is not deleted. A billable metric is none."""
        ...

    def costs(
        self, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        """Return a page of costs, oldest first, and the number of all costs."""
        ...

    def costs_of_type(self, namespace: str, event_type: str) -> list[CostMetric]:
        """Return the costs that read events of this type, oldest first."""
        ...

    def billable_metric(self, namespace: str, metric_id: str) -> CostMetric | None:
        """Return a billable metric."""
        ...

    def billable_metrics(
        self, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        """Return a page of billable metrics, oldest first, and the number of all."""
        ...

    def unmatched_types(
        self, namespace: str, start: int, end: int, *, as_of: int | None = None
    ) -> dict[str, int]:
        """Return the number of events in ``start <= at < end`` that no cost reads.

        Args:
            namespace: The organization.
            start: The first instant that counts, in microseconds since 1970.
            end: The first instant that no longer counts, in the same unit.
            as_of: The last instant of receipt that counts. If None, all count.

        Returns:
            The numbers by event type, in the order of the types, without zeros.
        """
        ...

    def product(self, namespace: str, product_id: str) -> Product | None:
        """Return a product."""
        ...

    def products(self, namespace: str, page: Page) -> tuple[list[Product], int]:
        """Return a page of products, oldest first, and the number of all products."""
        ...

    def key(self, digest: bytes) -> ApiKey | None:
        """Return the API key with this SHA-256, valid or not."""
        ...

    def key_with_id(self, namespace: str, key_id: str) -> ApiKey | None:
        """Return the API key of an organization with this id, valid or not."""
        ...

    def keys(self, namespace: str, page: Page) -> tuple[list[ApiKey], int]:
        """Return a page of an organization's keys, newest first, and their number."""
        ...

    def erasures(self, namespace: str) -> list[Erasure]:
        """Return the running erasures of an organization, oldest first."""
        ...

    def retention(self, namespace: str) -> Retention:
        """Return how long an organization's events are kept."""
        ...

    def ended_tokens(self) -> frozenset[bytes]:
        """Return the digests of `Store.end_token`. Some that are over may be left."""
        ...

    def namespaces(self) -> set[str]:
        """Return the organizations that have a key."""
        ...

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
        """Yield the contributions of the events in ``start <= at < end``, unordered.

        Corrections and late events count as their entries say (`correction_store`). A
        contribution that takes something back has negative counts and values.

        One contribution may stand for any events that agree in the dimensions ``names``
        and lie in one ``window``. Its other dimensions may be ''. Accumulated, all
        contributions of a group and window equal those of its single events, as
        `CompiledMetric.contribution` returns them: exact sums, exact counts, and the
        exact least, greatest and latest value. Of two values of one instant, the later
        is the one of the event that was received later.

        Args:
            metric: A cost of this view, compiled.
            start: The first instant that counts, in microseconds since 1970.
            end: The first instant that no longer counts, in the same unit.
            names: The names of dimensions, or `CUSTOMER_NAME`. Defaults to none.
            where: The allowed values of dimensions, by name. Defaults to all events.
            window: The length of the windows. If None, all events are in one window.
            gross: Whether corrections are left out. Defaults to no.
            as_of: The instant whose state is read, in microseconds since 1970. If
                None, it is the current state.

        Raises:
            HttpProblem: 409, because a corrected extreme needs events that are not
                stored any more.
        """
        ...

    def closed_adjustments(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        where: Mapping[str, frozenset[str]] = NO_FILTER,
        as_of: int | None = None,
    ) -> Iterator[tuple[int, Contribution]]:
        """Yield what counts in a period, and belongs to a closed one.

        Each contribution comes with the start of the closed period.
        """
        ...

    def time_range(self, metric: CompiledMetric) -> tuple[int, int] | None:
        """Return the times of the first and of the last event that a cost reads.

        They are in microseconds since 1970. None means that there is no event. It is
        fast, because it does not read the events' data.
        """
        ...


class Views(Protocol):
    """A store, for reading. Thread safety: any thread."""

    def reading(self) -> AbstractContextManager[Reader]:
        """Open a consistent view. It contains everything that was stored before.

        No later write changes the view. A view never waits for a write. If the thread
        has a `query_limit.QueryLimit`, the view ends with it.

        Raises:
            QueryStoppedError: The limit ended the view.
            StoreUnavailableError: The store cannot be read.
        """
        ...


Review: TypeAlias = "Callable[[Sequence[CostMetric]], Iterable[str]]"
"""A decision about a metric that is new to a type of event.

It gets the other costs and billable metrics of the type, oldest first. It returns the
ids of the costs that the metric replaces. It may raise to refuse the metric.
"""

Change: TypeAlias = "Callable[[CostMetric], CostMetric]"
"""A function from a cost to the changed cost. It may raise to refuse the change."""


def keep_all(_: Sequence[CostMetric]) -> Iterable[str]:
    """Replace no other cost. It is the `Review` of a cost that is always welcome."""
    return ()


class Store(
    Views,
    RevenueWriter,
    CorrectionWriter,
    BudgetWriter,
    ReconciliationWriter,
    Protocol,
):
    """Stores events, costs, products and keys.

    Each method is one step: it happens as a whole or not at all, and no other write
    comes between its reading and its writing, of this server or of another. When a
    method returns, its writes are on disk.

    Thread safety: one thread of a server writes at a time. Any thread may call
    `has_metric_for` and `reading` at any time. Another server may use the same data, if
    the engine allows it.

    Raises:
        StoreUnavailableError: Nothing was stored, or the store cannot be read. Any
            method may raise it. The caller may try again.
    """

    def append(self, events: Sequence[Event], now: int) -> list[IngestResult]:
        """Store ``events``, the first with each key, and return a result for each.

        A key stands for the first event with it for the dedupe window, from the time
        of receipt of that event. Afterwards it is free again. Keys belong to one
        organization.

        Args:
            events: The events in order of arrival. They may hold a key twice.
            now: The time of receipt, in microseconds since 1970.
        """
        ...

    def do_background_work(self, now: int) -> bool:
        """Do one slice of deferred work. Return whether there is more.

        Deferred work changes the speed of later calls, and never their results. A slice
        is short, because appends wait for it. If another server does the work, return
        False.

        Args:
            now: The time, in microseconds since 1970.
        """
        ...

    def add_cost(self, cost: CostMetric, review: Review = keep_all) -> None:
        """Store a new cost or billable metric. It reads earlier events as well.

        Args:
            cost: The new cost.
            review: The decision about it. The costs that it returns are deleted.
        """
        ...

    def add_first_costs(self, costs: Iterable[CostMetric]) -> bool:
        """Store costs, unless the store ever had a cost or an event.

        Returns:
            Whether the costs were stored.
        """
        ...

    def change_cost(
        self,
        namespace: str,
        cost_id: str,
        change: Change,
        review: Review = keep_all,
    ) -> CostMetric | None:
        """Change a cost or a billable metric, and return it as changed.

        Readers that are opened later have the new definition for earlier events too.

        Args:
            namespace: The organization.
            cost_id: The id of the cost.
            change: The function that changes it. The id and organization must stay.
            review: The decision about a metric that reads another type of event than
                before. The costs that it returns are deleted.

        Returns:
            The changed cost, or None if there is no such cost.
        """
        ...

    def delete_cost(self, namespace: str, cost_id: str, now: int) -> bool:
        """Delete a cost. Its events stay. Return whether there was such a cost."""
        ...

    def add_product(self, product: Product) -> None:
        """Store a product, unless its id exists in its organization."""
        ...

    def add_key(self, key: ApiKey) -> None:
        """Store an API key."""
        ...

    def add_first_key(self, key: ApiKey) -> bool:
        """Store an API key, unless there is one already. Return whether it did."""
        ...

    def has_metric_for(self, namespace: str, event_type: str) -> bool:
        """Return whether some cost reads events of this type.

        It takes about a microsecond, because every event asks. It sees the writes of
        this server, and those of other servers after a short while.
        """
        ...

    def stored_bytes(self) -> int:
        """Return the bytes that the store takes on disk. It is fast."""
        ...

    def unfolded(self) -> int:
        """Return the number of rows that deferred work has yet to fold into totals.

        It is fast, and may be some seconds old.
        """
        ...

    def moving(self) -> Moving | None:
        """Return how far old days are moved. None if this store moves none.

        It is fast, may be a minute old, and responds while all databases are down.
        """
        ...

    def version(self) -> int:
        """Return a number that changes soon after each commit, of another program, too.

        Only the event loop's thread may call it. It is fast.
        """
        ...

    def access_version(self) -> int:
        """Return a number that changes with each key or token that begins or ends.

        Changes of another program count. Other commits may change it, too. Only the
        event loop's thread may call it. It is fast.
        """
        ...

    def revoke_key(self, key_id: str, now: int) -> None:
        """Revoke the API key with this id. An earlier revocation stays as it is."""
        ...

    def rotate_key(self, key_id: str, successor: ApiKey, expires_at: int) -> None:
        """Store ``successor``, and let the key with this id expire, in one step.

        Args:
            key_id: The id of the key that is replaced.
            successor: The new key.
            expires_at: The end of the old key, in microseconds since 1970. If it ends
                earlier, that stays.
        """
        ...

    def end_token(self, digest: bytes, until: int, now: int) -> bool:
        """Note that a token of the dashboard is not valid any more.

        Args:
            digest: The SHA-256 of the token.
            until: The time after which its digest may be forgotten, because the token
                is too old anyway. In microseconds since 1970.
            now: The time, in the same unit.

        Returns:
            Whether it was valid before. Of several servers that end a token at the same
            time, one gets True.
        """
        ...

    def begin_erasure(
        self, namespace: str, customer: str, pseudonym: str, now: int
    ) -> str:
        """Begin to replace a customer's id by a pseudonym, in all that is stored.

        Each event that was or will be stored before the end of the erasure has the
        pseudonym then: as subject, external subject and external id, and in its data as
        each string that equals the id. So has each total by customer or dimension. All
        other totals are the same before, meanwhile and afterwards. The customer's name
        is deleted, and so is each budget that names the customer. Idempotency keys
        stay.

        The work is deferred. It is done when `Reader.erasures` lists it no more.

        Args:
            namespace: The organization.
            customer: The id.
            pseudonym: The text that replaces it.
            now: The time, in microseconds since 1970.

        Returns:
            The pseudonym. If an erasure of the customer is running, it is that one's.
        """
        ...

    def set_retention(self, namespace: str, keep: int | None) -> None:
        """Set how long an organization's events are kept.

        Older events may be deleted, by deferred work. Quantities over full hours stay
        as they are. Events that some quantity cannot do without stay as well.

        Args:
            namespace: The organization.
            keep: The time in microseconds. None keeps them without a limit.
        """
        ...

    def note_key_uses(self, digests: Collection[bytes], now: int) -> None:
        """Note that the keys with these SHA-256 were used."""
        ...

    def reopener(self) -> Callable[[], Views] | None:
        """Return a function that opens the store for reading in another process.

        It can be pickled, and works while this store is open. None means that only
        this process has the data.
        """
        ...

    def close(self) -> None:
        """Release everything. No thread may be writing or reading."""
        ...
