"""The page about the data itself: what arrived, and what is in no total."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay.server._dashboard.amounts import count, percent
from outlay.server._dashboard.charts import Bucket, Part, stacked_chart
from outlay.server._dashboard.figures import Scope, metric_counts
from outlay.server._dashboard.pages import (
    Kpi,
    Page,
    filter_chips,
    frame,
    period_controls,
)
from outlay.server._dashboard.periods import local
from outlay.server._services.ingest_activity import MINUTES, Activity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outlay.server._dashboard.charts import StackedChart
    from outlay.server._dashboard.figures import EventCounts
    from outlay.server._dashboard.visit import Visit
    from outlay.server._records import CostMetric

_MINUTE: Final = 60_000_000  # microseconds
_ADVICE: Final = {
    "INVALID_EVENT_TYPE": "No cost metric reads this type. Create one, and the client "
    "sends the events again.",
    "MALFORMED_BODY": "The body is no event in JSON. Correct the sender.",
    "BODY_TOO_LARGE": "The event is larger than the server takes. Send less data.",
    "FORBIDDEN": "The event names another organization than its key's.",
    "validation_error": "A field is missing or invalid. The response names it.",
}


def data_health(visit: Visit) -> Page:
    """Return the page ``/data-health``."""
    ingest = visit.core.ingest
    activity = ingest.activity.of(visit.key.namespace)
    began = local(ingest.activity.started_at, visit.period.zone)
    with visit.core.store.reading() as reader:
        unmatched = reader.unmatched_types(
            visit.key.namespace,
            visit.period.start,
            visit.period.end,
            as_of=visit.as_of,
        )
    chart, rows = _rate(visit, activity)
    counts = [*metric_counts(visit, Scope({}))]
    return Page(
        "health.html",
        {
            **frame(visit, "Data health"),
            **period_controls(visit),
            "chips": filter_chips(visit),
            "since": f"{began.day} {began:%b %Y, %H:%M}",
            "store": visit.core.settings.engine,
            "unfolded": count(visit.core.store.unfolded()),
            "kpis": _kpis(activity, sum(rows.values())),
            "chart": chart,
            "rate_rows": [
                {"label": label, "count": count(events)}
                for label, events in rows.items()
                if events
            ],
            "refusals": [
                {
                    "status": reason.status or "–",
                    "code": reason.code,
                    "type": reason.event_type,
                    "count": count(number),
                    "advice": _ADVICE.get(reason.code, ""),
                    "new": visit.link("/cost-metrics", new="", type=reason.event_type)
                    if reason.event_type and visit.may("costs:write")
                    else "",
                }
                for reason, number in activity.refusals.most_common()
            ],
            "excluded": _excluded(visit, counts),
            "unpriced": count(
                sum(one.excluded - one.other_currency for _, one in counts)
            ),
            "duplicates": _duplicates(activity),
            "unmatched": [
                {"type": event_type, "count": count(events)}
                for event_type, events in unmatched.items()
            ],
            "metrics_href": visit.link("/cost-metrics"),
        },
    )


def _kpis(activity: Activity, last_hour: int) -> list[Kpi]:
    received = Decimal(
        activity.accepted + activity.duplicates + sum(activity.refusals.values())
    )

    def share(number: int) -> str:
        return f"{percent(Decimal(number), received) or '–'} of what was received"

    refused = sum(activity.refusals.values())
    conflicts = f"{count(activity.conflicts)} with another payload than the first"
    return [
        Kpi(
            "Accepted",
            f"{count(last_hour)} received in the last hour",
            text=count(activity.accepted),
        ),
        Kpi("Duplicates", conflicts, text=count(activity.duplicates)),
        Kpi("Refused", share(refused), text=count(refused)),
        Kpi(
            "Late", "accepted a day or more after their time", text=count(activity.late)
        ),
    ]


def _rate(
    visit: Visit, activity: Activity
) -> tuple[StackedChart | None, dict[str, int]]:
    """Return the events of each of the last 60 minutes: a chart, and its figures."""
    last = visit.core.now() // _MINUTE
    buckets: list[Bucket] = []
    rows: dict[str, int] = {}
    for minute in range(last - MINUTES + 1, last + 1):
        label = f"{local(minute * _MINUTE, visit.period.zone):%H:%M}"
        events = activity.minutes.get(minute, 0)
        rows[label] = events
        parts = [Part("ka", Decimal(events))] if events else []
        words = f"{label}: {count(events)} events"
        buckets.append(Bucket(label, words, "", parts, minute == last))
    return (stacked_chart(buckets) if any(rows.values()) else None), rows


def _duplicates(activity: Activity) -> list[dict[str, str]]:
    """Return the rows about events whose key was received before."""
    same = activity.duplicates - activity.conflicts
    return [
        {
            "label": "the same content",
            "count": count(same),
            "note": "A sender repeated it. There is nothing to do.",
        },
        {
            "label": "another content",
            "count": count(activity.conflicts),
            "note": "The first one counts. Give each operation a key of its own.",
        },
    ]


def _excluded(
    visit: Visit, found: Iterable[tuple[CostMetric, EventCounts]]
) -> Sequence[dict[str, Any]]:
    """Return the metrics of the period with events that are in no total."""
    rows = []
    for metric, counts in found:
        if counts.excluded:
            rows.append(
                {
                    "name": metric.name,
                    "href": visit.link("/", metric=metric.id),
                    "events": count(counts.events),
                    "no_value": count(counts.excluded - counts.other_currency),
                    "other_currency": count(counts.other_currency),
                    "currency": metric.currency,
                    "property": metric.value_property or "",
                }
            )
    return rows
