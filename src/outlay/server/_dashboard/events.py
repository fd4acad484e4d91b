"""The pages of single events: where a total comes from, down to the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay.server._dashboard.amounts import Amount, amount, count, tail_class
from outlay.server._dashboard.pages import (
    Page,
    Redirect,
    filter_chips,
    frame,
    period_controls,
)
from outlay.server._dashboard.periods import local
from outlay.server._metering.decimals import to_countable
from outlay.server._services.auth import require_permission
from outlay.server._wire.event_models import EventQuery
from outlay.server._wire.response_models import (
    decode_data,
    parse_instant,
    to_microseconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._dashboard.visit import Visit
    from outlay.server._wire.event_models import EventDetail, EventRecord

READ: Final = "events:read"
_PAGE_SIZE: Final = 50
_FEW: Final = 12
_REASONS: Final = {
    "other_currency": "excluded: in another currency than the metric",
    "no_value": "excluded: its value is missing, or is no number",
}


class EventRow(NamedTuple):
    """One event, as a row of a table. Its amount is as it was sent."""

    href: str
    time: str
    type: str
    customer: str
    customer_href: str
    what: str
    amount: Amount | None
    currency: str
    provenance: str
    key: str


class EventTable(NamedTuple):
    """A page of events. ``reason`` says why there are none to be shown."""

    rows: Sequence[EventRow]
    tail: str
    older: str
    everything: str
    reason: str = ""


def few_events(visit: Visit, customer: str | None) -> EventTable | None:
    """Return the newest events of a page, or None if the key may not read events."""
    if not visit.may(READ):
        return None
    return _table(visit, customer, _FEW)


def events(visit: Visit) -> Page:
    """Return the page ``/events``: the events of a period, the newest first."""
    require_permission(visit.key, READ)
    customer = visit.query.get("id")
    chips = filter_chips(visit)
    if customer is not None:
        chips.insert(
            0,
            {
                "name": "Customer",
                "value": customer or "(unattributed)",
                "remove": visit.link(id=None, cursor=None),
            },
        )
    return Page(
        "events.html",
        {
            **frame(visit, "Events"),
            **period_controls(visit),
            "base_url": visit.base_url,
            "is_empty": not visit.has_events,
            "chips": chips,
            "events": _table(visit, customer, _PAGE_SIZE),
            "newest": visit.link(cursor=None) if "cursor" in visit.query else "",
        },
    )


def _table(visit: Visit, customer: str | None, limit: int) -> EventTable:
    everything = visit.link_to_events(customer)
    if reason := _unclear_filter(visit):
        return EventTable((), "", "", everything, reason)
    metric = visit.metric
    # Other metrics of the same currency count as well, so no type is left out.
    query = EventQuery.model_construct(
        start=visit.period.start,
        end=visit.period.end,
        subject=customer,
        cost_id=None if metric is None else metric.id,
        filter_group_by={
            name: frozenset([value]) for name, value in visit.where.items()
        },
        as_of=visit.as_of,
        limit=limit,
        cursor=visit.query.get("cursor") if visit.path == "/events" else None,
    )
    found = visit.core.events.list(visit.key, query)
    rows = [_row(visit, event) for event in found.data]
    older = found.next_cursor
    return EventTable(
        rows,
        tail_class([row.amount for row in rows if row.amount]),
        visit.link("/events", cursor=older) if older else "",
        everything,
    )


def _unclear_filter(visit: Visit) -> str:
    """Return why no event can be matched with a filter, or ''.

    Metrics may read a dimension of one name from different places of an event.
    """
    if visit.metric is not None:
        return ""
    for name in visit.where:
        paths = {metric.group_by[name] for metric in visit.counted_metrics}
        if paths - {f"$.{name}"}:
            return (
                f"Metrics read {name} from different places of an event. Choose one "
                "metric to see its events."
            )
    return ""


def _row(visit: Visit, event: EventRecord) -> EventRow:
    data = decode_data(bytes(event.data))
    customer = event.subject or event.external_subject or ""
    value = to_countable(data.get("amount"))
    what = [data.get(name) for name in ("provider", "model", "operation")]
    currency = data.get("currency")
    return EventRow(
        visit.link("/event", event=event.id),
        _time(visit, event.timestamp),
        event.type,
        visit.customer_names.get(customer, customer) or "(unattributed)",
        visit.link_to_group("customer", customer),
        " · ".join(one for one in what if isinstance(one, str)),
        None if value is None else amount(value),
        currency if isinstance(currency, str) else "",
        event.provenance or "",
        event.idempotency_key,
    )


def event(visit: Visit) -> Page | Redirect:
    """Return the page ``/event?event=…``: all that is known of one event."""
    require_permission(visit.key, READ)
    if "event" not in visit.query:
        return Redirect(visit.link("/events"))
    found = visit.core.events.get(visit.key, visit.query["event"])
    record = found.event
    customer = record.subject or record.external_subject or ""
    return Page(
        "event.html",
        {
            **frame(visit, record.id),
            "event": record,
            "zone": visit.period.zone.key,
            "all_events": visit.link("/events"),
            "customer": visit.customer_names.get(customer, customer),
            "customer_href": visit.link_to_group("customer", customer),
            "facts": _facts(visit, found),
            "uses": [
                {
                    "metric": use.name,
                    "quantity": None
                    if use.quantity is None
                    else count(bytes(use.quantity).decode()),
                    "cost": None if use.cost_exact is None else amount(use.cost_exact),
                    "currency": use.currency,
                    "reason": _REASONS.get(use.excluded or "", ""),
                }
                for use in found.counts
            ],
            "corrections": _corrections(visit, found),
            "price": _pretty(found.price) if found.price is not None else "",
            "data": _pretty(record.data),
        },
    )


def _corrections(visit: Visit, found: EventDetail) -> list[dict[str, Any]]:
    return [
        {
            "kind": "revert" if one.reverts else one.kind,
            "delta": None if one.delta is None else amount(one.delta),
            "reason": one.reason,
            "by": one.created_by,
            "at": _time(visit, one.created_at),
        }
        for one in found.corrections
    ]


def _facts(visit: Visit, found: EventDetail) -> Mapping[str, str]:
    record = found.event
    return {
        "Time of the operation": _time(visit, record.timestamp),
        "Received": _time(visit, record.received_at),
        "Type": record.type,
        "Source": record.source,
        "Provenance of the amount": found.provenance or "not said",
        "Idempotency key": record.idempotency_key,
        "A repeat is a duplicate until": _time(visit, found.receipt.key_ends_at),
        "Id": record.id,
    }


def _time(visit: Visit, instant: str) -> str:
    at = local(to_microseconds(parse_instant(instant)), visit.period.zone)
    return f"{at.day} {at:%b %Y, %H:%M:%S}"


def _pretty(value: msgspec.Raw) -> str:
    """Return JSON with a member a line. Numbers keep all of their digits."""
    return msgspec.json.format(bytes(value), indent=2).decode()
