"""Ask the services for the figures of a page.

Every figure is one that the API gives, or an exact sum of such figures.
"""

from __future__ import annotations

from bisect import bisect_right
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._dashboard.periods import UTC_NAME, Bucket, Period, Span
from outlay.server._metering.decimals import ZERO, add, exact_sum
from outlay.server._services.breakdown import TimeWindow
from outlay.server._services.ranking import OTHER
from outlay.server._services.report_scope import BY_COST
from outlay.server._wire.request_models import ReportQuery, SortDirection, SummaryQuery
from outlay.server._wire.response_models import parse_instant, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from outlay.server._dashboard.visit import Visit
    from outlay.server._records import CostMetric
    from outlay.server._wire.response_models import ReportResponse

CHART_GROUPS: Final = 9
"""The groups of a chart with a colour of their own. The rest is "Other"."""

_ALL_GROUPS: Final = 2**53


class Scope(NamedTuple):
    """The costs and events that count on a page.

    Attributes:
        where: The wanted value of each filtered dimension.
        customer: The only customer. If None, all count.
    """

    where: Mapping[str, str]
    customer: str | None = None


class Point(NamedTuple):
    """The costs of one bucket.

    Attributes:
        bucket: The bucket.
        costs: The costs by group. Without events there are none.
        total: The cost of all groups. None if the bucket has no events.
    """

    bucket: Bucket
    costs: Mapping[str, Decimal]
    total: Decimal | None


def report(
    visit: Visit,
    scope: Scope,
    start: int,
    end: int,
    by: str,
    *,
    limit: int = CHART_GROUPS,
    offset: int = 0,
    ascending: bool = False,
    only: Iterable[str] | None = None,
    in_buckets: bool = False,
) -> ReportResponse:
    """Return the report of a period, as ``GET /v0/costs/report`` has it.

    Args:
        visit: The request of the page.
        scope: The costs and events that count.
        start: The first instant, in microseconds since 1970.
        end: The first instant that no longer counts, in the same unit.
        by: ``cost``, ``customer``, or a dimension of any of the costs.
        limit: The number of groups. The rest is one group.
        offset: The number of groups before the first one.
        ascending: Whether the cheapest groups come first.
        only: The only values of the dimension ``by`` that count. Defaults to all.
        in_buckets: Whether there is a time series of the buckets of the visit's period.
    """
    where = {name: frozenset([value]) for name, value in scope.where.items()}
    if only is not None:
        name = "subject" if by == "customer" else by
        where[name] = where.get(name, frozenset(only)) & frozenset(only)
    # The server's own windows are hours, days and months in UTC.
    is_utc = visit.period.zone.key == UTC_NAME
    query = ReportQuery.model_construct(
        start=start,
        end=end,
        group_by=by,
        cost_id=() if visit.metric is None else (visit.metric.id,),
        subject=scope.customer,
        filter_group_by=where,
        exclude_empty=True,
        window_size=visit.period.grain.upper() if in_buckets and is_utc else None,
        sort_dir=SortDirection.ASC if ascending else SortDirection.DESC,
        offset=offset,
        limit=limit,
        currency=visit.currency,
        as_of=visit.as_of,
    )
    windows = [
        TimeWindow(one.start, one.end)
        for one in (visit.period.buckets() if in_buckets and not is_utc else ())
    ]
    return visit.core.reports.report(
        visit.key, query, across_costs=True, windows=windows
    )


def prior_costs(
    visit: Visit, scope: Scope, span: Span, by: str, keys: Sequence[str]
) -> tuple[Decimal, dict[str, Decimal]]:
    """Return the total of the prior period, and the costs of some groups in it."""
    total = report(visit, scope, span.start, span.end, BY_COST, limit=1)
    # A filter is fast among many groups, but leaves out costs without the dimension.
    only = None if "" in keys or by == BY_COST else keys
    found = report(visit, scope, span.start, span.end, by, limit=_ALL_GROUPS, only=only)
    wanted = set(keys)
    return Decimal(total.total_cost_exact), {
        group.key: Decimal(group.total_cost_exact)
        for group in found.groups
        if group.key in wanted
    }


def series(period: Period, response: ReportResponse) -> list[Point]:
    """Return the costs of each bucket of a period, from a report in its buckets."""
    buckets = period.buckets()
    starts = [bucket.start for bucket in buckets]
    costs: list[dict[str, Decimal]] = [{} for _ in buckets]
    for point in response.time_series:
        at = to_microseconds(parse_instant(point.window_start))
        # The first month's window may start before a period of days does.
        found = costs[max(bisect_right(starts, at) - 1, 0)]
        for key, cost in point.groups.items():
            value = Decimal(bytes(cost).decode())
            found[key] = add(found.get(key, ZERO), value)
    return [
        Point(bucket, found, exact_sum(found.values()) if found else None)
        for bucket, found in zip(buckets, costs, strict=True)
    ]


class EventCounts(NamedTuple):
    """The events of a period that the metrics read.

    Attributes:
        events: All of them.
        excluded: Those that are in no total.
        other_currency: Those of the excluded that are in another currency.
    """

    events: int
    excluded: int
    other_currency: int


def event_counts(visit: Visit, scope: Scope) -> EventCounts:
    """Return the events of the period behind the figures of a page."""
    total = EventCounts(0, 0, 0)
    for _, one in metric_counts(visit, scope):
        total = EventCounts(
            total.events + one.events,
            total.excluded + one.excluded,
            total.other_currency + one.other_currency,
        )
    return total


def metric_counts(
    visit: Visit, scope: Scope
) -> Iterator[tuple[CostMetric, EventCounts]]:
    """Yield each metric of a page, and the events of the period that it reads."""
    for metric in visit.counted_metrics:
        query = SummaryQuery.model_construct(
            start=visit.period.start,
            end=visit.period.end,
            subject=scope.customer,
            filter_group_by={
                name: frozenset([value]) for name, value in scope.where.items()
            },
            as_of=visit.as_of,
        )
        found = visit.core.summaries.summarize(visit.key, metric.id, query)
        yield metric, EventCounts(found.events, found.excluded, found.other_currency)


def first_group(by: str) -> str:
    """Return the name of the group without a value of the dimension ``by``."""
    return "(unattributed)" if by in {"customer", "subject"} else f"(no {by})"


def is_linkable(by: str, key: str) -> bool:
    """Return whether a group has a page. The rest and '' of a dimension have none."""
    return key != OTHER and (key != "" or by in {"customer", BY_COST})
