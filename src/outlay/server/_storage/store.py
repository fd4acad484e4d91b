"""The seam between the rules and where events are kept.

SQLite implements it today (``_sqlite``). Whatever does later must keep these
promises: an event is on disk when `append` returns, appends are all or nothing, and
what `contributions` yields is one consistent snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._records import ApiKey, CostMetric, Event, IngestResult, Product


class Page(NamedTuple):
    """Which part of a list is wanted: ``limit`` items after the first ``offset``."""

    limit: int
    offset: int


class Reader(Protocol):
    """One consistent view of the store, for the thread that asked for it."""

    def cost(self, namespace: str, cost_id: str) -> CostMetric | None:
        """Return a cost that is not deleted."""
        ...

    def costs(
        self, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        """Return a page of costs, oldest first, and how many there are in all."""
        ...

    def product(self, namespace: str, product_id: str) -> Product | None:
        """Return a product."""
        ...

    def products(self, namespace: str, page: Page) -> tuple[list[Product], int]:
        """Return a page of products, oldest first, and how many there are in all."""
        ...

    def key(self, digest: bytes) -> ApiKey | None:
        """Return the API key with this SHA-256."""
        ...

    def namespaces(self) -> set[str]:
        """Return the organizations that have a key."""
        ...

    def contributions(
        self,
        meter: CompiledMetric,
        start: int,
        end: int,
        *,
        hourly: bool,
        customer: str | None = None,
    ) -> Iterator[Contribution]:
        """Yield what a cost's events in ``start <= at < end`` add to it, unordered.

        Args:
            meter: the compiled form of a cost read from this same view.
            start: microseconds since 1970, as ``end``.
            end: first instant that no longer counts.
            hourly: whether a contribution may stand for all events of an hour;
                False gives every event its own.
            customer: only what is attributed to this one.
        """
        ...

    def time_range(self, meter: CompiledMetric) -> tuple[int, int] | None:
        """Return when the first and the last event happened that a cost reads.

        In microseconds since 1970; None if there is no event at any time. Quick, and
        regardless of what the events hold.
        """
        ...


class Store(Protocol):
    """Where events, costs, products and keys are kept.

    Thread safety: one thread at a time may write; any thread may call `reads_type`
    and `reading` at any time.
    """

    def append(self, events: Sequence[Event], now: int) -> list[IngestResult]:
        """Keep ``events``, first receipt wins, and return one receipt for each.

        All are on disk on return, or none is.

        Args:
            events: in order of arrival; may hold a key twice.
            now: time of receipt, in microseconds since 1970.

        Raises:
            StoreUnavailableError: nothing was kept.
        """
        ...

    def do_background_work(self, now: int) -> bool:
        """Do a little of what was put off; say whether some is left."""
        ...

    def add_cost(self, cost: CostMetric) -> None:
        """Keep a new cost; it reads earlier events as well."""
        ...

    def replace_cost(self, cost: CostMetric) -> None:
        """Keep a changed cost under its id."""
        ...

    def delete_cost(self, cost: CostMetric, now: int) -> None:
        """Hide a cost; its events stay."""
        ...

    def add_product(self, product: Product) -> None:
        """Keep a product, unless its id is there."""
        ...

    def add_key(self, key: ApiKey) -> None:
        """Keep an API key."""
        ...

    def has_metric_for(self, namespace: str, event_type: str) -> bool:
        """Say whether some cost reads events of this type. Memory only, quick."""
        ...

    def reading(self) -> AbstractContextManager[Reader]:
        """Open a consistent view; it sees all that was written before.

        Raises:
            StoreUnavailableError: the store cannot be read.
        """
        ...

    def close(self) -> None:
        """Release everything; nobody may be writing or reading."""
        ...
