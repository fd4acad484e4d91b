"""The page of cost metrics: what counts, and what would count twice."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay.server._dashboard.amounts import amount, count, tail_class
from outlay.server._dashboard.figures import Scope, report
from outlay.server._dashboard.forms import field_errors, read_fields
from outlay.server._dashboard.pages import (
    Message,
    Page,
    Redirect,
    Subject,
    filter_chips,
    frame,
    period_controls,
    question,
)
from outlay.server._metering.decimals import format_plain
from outlay.server._records import Aggregation
from outlay.server._services.auth import require_permission
from outlay.server._services.costs import DEFAULT_PRODUCT
from outlay.server._services.report_scope import BY_COST
from outlay.server._wire.problems import HttpProblem, not_found
from outlay.server._wire.request_models import CostCreate, CostPatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._dashboard.visit import Visit
    from outlay.server._records import CostMetric

WRITE: Final = "costs:write"
_ALL: Final = 2**53
_DONE: Final = {
    "created": "The metric was created. Earlier events count as well.",
    "changed": "The metric was changed. A new price applies to earlier events as well.",
    "deleted": "The metric was deleted. Its events stay.",
}
_EMPTY: Final = {
    "name": "",
    "event_type": "",
    "aggregation": "SUM",
    "value_property": "$.amount",
    "unit_cost": "1",
    "unit": "",
    "group_by": "provider = $.provider\nmodel = $.model\noperation = $.operation",
}


def cost_metrics(visit: Visit) -> Page:
    """Return the page ``/cost-metrics``: the list, a form, or a question."""
    if "new" in visit.query:
        fields = {**_EMPTY, "currency": visit.currency}
        fields["event_type"] = visit.query.get("type", "")
        return _form(visit, fields, {})
    if "edit" in visit.query:
        metric = _metric(visit, visit.query["edit"])
        return _form(visit, _fields_of(metric), {}, metric)
    if "delete" in visit.query:
        metric = _metric(visit, visit.query["delete"])
        return question(
            visit,
            "Delete",
            Subject(metric.id, metric.name, "metric", "Metrics"),
            "Its cost leaves all totals, of earlier periods as well. The events of "
            f"type {metric.event_type or '–'} stay.",
            visit.link("/cost-metrics", delete=None),
        )
    return _list(visit)


def _list(visit: Visit) -> Page:
    period = visit.period
    found = report(visit, Scope({}), period.start, period.end, BY_COST, limit=_ALL)
    costs = {group.key: Decimal(group.total_cost_exact) for group in found.groups}
    types = Counter(metric.event_type for metric in visit.metrics)
    with visit.core.store.reading() as reader:
        unmatched = reader.unmatched_types(
            visit.key.namespace, period.start, period.end, as_of=visit.as_of
        )
    may_write = visit.may(WRITE)
    rows = [
        {
            "metric": metric,
            "what": _what(metric),
            "price": format_plain(metric.unit_cost),
            "dimensions": ", ".join(metric.group_by),
            "overlaps": bool(metric.event_type) and types[metric.event_type] > 1,
            "cost": amount(costs[metric.id]) if metric.id in costs else None,
            "href": visit.link("/", metric=metric.id),
            "edit": visit.link(edit=metric.id, done=None) if may_write else "",
            "delete": visit.link(delete=metric.id, done=None) if may_write else "",
        }
        for metric in visit.metrics
    ]
    done = _DONE.get(visit.query.get("done", ""))
    return Page(
        "metrics.html",
        {
            **frame(visit, "Metrics"),
            **period_controls(visit),
            "chips": filter_chips(visit),
            "messages": [Message("good", done)] if done else [],
            "rows": rows,
            "tail": tail_class([amount(cost) for cost in costs.values()]),
            "new": visit.link(new="", done=None) if may_write else "",
            "unmatched": [
                {
                    "type": event_type,
                    "count": count(events),
                    "new": visit.link(new="", type=event_type, done=None)
                    if may_write
                    else "",
                }
                for event_type, events in unmatched.items()
            ],
        },
    )


def _what(metric: CostMetric) -> str:
    if metric.aggregation is None:
        return "nothing"
    return f"{metric.aggregation} {metric.value_property or ''}".strip()


def _metric(visit: Visit, identifier: str) -> CostMetric:
    for metric in visit.metrics:
        if metric.id == identifier:
            return metric
    raise not_found("cost", identifier)


def _fields_of(metric: CostMetric) -> dict[str, str]:
    return {
        "name": metric.name,
        "event_type": metric.event_type or "",
        "aggregation": metric.aggregation or "",
        "value_property": metric.value_property or "",
        "unit_cost": format_plain(metric.unit_cost),
        "currency": metric.currency,
        "unit": metric.unit or "",
        "group_by": "\n".join(
            f"{name} = {path}" for name, path in metric.group_by.items()
        ),
    }


def _form(
    visit: Visit,
    fields: Mapping[str, str],
    errors: Mapping[str, str],
    metric: CostMetric | None = None,
) -> Page:
    require_permission(visit.key, WRITE)
    title = "New metric" if metric is None else f"Edit {metric.name}"
    messages: Sequence[Message] = ()
    if errors:
        others = [text for name, text in errors.items() if name not in fields]
        text = "Nothing was stored. Correct the marked fields."
        messages = [Message("bad", " ".join([text, *others]))]
    context: dict[str, Any] = {
        "fields": fields,
        "errors": errors,
        "metric": metric,
        "aggregations": [one.value for one in Aggregation],
        "messages": messages,
        "back": visit.link("/cost-metrics", new=None, edit=None, type=None),
    }
    return Page(
        "metric_form.html",
        {**frame(visit, title), **context},
        400 if errors else 200,
    )


async def change_metrics(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    """Create, change or delete a metric, as a form says."""
    require_permission(visit.key, WRITE)
    costs, action = visit.core.costs, form.get("action", "")
    if action == "delete":
        await costs.delete(visit.key, form.get("id", ""))
        return _back(visit, "deleted")
    if action not in {"create", "change"}:
        raise HttpProblem(400, "this form is of another version; reload its page")
    metric = _metric(visit, form.get("id", "")) if action == "change" else None
    fields = {name: form.get(name, "").strip() for name in (*_EMPTY, "currency")}
    fields["group_by"] = fields["group_by"].replace("\r\n", "\n")
    try:
        values = _values(fields)
        if metric is None:
            fixed = {"type": "metered", "product_id": DEFAULT_PRODUCT}
            await costs.create(visit.key, read_fields(CostCreate, {**values, **fixed}))
            return _back(visit, "created")
        await costs.change(visit.key, metric.id, read_fields(CostPatch, values))
    except HttpProblem as problem:
        if problem.body.errors is None:
            raise
        return _form(visit, fields, field_errors(problem), metric)
    return _back(visit, "changed")


def _back(visit: Visit, done: str) -> Redirect:
    cleared = dict.fromkeys(("new", "edit", "delete", "type"))
    return Redirect(visit.link("/cost-metrics", **{**cleared, "done": done}))


def _values(fields: Mapping[str, str]) -> dict[str, object]:
    """Return the values of a metric's model. Empty fields are absent ones."""
    values: dict[str, object] = {**fields}
    for name in ("value_property", "unit"):
        values[name] = fields[name] or None
    pairs = [line.partition("=") for line in fields["group_by"].splitlines()]
    values["group_by"] = {
        name.strip(): path.strip() for name, _, path in pairs if name.strip()
    }
    return values
