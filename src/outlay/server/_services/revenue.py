"""Import revenue, rates and display names of customers."""

from __future__ import annotations

import asyncio
import secrets
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from outlay.server._metering.decimals import format_plain
from outlay.server._metering.metric import compile_metric
from outlay.server._records import Rate, RevenueLine
from outlay.server._services.margin_responses import period, rate_response
from outlay.server._storage.page import ALL, Page
from outlay.server._storage.revenue_store import RevenuePart
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.problems import (
    FieldError,
    HttpProblem,
    invalid_fields,
    not_found,
)
from outlay.server._wire.response_models import Pagination, encode, format_instant
from outlay.server._wire.revenue_models import (
    CustomerList,
    CustomerResponse,
    CustomersStored,
    RateList,
    RatesStored,
    RevenueImportResponse,
    RevenueLineResponse,
    RevenueList,
    RevenueReplacement,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from outlay.server._records import ApiKey, Customer
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.revenue_store import ImportResult, Replacement
    from outlay.server._storage.store import Reader, Store
    from outlay.server._wire.request_models import ListQuery
    from outlay.server._wire.revenue_models import (
        CustomersBody,
        RatesBody,
        RevenueBody,
        RevenueLineBody,
        RevenueQuery,
    )

_ID_BYTES: Final = 12
_NAMES_LISTED: Final = 20  # so that no message grows with the import


class RevenueService:
    """Imports and lists revenue, rates and customers.

    Thread safety: the event loop's thread.
    """

    def __init__(
        self, store: Store, commits: CommitThread, now: Callable[[], int]
    ) -> None:
        self._store = store
        self._commits = commits
        self._now = now

    async def add(self, key: ApiKey, body: RevenueBody) -> RevenueImportResponse:
        """Store an import of revenue, or a part of one.

        Raises:
            HttpProblem: 400 for lines with the same key, 409 for a part that the
                import does not expect.
        """
        lines = [_line(line, body.source) for line in body.lines]
        _check_keys(lines)
        import_id = body.import_id or "imp_" + secrets.token_hex(_ID_BYTES)
        part = RevenuePart(
            key.namespace,
            import_id,
            body.part,
            body.is_last,
            sha256(encode([body.is_last, lines])).digest(),
            lines,
        )
        result = await self._commits.run(
            lambda: self._store.add_revenue(part, self._now(), key.name)
        )
        if result.duplicate is not None:
            raise invalid_fields([_duplicate("lines", result.duplicate)])
        if result.is_conflict:
            raise _unexpected_part(import_id, result)
        return RevenueImportResponse(
            import_id,
            result.is_complete,
            result.next_part,
            result.added,
            result.replaced,
            result.unchanged,
            [_replacement(one) for one in result.replacements],
            # In a thread, because posts must not wait for a long query.
            await asyncio.to_thread(self._unknown_customers, key.namespace, lines),
        )

    def _unknown_customers(
        self, namespace: str, lines: Iterable[RevenueLine]
    ) -> list[str]:
        """Return a warning of customers that have neither a name nor any event."""
        wanted = {line.customer for line in lines}
        with self._store.reading() as reader:
            wanted -= reader.customer_names(namespace).keys()
            unknown = sorted(wanted - _with_costs(reader, namespace, wanted))
        if not unknown:
            return []
        shown = ", ".join(unknown[:_NAMES_LISTED])
        more = len(unknown) - _NAMES_LISTED
        return [
            "no event and no name is stored for these customers, so check their ids; "
            f"their revenue counts: {shown}" + (f" and {more} more" if more > 0 else "")
        ]

    def list(self, key: ApiKey, query: RevenueQuery) -> RevenueList:
        """Return a page of the lines of a period, with those that were replaced."""
        with self._store.reading() as reader:
            lines, total = reader.revenue_history(
                key.namespace,
                query.start,
                query.end,
                Page(query.limit, query.offset),
                customer=query.customer_id,
                as_of=query.as_of,
            )
        return RevenueList(
            [
                RevenueLineResponse(
                    one.line.key,
                    one.line.source,
                    one.line.customer,
                    period(one.line.start, one.line.end),
                    format_plain(one.line.amount),
                    one.line.currency,
                    one.import_id,
                    format_instant(one.received_at),
                    one.received_by,
                    one.is_current,
                )
                for one in lines
            ],
            Pagination(query.limit, query.offset, total),
        )

    async def put_rates(self, key: ApiKey, body: RatesBody) -> RatesStored:
        """Store rates. The last rate with a pair and a first instant counts."""
        rates = [
            Rate(
                one.from_currency, one.to_currency, one.rate, one.valid_from, one.source
            )
            for one in body.rates
        ]
        stored = await self._commits.run(
            lambda: self._store.put_rates(key.namespace, rates, self._now(), key.name)
        )
        return RatesStored(stored, len(rates) - stored)

    def rates(self, key: ApiKey) -> RateList:
        """Return all current rates."""
        with self._store.reading() as reader:
            rates = reader.rates(key.namespace)
        return RateList([rate_response(rate) for rate in rates])

    async def put_customers(self, key: ApiKey, body: CustomersBody) -> CustomersStored:
        """Name customers."""
        names = {one.id: one.name for one in body.customers}
        return CustomersStored(len(await self._name(key, names)))

    async def put_customer(
        self, key: ApiKey, customer_id: str, name: str
    ) -> CustomerResponse:
        """Name one customer."""
        [customer] = await self._name(key, {customer_id: name})
        return _customer_response(customer)

    async def _name(self, key: ApiKey, names: Mapping[str, str]) -> Sequence[Customer]:
        return await self._commits.run(
            lambda: self._store.put_customers(key.namespace, names, self._now())
        )

    def customer(self, key: ApiKey, customer_id: str) -> CustomerResponse:
        """Return a customer with a display name."""
        with self._store.reading() as reader:
            customer = reader.customer(key.namespace, customer_id)
        if customer is None:
            raise not_found("customer", customer_id)
        return _customer_response(customer)

    def customers(self, key: ApiKey, query: ListQuery) -> CustomerList:
        """Return a page of the customers with a display name."""
        with self._store.reading() as reader:
            customers, total = reader.customers(
                key.namespace, Page(query.limit, query.offset)
            )
        return CustomerList(
            [_customer_response(customer) for customer in customers],
            Pagination(query.limit, query.offset, total),
        )


def _with_costs(reader: Reader, namespace: str, customers: set[str]) -> set[str]:
    """Return those of ``customers`` that have an event of any cost metric."""
    found: set[str] = set()
    costs, _ = reader.costs(namespace, None, ALL)
    for metric in filter(None, map(compile_metric, costs)):
        times = reader.time_range(metric)
        missing = frozenset(customers - found)
        if times is None or not missing:
            continue
        found.update(
            one.customer
            for one in reader.contributions(
                metric,
                times[0],
                times[1] + 1,
                names=frozenset([CUSTOMER_NAME]),
                where={CUSTOMER_NAME: missing},
            )
        )
    return found


def _line(body: RevenueLineBody, source: str) -> RevenueLine:
    start, end = body.bounds
    return RevenueLine(
        body.key or _derived_key(body.customer_id, start, end, body.currency),
        body.customer_id,
        start,
        end,
        body.amount,
        body.currency,
        body.source or source,
    )


def _derived_key(customer: str, start: int, end: int, currency: str) -> str:
    """Return the key of a line that has none of its own."""
    return encode(
        [customer, format_instant(start), format_instant(end), currency]
    ).decode()


def _check_keys(lines: Iterable[RevenueLine]) -> None:
    """Refuse two lines with the same source and key."""
    places: dict[tuple[str, str], int] = {}
    errors = []
    for place, line in enumerate(lines):
        first = places.setdefault((line.source, line.key), place)
        if first != place:
            errors.append(_duplicate(f"lines.{place}", line.key, f"lines.{first}"))
    if errors:
        raise invalid_fields(errors[:_NAMES_LISTED])


def _duplicate(
    field: str, key: str, first: str = "an earlier part of this import"
) -> FieldError:
    return FieldError(
        field,
        f"{first} has a line with the same source and key, {key}; give each line a key "
        "of its own, such as the number of its invoice, or send their sum",
        "DUPLICATE_LINE",
    )


def _unexpected_part(import_id: str, result: ImportResult) -> HttpProblem:
    state = (
        f"import {import_id} is complete, with other lines; send these lines under "
        "another importId"
        if result.is_complete
        else f"import {import_id} expects part {result.next_part}; send that one"
    )
    return HttpProblem(409, state, code="UNEXPECTED_PART")


def _replacement(one: Replacement) -> RevenueReplacement:
    old, new = one
    return RevenueReplacement(
        new.key,
        new.source,
        new.customer,
        period(new.start, new.end),
        new.currency,
        format_plain(new.amount),
        format_plain(old.amount),
        old.currency,
        old.customer,
        period(old.start, old.end),
    )


def _customer_response(customer: Customer) -> CustomerResponse:
    return CustomerResponse(
        customer.id,
        customer.name,
        format_instant(customer.created_at),
        format_instant(customer.updated_at),
    )
