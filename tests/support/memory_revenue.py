"""Revenue, rates and customers in memory, in the most obvious way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from outlay.server._records import Customer, Rate, RevenueLine, StoredRevenue
from outlay.server._storage.revenue_store import (
    ImportResult,
    Replacement,
    RevenuePart,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from outlay.server._storage.page import Page


@dataclass
class RevenueImport:
    """An import of revenue. Its lines count when it is complete."""

    by: str
    parts: list[RevenuePart] = field(default_factory=list)
    lines: list[RevenueLine] = field(default_factory=list)
    added: int = 0
    unchanged: int = 0
    replacements: list[Replacement] = field(default_factory=list)
    completed_at: int | None = None


@dataclass
class RevenueTables:
    """The imports, rates and customers of all organizations."""

    imports: dict[tuple[str, str], RevenueImport] = field(default_factory=dict)
    rates: list[tuple[str, Rate, int]] = field(default_factory=list)
    customers: dict[tuple[str, str], Customer] = field(default_factory=dict)

    def rename(self, namespace: str, customer: str, pseudonym: str) -> None:
        """Replace a customer's id in all lines, and delete the name."""
        self.customers.pop((namespace, customer), None)
        for (owner, _), one in self.imports.items():
            if owner == namespace:
                one.lines = [
                    msgspec.structs.replace(line, customer=pseudonym)
                    if line.customer == customer
                    else line
                    for line in one.lines
                ]

    def copy(self) -> RevenueTables:
        """Return a view that later writes do not change."""
        return RevenueTables(
            {
                key: RevenueImport(
                    one.by,
                    [*one.parts],
                    [*one.lines],
                    one.added,
                    one.unchanged,
                    [*one.replacements],
                    one.completed_at,
                )
                for key, one in self.imports.items()
            },
            [*self.rates],
            {**self.customers},
        )


class MemoryRevenueReader:
    """Reads revenue from one view."""

    def _books(self) -> RevenueTables:
        raise NotImplementedError

    def revenue(
        self,
        namespace: str,
        start: int,
        end: int,
        *,
        customer: str | None = None,
        as_of: int | None = None,
    ) -> list[RevenueLine]:
        """Return the current lines whose period overlaps ``start <= t < end``."""
        lines = _current(self._books(), namespace, as_of).values()
        return [
            line
            for line in lines
            if line.start < end and line.end > start
            if customer in {None, line.customer}
        ]

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
        """Return a page of the lines of a period, newest first, and their number."""
        current = [*_current(self._books(), namespace, as_of).values()]
        found = [
            StoredRevenue(
                line,
                import_id,
                one.completed_at,
                one.by,
                any(line is other for other in current),
            )
            for (owner, import_id), one in self._books().imports.items()
            if owner == namespace
            and one.completed_at is not None
            and (as_of is None or one.completed_at <= as_of)
            for line in one.lines
            if line.start < end
            and line.end > start
            and customer in {None, line.customer}
        ][::-1]
        return found[page.offset : page.offset + page.limit], len(found)

    def rates(self, namespace: str, *, as_of: int | None = None) -> list[Rate]:
        """Return the current rates, ordered by pair and first valid instant."""
        current = {
            (rate.from_currency, rate.to_currency, rate.valid_from): rate
            for owner, rate, at in self._books().rates
            if owner == namespace and (as_of is None or at <= as_of)
        }
        return [current[key] for key in sorted(current)]

    def customer_names(self, namespace: str) -> Mapping[str, str]:
        """Return the display names of customers, by id."""
        return {one.id: one.name for one in self._customers(namespace)}

    def customers(self, namespace: str, page: Page) -> tuple[list[Customer], int]:
        """Return a page of the customers with a name, by id, and their number."""
        found = sorted(self._customers(namespace), key=lambda one: one.id)
        return found[page.offset : page.offset + page.limit], len(found)

    def customer(self, namespace: str, customer_id: str) -> Customer | None:
        """Return a customer with a display name."""
        return self._books().customers.get((namespace, customer_id))

    def _customers(self, namespace: str) -> list[Customer]:
        return [
            customer
            for (owner, _), customer in self._books().customers.items()
            if owner == namespace
        ]


class MemoryRevenueWriter:
    """Writes revenue to tables."""

    def _writing_revenue(self) -> AbstractContextManager[RevenueTables]:
        raise NotImplementedError

    def add_revenue(self, part: RevenuePart, now: int, by: str) -> ImportResult:
        """Store a part of an import. A repeated part changes nothing."""
        with self._writing_revenue() as books:
            one = books.imports.setdefault(
                (part.namespace, part.import_id), RevenueImport(by)
            )
            if one.completed_at is not None or part.number != len(one.parts):
                is_retry = [
                    each.digest for each in one.parts if each.number == part.number
                ] == [part.digest] and part.number == len(one.parts) - 1
                return _result(one, is_conflict=not is_retry)
            names = {(line.source, line.key) for line in one.lines}
            for line in part.lines:
                if (line.source, line.key) in names:
                    return _result(one, duplicate=line.key)
            current = _current(books, part.namespace, None)
            for line in part.lines:
                old = current.get((line.source, line.key))
                if old == line:
                    one.unchanged += 1
                    continue
                one.lines.append(line)
                if old is None:
                    one.added += 1
                else:
                    one.replacements.append(Replacement(old, line))
            one.parts.append(part)
            one.completed_at = now if part.is_last else None
            return _result(one)

    def put_rates(
        self, namespace: str, rates: Iterable[Rate], now: int, by: str
    ) -> int:
        """Store rates, and return the number of those that were new or changed."""
        del by
        stored = 0
        with self._writing_revenue() as books:
            for rate in rates:
                same = [
                    one
                    for owner, one, _ in books.rates
                    if owner == namespace
                    and one.from_currency == rate.from_currency
                    and one.to_currency == rate.to_currency
                    and one.valid_from == rate.valid_from
                ]
                if same[-1:] != [rate]:
                    books.rates.append((namespace, rate, now))
                    stored += 1
        return stored

    def put_customers(
        self, namespace: str, names: Mapping[str, str], now: int
    ) -> list[Customer]:
        """Name customers, and return them in the order of ``names``."""
        with self._writing_revenue() as books:
            customers = books.customers
            for customer_id, name in names.items():
                old = customers.get((namespace, customer_id))
                if old is None or old.name != name:
                    created_at = now if old is None else old.created_at
                    customers[namespace, customer_id] = Customer(
                        customer_id, name, created_at, now
                    )
            return [customers[namespace, one] for one in names]


def _current(
    books: RevenueTables, namespace: str, as_of: int | None
) -> dict[tuple[str, str], RevenueLine]:
    return {
        (line.source, line.key): line
        for (owner, _), one in books.imports.items()
        if owner == namespace
        and one.completed_at is not None
        and (as_of is None or one.completed_at <= as_of)
        for line in one.lines
    }


def _result(
    one: RevenueImport, *, is_conflict: bool = False, duplicate: str | None = None
) -> ImportResult:
    is_complete = one.completed_at is not None
    return ImportResult(
        is_complete,
        len(one.parts),
        is_conflict,
        duplicate,
        one.added,
        len(one.replacements),
        one.unchanged,
        one.replacements if is_complete else [],
    )
