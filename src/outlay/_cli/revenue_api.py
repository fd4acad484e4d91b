"""Import and read revenue, rates between currencies, and customers' names."""

from __future__ import annotations

import secrets
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from pydantic import AwareDatetime

from outlay._cli.output import plain
from outlay._cli.server_api import BulkApi
from outlay._cli.wire_models import Pagination, Period, Rate, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

LINES_A_PART: Final = 2000  # so that a busy server responds in time


class Replacement(Wire):
    """A line of revenue that an import replaced."""

    key: str
    customer_id: str
    period: Period
    currency: str
    amount: Decimal
    replaced_amount: Decimal
    replaced_currency: str


class ImportResult(Wire):
    """The outcome of an import of revenue, or of a part of one."""

    import_id: str
    is_complete: bool
    added: int
    replaced: int
    unchanged: int
    replacements: tuple[Replacement, ...] = ()
    warnings: tuple[str, ...] = ()


class RevenueLine(Wire):
    """A line of revenue. One that a later line replaced is not current."""

    customer_id: str
    period: Period
    amount: Decimal
    currency: str
    source: str
    key: str
    received_at: AwareDatetime
    received_by: str
    is_current: bool


class RevenueLines(Wire):
    """A page of lines of revenue, newest first."""

    data: tuple[RevenueLine, ...]
    pagination: Pagination


class Rates(Wire):
    """All rates, ordered by pair and first valid instant."""

    data: tuple[Rate, ...]


class RatesStored(Wire):
    """Counts of the rates that were sent."""

    stored: int
    unchanged: int


class Customer(Wire):
    """A customer with a display name."""

    id: str
    name: str


class Customers(Wire):
    """A page of customers with a name, ordered by id."""

    data: tuple[Customer, ...]
    pagination: Pagination


class CustomersStored(Wire):
    """The number of customers that were named."""

    stored: int


class RevenueApi(BulkApi):
    """Imports and reads revenue, rates and names. Use as a context manager."""

    def import_revenue(
        self, lines: Iterable[Mapping[str, Any]], source: str
    ) -> ImportResult:
        """Import lines of revenue, which count together or not at all.

        Args:
            lines: The lines in the form of the API. They are read as they are sent.
            source: The source of lines that name none.
        """
        import_id = f"cli-{secrets.token_hex(12)}"
        remaining = iter(lines)
        part, number = [*islice(remaining, LINES_A_PART)], 0
        warnings: dict[str, None] = {}
        while True:
            following = [*islice(remaining, LINES_A_PART)]
            body = {
                "importId": import_id,
                "part": number,
                "isLast": not following,
                "source": source,
                "lines": part,
            }
            result = self._put("/v0/revenue", ImportResult, body)
            warnings.update(dict.fromkeys(result.warnings))
            if not following:
                return result.model_copy(update={"warnings": tuple(warnings)})
            part, number = following, number + 1

    def revenue(
        self,
        start: datetime,
        end: datetime,
        *,
        customer_id: str | None,
        as_of: datetime | None,
        limit: int,
    ) -> RevenueLines:
        """Return the newest lines of a period, with those that were replaced.

        Args:
            start: The start of the period, aware.
            end: The end of the period, aware.
            customer_id: The customer. If None, all.
            as_of: The instant whose state is read, aware. If None, it is now.
            limit: The most lines, up to 100.
        """
        query = {
            "from": start.isoformat(),
            "to": end.isoformat(),
            "limit": str(limit),
        }
        if customer_id is not None:
            query["customerId"] = customer_id
        if as_of is not None:
            query["asOf"] = as_of.isoformat()
        return self._get("/v0/revenue", RevenueLines, query)

    def rates(self) -> tuple[Rate, ...]:
        """Return all rates."""
        return self._get("/v0/rates", Rates).data

    def set_rate(self, rate: Rate) -> RatesStored:
        """Give a rate. It replaces one of the same pair and instant."""
        body = {
            "from": rate.from_currency,
            "to": rate.to_currency,
            "rate": plain(rate.rate),
            "validFrom": rate.valid_from.isoformat(),
            "source": rate.source,
        }
        return self._put("/v0/rates", RatesStored, {"rates": [body]})

    def customers(self, limit: int) -> Customers:
        """Return the first customers with a name, up to 100, by id."""
        return self._get("/v0/customers", Customers, {"limit": str(limit)})

    def name_customer(self, customer_id: str, name: str) -> None:
        """Give a customer a display name. The id may have any characters."""
        body = {"customers": [{"id": customer_id, "name": name}]}
        self._put("/v0/customers", CustomersStored, body)
