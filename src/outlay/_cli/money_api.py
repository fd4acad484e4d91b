"""Read margins and exports, and correct events, for commands."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import tenacity
from pydantic import AwareDatetime

from outlay._cli.server_api import MAX_PAGE, BulkApi, quoted
from outlay._cli.wire_models import Pagination, Period, Rate, Wire, WirePage
from outlay.api import EventCorrection
from outlay.api._calls import Call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime


class MarginTotals(Wire):
    """Revenue, cost and profit. ``margin_pct`` is None without revenue."""

    net_revenue_exact: Decimal
    total_cost_exact: Decimal
    profit_exact: Decimal
    margin_pct: Decimal | None


class MarginRow(MarginTotals):
    """The revenue, cost and profit of one customer, or of all others."""

    customer_id: str
    customer_name: str
    is_other: bool = False


class Margins(Wire):
    """A page of customers, with the totals of all customers."""

    currency: str
    rows: tuple[MarginRow, ...]
    warnings: tuple[str, ...]
    total: MarginTotals
    rates: tuple[Rate, ...]
    pagination: Pagination


class CorrectionPage(WirePage):
    """A page of corrections, newest first."""

    data: tuple[EventCorrection, ...]


class Corrected(Wire):
    """The outcome of a correction of many events."""

    matched: int
    corrected: int
    unchanged: int
    next_cursor: str | None = None


class ClosedPeriod(Wire):
    """A closed month."""

    period: Period
    closed_at: AwareDatetime
    closed_by: str


class ClosedPeriods(Wire):
    """All closed months, oldest first."""

    data: tuple[ClosedPeriod, ...]


class ExportPage(NamedTuple):
    """A page of an export, and the cursor of the next one or None."""

    body: bytes
    cursor: str | None


class MoneyApi(BulkApi):
    """Reads margins and exports, corrects events. Use as a context manager."""

    def margins(
        self,
        start: datetime,
        end: datetime,
        *,
        sort: str,
        currency: str | None,
        top: int | None,
        as_of: datetime | None = None,
    ) -> Margins:
        """Return revenue beside cost by customer.

        Args:
            start: The start of the period, aware.
            end: The end of the period, aware.
            sort: The value that ranks customers.
            currency: The currency. Defaults to the server's choice.
            top: The number of customers before "other". If None, all are named.
            as_of: The instant whose state is read, aware. If None, it is now.
        """
        query = {
            "from": start.isoformat(),
            "to": end.isoformat(),
            "sort": sort,
            "bucketWidth": "week",
        }
        if currency is not None:
            query["currency"] = currency
        if as_of is not None:
            query["asOf"] = as_of.isoformat()
        rows: list[MarginRow] = []
        while True:
            size = MAX_PAGE if top is None else min(MAX_PAGE, top - len(rows))
            page = self._get(
                "/v0/profitability",
                Margins,
                {**query, "topN": str(size), "offset": str(len(rows))},
            )
            rows += [row for row in page.rows if not row.is_other]
            rest = [row for row in page.rows if row.is_other]
            # A page of a server that ignores the offset would repeat without end.
            is_last = not rest or len(rows) == top
            if is_last or len(rows) >= page.pagination.total:
                return page.model_copy(update={"rows": (*rows, *rest)})

    def correct_event(
        self, event_id: str, kind: str, body: Mapping[str, Any]
    ) -> EventCorrection:
        """Void or adjust one event."""
        path = f"/v0/events/{quoted(event_id)}/{kind}"
        return self._post(path, EventCorrection, body)

    def correct_events(self, body: Mapping[str, Any]) -> Corrected:
        """Correct all events that a filter finds, a page at a time.

        Args:
            body: The filter and the correction, with an idempotency key. A run that
                was cut short is continued by another one with the same key.
        """
        total = Corrected(matched=0, corrected=0, unchanged=0)
        cursor: str | None = None
        while True:
            page = self._post(
                "/v0/corrections",
                Corrected,
                {**body, **({"cursor": cursor} if cursor else {})},
            )
            total = Corrected(
                matched=total.matched + page.matched,
                corrected=total.corrected + page.corrected,
                unchanged=total.unchanged + page.unchanged,
            )
            cursor = page.next_cursor
            if cursor is None:
                return total

    def corrections(self, event_id: str | None, limit: int) -> CorrectionPage:
        """Return the newest corrections, of one event or of all."""
        query = {"limit": str(limit)}
        if event_id is not None:
            query["eventId"] = event_id
        return self._get("/v0/corrections", CorrectionPage, query)

    def revert(self, correction_id: str, reason: str) -> EventCorrection:
        """Take a correction back."""
        path = f"/v0/corrections/{quoted(correction_id)}/revert"
        return self._post(path, EventCorrection, {"reason": reason})

    def close_month(self, month: str) -> ClosedPeriod:
        """Close a month."""
        return self._post("/v0/closedPeriods", ClosedPeriod, {"period": month})

    def closed_months(self) -> ClosedPeriods:
        """Return all closed months."""
        return self._get("/v0/closedPeriods", ClosedPeriods)

    def all_corrections(self) -> Iterator[EventCorrection]:
        """Yield the corrections of all events, newest first."""
        for page in self._pages("/v0/corrections", CorrectionPage):
            yield from page.data

    def export(
        self, query: Mapping[str, str], cursor: str | None
    ) -> Iterator[ExportPage]:
        """Yield the pages of an export, from a cursor on."""
        while True:
            more = {} if cursor is None else {"cursor": cursor}
            call = Call("GET", "/v0/export", bytes, {**query, **more})
            page = self._export_page(call)
            yield page
            cursor = page.cursor
            if cursor is None:
                return

    def _export_page(self, call: Call[bytes]) -> ExportPage:
        for attempt in tenacity.Retrying(**self._connection.retrying(call)):
            with attempt:
                response = self._request(call)
                number = attempt.retry_state.attempt_number
                body = self._connection.result(call, response, number)
                return ExportPage(body, response.headers.get("outlay-next-cursor"))
        raise AssertionError  # pragma: no cover - the last attempt returns or raises
