"""The part of the seam that stores revenue, rates and customers.

A line of revenue is never changed or deleted. A later import with the same source and
key replaces it, and both stay in the history. The same holds for rates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from outlay.server._records import Customer, Rate, RevenueLine, StoredRevenue
    from outlay.server._storage.page import Page


class RevenuePart(NamedTuple):
    """A part of an import of revenue.

    Attributes:
        import_id: The id of the import, unique within the organization.
        number: The number of the part, from 0.
        is_last: Whether the part completes the import. No line counts before.
        digest: A digest of the part's lines, which separates a retry from an error.
        lines: The lines. No two have the same source and key.
    """

    namespace: str
    import_id: str
    number: int
    is_last: bool
    digest: bytes
    lines: Sequence[RevenueLine]


class Replacement(NamedTuple):
    """A line that an import replaced, and the line that replaced it."""

    old: RevenueLine
    new: RevenueLine


class ImportResult(NamedTuple):
    """The state of an import after one of its parts.

    Attributes:
        is_complete: Whether all parts are stored, so that the lines count.
        next_part: The number of the part that the import expects next.
        is_conflict: Whether the part was refused: it is not the expected one, and no
            retry of the last one either.
        duplicate: A key that two parts of the import have, so that the part was
            refused. Otherwise None.
        added: The number of lines whose key was new.
        replaced: The number of lines that replaced another one.
        unchanged: The number of lines that were stored before. They are not stored
            again.
        replacements: Some of the replaced lines, if the import is complete.
    """

    is_complete: bool
    next_part: int
    is_conflict: bool = False
    duplicate: str | None = None
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    replacements: Sequence[Replacement] = ()


class RevenueReader(Protocol):
    """Reads revenue, rates and customers from one consistent view."""

    def revenue(
        self,
        namespace: str,
        start: int,
        end: int,
        *,
        customer: str | None = None,
        as_of: int | None = None,
    ) -> list[RevenueLine]:
        """Return the current lines whose period overlaps ``start <= t < end``.

        Args:
            namespace: The organization.
            start: The start of the period, in microseconds since 1970.
            end: The first instant after the period, in the same unit.
            customer: The only customer. If None, all count.
            as_of: The instant whose state is read, in the same unit. If None, it is
                the current state.
        """
        ...

    def revenue_history(
        self,
        namespace: str,
        start: int,
        end: int,
        page: Page,
        *,
        customer: str | None = None,
        as_of: int | None = None,
    ) -> tuple[list[StoredRevenue], int]:
        """Return a page of the lines of a period, newest first, and their number.

        Replaced lines are among them. With ``as_of``, the state is that of this
        instant, in microseconds since 1970.
        """
        ...

    def rates(self, namespace: str, *, as_of: int | None = None) -> list[Rate]:
        """Return the current rates, ordered by pair and first valid instant."""
        ...

    def customer_names(self, namespace: str) -> Mapping[str, str]:
        """Return the display names of customers, by id."""
        ...

    def customers(self, namespace: str, page: Page) -> tuple[list[Customer], int]:
        """Return a page of the customers with a name, by id, and their number."""
        ...

    def customer(self, namespace: str, customer_id: str) -> Customer | None:
        """Return a customer with a display name."""
        ...


class RevenueWriter(Protocol):
    """Writes revenue, rates and customers. Each call is one transaction."""

    def add_revenue(self, part: RevenuePart, now: int, by: str) -> ImportResult:
        """Store a part of an import. A repeated part changes nothing.

        Args:
            part: The part.
            now: The time of receipt, in microseconds since 1970.
            by: The name of the API key that sent it.

        Raises:
            StoreUnavailableError: Nothing was stored.
        """
        ...

    def put_rates(
        self, namespace: str, rates: Iterable[Rate], now: int, by: str
    ) -> int:
        """Store rates, and return the number of those that were new or changed."""
        ...

    def put_customers(
        self, namespace: str, names: Mapping[str, str], now: int
    ) -> list[Customer]:
        """Name customers, and return them in the order of ``names``."""
        ...
