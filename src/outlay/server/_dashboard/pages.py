"""Common parts of all pages: the frame, the choice of the period, messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server._dashboard.periods import PERIOD_KINDS, UTC_NAME, local
from outlay.server._dashboard.visit import (
    AS_OF,
    PERIOD_NAMES,
    WHERE,
    dimension_label,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from outlay.server._dashboard.amounts import Amount
    from outlay.server._dashboard.charts import Sparkline
    from outlay.server._dashboard.visit import Visit


class Page(NamedTuple):
    """A page to be rendered.

    Attributes:
        template: The name of the template.
        context: The values of the template.
        status: The HTTP status.
    """

    template: str
    context: Mapping[str, Any]
    status: int = 200


class Redirect(NamedTuple):
    """The response to a form that was accepted: the page that shows the change."""

    location: str


class Message(NamedTuple):
    """A message at the top of a page. Its kind is ``good``, ``warn`` or ``bad``."""

    kind: str
    text: str


class Kpi(NamedTuple):
    """One figure at the top of a page.

    Attributes:
        label: The name of the figure.
        note: The comparison with the prior period, or what the figure is of.
        amount: The amount of money. If None, ``text`` is the figure.
        text: The figure, where it is no amount of money.
        spark: The figure over time, or None.
        spark_words: The accessible name of the sparkline.
    """

    label: str
    note: str
    amount: Amount | None = None
    text: str = ""
    spark: Sparkline | None = None
    spark_words: str = ""


_NAVIGATION: Final = (
    ("/", "Overview", ("/",), "costs:read"),
    ("/customers", "Customers", ("/customers", "/customer"), "costs:read"),
    ("/events", "Events", ("/events", "/event"), "events:read"),
    ("/revenue", "Revenue", ("/revenue",), "revenue:read"),
    ("/cost-metrics", "Metrics", ("/cost-metrics",), "costs:read"),
    ("/budgets", "Budgets", ("/budgets",), "budgets:read"),
    ("/data-health", "Data health", ("/data-health",), "costs:read"),
    (
        "/reconciliation",
        "Reconciliation",
        ("/reconciliation", "/saved-reconciliation"),
        "events:read",
    ),
    ("/api-keys", "API keys", ("/api-keys",), "apiKeys:read"),
)
"""The pages: path, label, the paths of its pages, and the permission it needs."""


def frame(visit: Visit, title: str) -> dict[str, Any]:
    """Return the values that every page needs."""
    return {
        "title": title,
        "nav": [
            {
                "href": visit.link(path) if path != visit.path else visit.link(),
                "label": label,
                "current": visit.path in paths,
            }
            for path, label, paths, permission in _NAVIGATION
            if visit.may(permission)
        ],
        "who": visit.key.name,
        "csrf": visit.form_token,
        "can_sign_out": visit.has_session,
        "namespace": visit.key.namespace,
        "currency": visit.currency,
        "messages": [],
        "warnings": [],
    }


class Subject(NamedTuple):
    """The thing that a person is asked about.

    Attributes:
        id: Its id.
        name: Its name, for people.
        kind: Its kind, such as "metric".
        list: The name of the page that lists it.
    """

    id: str
    name: str
    kind: str
    list: str


def question(visit: Visit, verb: str, subject: Subject, text: str, back: str) -> Page:
    """Return the page that asks before something ends.

    Args:
        visit: The request.
        verb: The verb, which is also the action of the form: ``Delete`` or ``Revoke``.
        subject: The thing that ends.
        text: The consequences, as sentences.
        back: The address of the list.
    """
    title = f"{verb} a {subject.kind}"
    context = {**subject._asdict(), "verb": verb, "text": text, "back": back}
    return Page("question.html", {**frame(visit, title), **context})


def period_controls(visit: Visit) -> dict[str, Any]:
    """Return the values of the choice of the period."""
    period = visit.period
    later = period.later
    kept = [
        (name, value)
        for name, value in visit.query.items()
        if name not in {*PERIOD_NAMES, "currency", "page", "cursor", AS_OF}
    ]
    prior = f"Compared with {period.prior.label}"
    if period.is_running:
        prior += ", the same part of the period before"
    zone = period.zone.key
    closed = [
        one
        for one in visit.closed_periods
        if one.start <= period.start and period.end <= one.end
    ]
    return {
        "period": {
            "closed": f"closed by {closed[0].closed_by}" if closed else "",
            "label": period.label,
            "days": period.days,
            "note": f"{period.days}, {zone}. {prior}."
            if period.label != period.days
            else f"{zone}. {prior}.",
            "kinds": [
                {
                    "href": visit.link_to_period(period.of_kind(kind).query),
                    "label": kind.capitalize(),
                    "current": kind == period.kind,
                }
                for kind in PERIOD_KINDS
            ],
            "earlier": visit.link_to_period(period.earlier.query),
            "earlier_label": period.earlier.label,
            "later": later and visit.link_to_period(later.query),
            "later_label": later and later.label,
            "zone": zone,
            "zone_label": "Dates" if zone == UTC_NAME else f"Dates, {zone}",
            "kept": kept,
            "first_day": period.first.isoformat(),
            "last_day": period.last.isoformat(),
            "currencies": visit.currencies,
            "as_of": visit.query.get(AS_OF, ""),
        }
    }


def filter_chips(visit: Visit) -> list[dict[str, str]]:
    """Return the filters of a page, each with the link that removes it."""
    chips = [
        {
            "name": dimension_label(name),
            "value": value or "(none)",
            "remove": visit.link(**{WHERE + name: None}),
        }
        for name, value in visit.where.items()
    ]
    if visit.as_of is not None:
        at = local(visit.as_of, visit.period.zone)
        chips.insert(
            0,
            {
                "name": "As of",
                "value": f"{at.day} {at:%b %Y, %H:%M:%S}",
                "remove": visit.link(asOf=None),
            },
        )
    if visit.metric is not None:
        chips.insert(
            0,
            {
                "name": "Metric",
                "value": visit.metric.name,
                "remove": visit.link(metric=None),
            },
        )
    return chips


def overlap_warnings(visit: Visit) -> list[str]:
    """Return a warning for each event type that several metrics of a page count."""
    names: dict[str, list[str]] = {}
    for metric in visit.counted_metrics:
        if metric.event_type:
            names.setdefault(metric.event_type, []).append(metric.name)
    return [
        f"Events of type {event_type} are in {len(several)} metrics "
        f"({', '.join(several)}), so their cost is in these totals more than once."
        for event_type, several in names.items()
        if len(several) > 1
    ]


def worth_saying(warnings: Iterable[str]) -> list[str]:
    """Return the warnings of a service as sentences.

    Excluded events are left out: each page counts them, and the page of the data's
    health lists them by metric.
    """
    return [
        f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
        for text in warnings
        if not text.startswith(_COUNTED_ELSEWHERE)
    ]


_COUNTED_ELSEWHERE: Final = (
    "excluded, because they have no numeric value",
    "excluded, because they are in another currency",
)
