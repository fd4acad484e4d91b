"""The seam between the services and the storage of events.

An implementation keeps these promises. An event is on disk when `Store.append` returns.
An append stores all of its events or none. A `Reader` is one consistent snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._records import ApiKey, CostMetric, Event, IngestResult, Product
    from outlay.server._wire.request_models import Window


NO_FILTER: Final[Mapping[str, frozenset[str]]] = {}

CUSTOMER_NAME: Final = ""
"""The customer, among the names of dimensions. No dimension has this name."""


class Page(NamedTuple):
    """The wanted part of a list: ``limit`` items after the first ``offset``."""

    limit: int
    offset: int


ALL: Final = Page(2**53, 0)
"""The page with all items."""


class Reader(Protocol):
    """One consistent view of the store, for the thread that opened it."""

    def cost(self, namespace: str, cost_id: str) -> CostMetric | None:
        """Return a cost that is not deleted."""
        ...

    def costs(
        self, namespace: str, product_id: str | None, page: Page
    ) -> tuple[list[CostMetric], int]:
        """Return a page of costs, oldest first, and the number of all costs."""
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
    ) -> Iterator[Contribution]:
        """Yield the contributions of the events in ``start <= at < end``, unordered.

        One contribution may stand for any events that agree in the dimensions ``names``
        and lie in one ``window``. Its other dimensions may be ''.

        Args:
            metric: A cost of this view, compiled.
            start: The first instant that counts, in microseconds since 1970.
            end: The first instant that no longer counts, in the same unit.
            names: The names of dimensions, or `CUSTOMER_NAME`. Defaults to none.
            where: The allowed values of dimensions, by name. Defaults to all events.
            window: The length of the windows. If None, all events are in one window.
        """
        ...

    def time_range(self, metric: CompiledMetric) -> tuple[int, int] | None:
        """Return the times of the first and of the last event that a cost reads.

        They are in microseconds since 1970. None means that there is no event. It is
        fast, because it does not read the events' data.
        """
        ...


class Store(Protocol):
    """Stores events, costs, products and keys.

    Thread safety: one thread at a time may write. Any thread may call `has_metric_for`
    and `reading` at any time.
    """

    def append(self, events: Sequence[Event], now: int) -> list[IngestResult]:
        """Store ``events``, the first with each key, and return a result for each.

        All of them are on disk on return, or none is.

        Args:
            events: The events in order of arrival. They may hold a key twice.
            now: The time of receipt, in microseconds since 1970.

        Raises:
            StoreUnavailableError: Nothing was stored.
        """
        ...

    def do_background_work(self, now: int) -> bool:
        """Do one slice of deferred work. Return whether there is more."""
        ...

    def add_cost(self, cost: CostMetric) -> None:
        """Store a new cost. It reads earlier events as well."""
        ...

    def replace_cost(self, cost: CostMetric) -> None:
        """Store a changed cost under its id."""
        ...

    def delete_cost(self, cost: CostMetric, now: int) -> None:
        """Delete a cost. Its events stay."""
        ...

    def add_product(self, product: Product) -> None:
        """Store a product, unless its id exists."""
        ...

    def add_key(self, key: ApiKey) -> None:
        """Store an API key."""
        ...

    def has_metric_for(self, namespace: str, event_type: str) -> bool:
        """Return whether some cost reads events of this type. It reads memory only."""
        ...

    def version(self) -> int:
        """Return a number that changes with each commit, of another program as well.

        Only the event loop's thread may call it. It is fast.
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

    def note_key_uses(self, digests: Collection[bytes], now: int) -> None:
        """Note that the keys with these SHA-256 were used."""
        ...

    def reading(self) -> AbstractContextManager[Reader]:
        """Open a consistent view. It contains everything that was stored before.

        Raises:
            StoreUnavailableError: The store cannot be read.
        """
        ...

    def close(self) -> None:
        """Release everything. No thread may be writing or reading."""
        ...
