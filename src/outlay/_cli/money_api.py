"""Import revenue and read margins, for commands."""

from __future__ import annotations

import secrets
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import httpx
import tenacity
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from outlay._cli.server_api import ServerApi, quoted
from outlay.api._calls import Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from outlay._model.settings import Settings

LINES_A_PART: Final = 2000  # so that a busy server responds in time
_PAGE: Final = 100  # the most rows of a page
_ATTEMPTS: Final = 3  # a part of an import may be sent again
# A busy server may need long for thousands of lines. Its own limit of a query is 30 s
# by default, and its message says more than a timeout does.
_READ_SECONDS: Final = 60.0


class _Wire(BaseModel):
    """Common rules: camelCase names on the wire, and unknown fields are ignored."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class Period(_Wire):
    """A period. The end itself does not count."""

    start: Annotated[AwareDatetime, Field(alias="from")]
    end: Annotated[AwareDatetime, Field(alias="to")]


class Replacement(_Wire):
    """A line of revenue that an import replaced."""

    key: str
    customer_id: str
    period: Period
    currency: str
    amount: Decimal
    replaced_amount: Decimal
    replaced_currency: str


class ImportResult(_Wire):
    """The outcome of an import of revenue, or of a part of one."""

    import_id: str
    is_complete: bool
    added: int
    replaced: int
    unchanged: int
    replacements: tuple[Replacement, ...] = ()
    warnings: tuple[str, ...] = ()


class MarginTotals(_Wire):
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


class UsedRate(_Wire):
    """A rate that converted an amount."""

    from_currency: Annotated[str, Field(alias="from")]
    to_currency: Annotated[str, Field(alias="to")]
    rate: Decimal
    valid_from: AwareDatetime
    source: str


class _Pagination(_Wire):
    total: int


class Margins(_Wire):
    """A page of customers, with the totals of all customers."""

    currency: str
    rows: tuple[MarginRow, ...]
    warnings: tuple[str, ...]
    total: MarginTotals
    rates: tuple[UsedRate, ...]
    pagination: _Pagination


class Correction(_Wire):
    """A correction of an event."""

    id: str
    kind: str
    event_id: str
    reason: str
    created_at: AwareDatetime
    created_by: str
    cost_id: str | None = None
    delta: Decimal | None = None
    reverts: str | None = None


class CorrectionPage(_Wire):
    """A page of corrections, newest first."""

    data: tuple[Correction, ...]
    pagination: _Pagination


class Corrected(_Wire):
    """The outcome of a correction of many events."""

    matched: int
    corrected: int
    unchanged: int
    next_cursor: str | None = None


class ClosedPeriod(_Wire):
    """A closed month."""

    period: Period
    closed_at: AwareDatetime
    closed_by: str


class ClosedPeriods(_Wire):
    """All closed months, oldest first."""

    data: tuple[ClosedPeriod, ...]


class ExportPage(NamedTuple):
    """A page of an export, and the cursor of the next one or None."""

    body: bytes
    cursor: str | None


class MoneyApi(ServerApi):
    """Imports revenue, reads margins, corrects events. Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, attempts=_ATTEMPTS)
        if "timeout" not in settings.model_fields_set:
            self._client.timeout = httpx.Timeout(settings.timeout, read=_READ_SECONDS)

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
            size = _PAGE if top is None else min(_PAGE, top - len(rows))
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
    ) -> Correction:
        """Void or adjust one event."""
        path = f"/v0/events/{quoted(event_id)}/{kind}"
        return self._post(path, Correction, body)

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

    def revert(self, correction_id: str, reason: str) -> Correction:
        """Take a correction back."""
        path = f"/v0/corrections/{quoted(correction_id)}/revert"
        return self._post(path, Correction, {"reason": reason})

    def close_month(self, month: str) -> ClosedPeriod:
        """Close a month."""
        return self._post("/v0/closedPeriods", ClosedPeriod, {"period": month})

    def closed_months(self) -> ClosedPeriods:
        """Return all closed months."""
        return self._get("/v0/closedPeriods", ClosedPeriods)

    def all_corrections(self) -> Iterator[Correction]:
        """Yield the corrections of all events, newest first."""
        offset = 0
        while True:
            query = {"limit": str(_PAGE), "offset": str(offset)}
            page = self._get("/v0/corrections", CorrectionPage, query)
            yield from page.data
            offset += len(page.data)
            if not page.data or offset >= page.pagination.total:
                return

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
