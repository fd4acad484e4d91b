"""The services that compute over many events, and their responses as bytes.

Each function can run in another process: its arguments can be pickled, and it returns
the encoded body. So the event loop's thread encodes no large response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._services.events import EventService
from outlay.server._services.export import ExportPage, ExportService
from outlay.server._services.margin_responses import (
    margin_query,
    profitability_response,
)
from outlay.server._services.meters import MeterService
from outlay.server._services.profitability import ProfitabilityService
from outlay.server._services.report import ReportService
from outlay.server._services.summary import SummaryService
from outlay.server._wire.event_models import UnmatchedList, UnmatchedType
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from outlay.server._records import ApiKey
    from outlay.server._storage.store import Views
    from outlay.server._wire.billable_models import MeterQuery
    from outlay.server._wire.event_models import (
        EventQuery,
        MeterEventQuery,
        UnmatchedQuery,
    )
    from outlay.server._wire.export_models import ExportQuery
    from outlay.server._wire.request_models import ReportQuery, SummaryQuery
    from outlay.server._wire.revenue_models import ProfitabilityQuery


class QueryServices:
    """The services of queries, over one store. Thread safety: any thread.

    Args:
        views: The store, for reading.
        default_currency: The currency of an organization without costs.
    """

    def __init__(self, views: Views, default_currency: str) -> None:
        self.views = views
        self.default_currency = default_currency
        self.summaries = SummaryService(views)
        self.reports = ReportService(views, default_currency)
        self.meters = MeterService(views)
        self.profitability = ProfitabilityService(views, default_currency)


def summary(
    services: QueryServices, key: ApiKey, cost_id: str, query: SummaryQuery
) -> bytes:
    """Return the summary of a cost."""
    return encode(services.summaries.summarize(key, cost_id, query))


def report(services: QueryServices, key: ApiKey, query: ReportQuery) -> bytes:
    """Return the report of an organization."""
    return encode(services.reports.report(key, query))


def meter(
    services: QueryServices, key: ApiKey, metric_id: str, query: MeterQuery
) -> bytes:
    """Return the meter of a billable metric."""
    return encode(services.meters.meter(key, metric_id, query))


def meter_events(
    services: QueryServices, key: ApiKey, metric_id: str, query: MeterEventQuery
) -> bytes:
    """Return raw events of a billable metric."""
    return encode(services.meters.events(key, metric_id, query))


def profitability(
    services: QueryServices, namespace: str, query: ProfitabilityQuery
) -> bytes:
    """Return the comparison of an organization's revenue and cost."""
    asked = margin_query(query)
    found = services.profitability.margins(namespace, asked)
    return encode(profitability_response(asked, found))


def events(
    services: QueryServices, key: ApiKey, query: EventQuery, dedupe_window: int
) -> bytes:
    """Return a page of events."""
    return encode(EventService(services.views, dedupe_window).list(key, query))


def event(
    services: QueryServices, key: ApiKey, event_id: str, dedupe_window: int
) -> bytes:
    """Return one event, its receipt, and what it counts for."""
    return encode(EventService(services.views, dedupe_window).get(key, event_id))


def export(
    services: QueryServices, namespace: str, query: ExportQuery, now: int
) -> ExportPage:
    """Return a page of an export, as of ``now`` in microseconds since 1970."""
    service = ExportService(services.views, services.default_currency, lambda: now)
    return service.page(namespace, query)


def unmatched(services: QueryServices, namespace: str, query: UnmatchedQuery) -> bytes:
    """Return the event types of a period that no cost metric counts."""
    with services.views.reading() as reader:
        found = reader.unmatched_types(
            namespace, query.start, query.end, as_of=query.as_of
        )
    types = [UnmatchedType(name, number) for name, number in found.items()]
    return encode(UnmatchedList(types))
