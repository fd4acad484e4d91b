"""The page of budgets: how much of each limit is spent, and the webhooks."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from outlay.server._dashboard.amounts import amount, count, percent, tail_class
from outlay.server._dashboard.charts import bar_width
from outlay.server._dashboard.forms import field_errors, read_fields
from outlay.server._dashboard.pages import (
    Message,
    Page,
    Redirect,
    Subject,
    frame,
    question,
)
from outlay.server._dashboard.periods import days_label, local
from outlay.server._metering.decimals import format_plain
from outlay.server._records import BudgetPeriod
from outlay.server._services.auth import require_permission
from outlay.server._services.budgets import budget_responses, highest_passed
from outlay.server._storage.page import ALL
from outlay.server._storage.page import Page as ListPage
from outlay.server._wire.budget_models import (
    DEFAULT_THRESHOLDS,
    BudgetBody,
    WebhookBody,
)
from outlay.server._wire.problems import HttpProblem, not_found
from outlay.server._wire.response_models import parse_instant, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._dashboard.visit import Visit
    from outlay.server._records import Budget, PassedThreshold
    from outlay.server._wire.budget_models import BudgetResponse, WebhookResponse

READ: Final = "budgets:read"
WRITE: Final = "budgets:write"
_PAGE_SIZE: Final = 25
_MOST_RANKED: Final = 1000  # budgets; more are in order of their ids
_NOTICES: Final = 3
_WHOLE: Final = Decimal(100)
_DONE: Final = {
    "created": "The budget was created.",
    "changed": "The budget was changed. Another limit has passed no threshold yet.",
    "deleted": "The budget was deleted.",
    "removed": "The webhook was deleted.",
    "delivered": "The test message was delivered.",
}
_KINDS: Final = {"month": BudgetPeriod.MONTH, "week": BudgetPeriod.WEEK}
"""The period of the budgets that a page about a past month or week names."""

_EMPTY: Final = {
    "name": "",
    "limit": "",
    "period": BudgetPeriod.MONTH.value,
    "customer_id": "",
    "dimensions": "",
    "thresholds": ", ".join(map(str, DEFAULT_THRESHOLDS)),
}
_CLEARED: Final = dict.fromkeys(("new", "edit", "delete"))


def budgets(visit: Visit) -> Page:
    """Return the page ``/budgets``: the list, a form, or a question."""
    require_permission(visit.key, READ)
    if "new" in visit.query:
        zone = visit.period.zone.key
        fields = {**_EMPTY, "currency": visit.currency, "time_zone": zone}
        fields["customer_id"] = visit.query["new"]
        return _form(visit, fields, {})
    if "edit" in visit.query:
        budget = _budget(visit, visit.query["edit"])
        return _form(visit, _fields_of(budget), {}, budget.id)
    if "delete" in visit.query:
        budget = _budget(visit, visit.query["delete"])
        return question(
            visit,
            "Delete",
            Subject(budget.id, budget.name, "budget", "Budgets"),
            "Its passed thresholds, and the messages about it that wait, are deleted "
            "as well. No cost changes.",
            visit.link("/budgets", **_CLEARED),
        )
    done = _DONE.get(visit.query.get("done", ""))
    return _list(visit, [Message("good", done)] if done else [])


def budget_notice(visit: Visit, customer: str | None = None) -> dict[str, Any] | None:
    """Return the lines about passed thresholds for another page, or None.

    A page about a time that is over names the budgets of that same month or week.

    Args:
        visit: The request of the page.
        customer: The customer of the page. If None, all budgets count.
    """
    period = visit.period
    if not visit.may(READ) or (not period.is_running and period.kind not in _KINDS):
        return None
    namespace = visit.key.namespace
    with visit.core.store.reading() as reader:
        found, total = reader.budgets(
            namespace, ListPage(_MOST_RANKED, 0), customer=customer
        )
        if total > _MOST_RANKED:
            # Those of single customers are on the pages of these customers.
            found = reader.budgets_of(namespace, ())
        at = visit.core.now()
        if not period.is_running:
            # The middle, because the zones of the page and the budget may differ.
            at = (period.start + period.end) // 2
            found = [one for one in found if one.period == _KINDS[period.kind]]
        passed = highest_passed(reader, namespace, found, at)
    if not passed:
        return None
    passed.sort(key=lambda one: (-one[1].percent, one[1].passed_at))
    lines = [_notice(*one) for one in passed[:_NOTICES]]
    if len(passed) > _NOTICES:
        lines.append(f"So did {count(len(passed) - _NOTICES)} more.")
    return {"lines": lines, "href": visit.link("/budgets")}


def _notice(budget: Budget, passed: PassedThreshold) -> str:
    day = local(passed.passed_at, ZoneInfo(budget.zone))
    return (
        f"{budget.name} passed {passed.percent} % of its budget of "
        f"{count(budget.amount)} {budget.currency} on {day.day} {day:%B}."
    )


# -- the list


def _list(
    visit: Visit,
    messages: Sequence[Message] = (),
    *,
    added: WebhookResponse | None = None,
    url: str = "",
    errors: Mapping[str, str] | None = None,
) -> Page:
    offset = (visit.page - 1) * _PAGE_SIZE
    namespace, now = visit.key.namespace, visit.core.now()
    with visit.core.store.reading() as reader:
        _, total = reader.budgets(namespace, ListPage(0, 0))
        is_ranked = total <= _MOST_RANKED
        page = ALL if is_ranked else ListPage(_PAGE_SIZE, offset)
        found, _ = reader.budgets(namespace, page)
        states = budget_responses(reader, namespace, found, now)
    if is_ranked:
        states.sort(key=lambda one: -Decimal(one.state.share_pct))
        states = states[offset : offset + _PAGE_SIZE]
    rows = [_row(visit, one) for one in states]
    order = "the largest share first" if is_ranked else "in order of their ids"
    context: dict[str, Any] = {
        "messages": messages,
        "rows": rows,
        "tails": {
            one: tail_class([row[one] for row in rows]) for one in ("spent", "limit")
        },
        "shown": f"{count(total)} in all, {order}" if total else "",
        "new": visit.link(new="", done=None) if visit.may(WRITE) else "",
        "previous_page": visit.link(page=str(visit.page - 1)) if offset else "",
        "next_page": visit.link(page=str(visit.page + 1))
        if offset + len(rows) < total
        else "",
        "webhooks": [
            _webhook_row(visit, one) for one in visit.core.webhooks.list(visit.key).data
        ],
        "added": added,
        "url": url,
        "errors": errors or {},
    }
    return Page(
        "budgets.html", {**frame(visit, "Budgets"), **context}, 400 if errors else 200
    )


def _row(visit: Visit, budget: BudgetResponse) -> dict[str, Any]:
    spent, limit = Decimal(budget.state.spent), Decimal(budget.limit)
    reached = max((one.percent for one in budget.state.passed), default=0)
    is_over, may_write = spent >= limit, visit.may(WRITE)
    customer = budget.customer_id
    return {
        "name": budget.name,
        "href": visit.link("/customer", id=customer) if customer else "",
        "scope": _scope(budget),
        "state": _state(spent, limit, reached),
        "css": "over" if is_over else "near" if reached else "ka",
        "width": bar_width(min(spent, limit), limit),
        "ticks": [f"{one}%" for one in budget.thresholds if one < _WHOLE],
        "share": percent(spent, limit),
        "spent": amount(spent),
        "limit": amount(limit),
        "currency": budget.currency,
        "period": _days(budget),
        "zone": budget.time_zone,
        "warnings": budget.state.warnings,
        "edit": visit.link(edit=budget.id, done=None) if may_write else "",
        "delete": visit.link(delete=budget.id, done=None) if may_write else "",
    }


def _state(spent: Decimal, limit: Decimal, reached: int) -> dict[str, str]:
    """Return the state of a budget in words, and the kind of the words' tag."""
    if spent > limit:
        return {"kind": "bad", "text": "over the limit"}
    if spent == limit:
        return {"kind": "bad", "text": "limit reached"}
    if reached:
        return {"kind": "warn", "text": f"passed {reached} %"}
    return {"kind": "good", "text": "below"}


def _scope(budget: BudgetResponse) -> str:
    parts = [f"{name} = {value}" for name, value in sorted(budget.dimensions.items())]
    if budget.customer_id is not None:
        parts.insert(0, budget.customer_id)
    return ", ".join(parts) or "all costs"


def _days(budget: BudgetResponse) -> str:
    zone = ZoneInfo(budget.time_zone)
    start, end = (
        to_microseconds(parse_instant(text))
        for text in (budget.state.period.start, budget.state.period.end)
    )
    return days_label(local(start, zone).date(), local(end - 1, zone).date())


def _webhook_row(visit: Visit, webhook: WebhookResponse) -> dict[str, Any]:
    delivered = "never"
    if webhook.delivered_at is not None:
        at = local(
            to_microseconds(parse_instant(webhook.delivered_at)), visit.period.zone
        )
        delivered = f"{at.day} {at:%b %Y, %H:%M}"
    return {
        "id": webhook.id,
        "url": webhook.url,
        "status": webhook.status,
        "kind": {"ok": "good", "failing": "warn"}.get(webhook.status, "bad"),
        "error": webhook.last_error,
        "waiting": count(webhook.waiting_messages),
        "delivered": delivered,
    }


# -- the forms


def _budget(visit: Visit, identifier: str) -> Budget:
    with visit.core.store.reading() as reader:
        budget = reader.budget(visit.key.namespace, identifier)
    if budget is None:
        raise not_found("budget", identifier)
    return budget


def _fields_of(budget: Budget) -> dict[str, str]:
    return {
        "name": budget.name,
        "limit": format_plain(budget.amount),
        "currency": budget.currency,
        "period": budget.period,
        "time_zone": budget.zone,
        "customer_id": budget.customer or "",
        "dimensions": "\n".join(
            f"{name} = {value}" for name, value in budget.dimensions.items()
        ),
        "thresholds": ", ".join(map(str, budget.thresholds)),
    }


def _form(
    visit: Visit,
    fields: Mapping[str, str],
    errors: Mapping[str, str],
    identifier: str = "",
) -> Page:
    require_permission(visit.key, WRITE)
    title = f"Edit {fields['name']}" if identifier else "New budget"
    messages = []
    if errors:
        text = "Nothing was stored. Correct the marked fields."
        messages.append(Message("bad", text))
    context: dict[str, Any] = {
        "fields": fields,
        "errors": errors,
        "identifier": identifier,
        "periods": [one.value for one in BudgetPeriod],
        "messages": messages,
        "back": visit.link("/budgets", **_CLEARED),
    }
    return Page(
        "budget_form.html", {**frame(visit, title), **context}, 400 if errors else 200
    )


async def change_budgets(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    """Create, change or delete a budget or a webhook, as a form says."""
    require_permission(visit.key, WRITE)
    act = _ACTIONS.get(form.get("action", ""))
    if act is None:
        raise HttpProblem(400, "this form is of another version; reload its page")
    return await act(visit, form)


async def _save(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    identifier = form.get("id", "")
    fields = {name: form.get(name, "").strip() for name in _FIELDS}
    try:
        body = read_fields(BudgetBody, _values(fields))
    except HttpProblem as problem:
        return _form(visit, fields, field_errors(problem), identifier)
    if identifier:
        _budget(visit, identifier)  # another person may have deleted it
    await visit.core.budgets.put(visit.key, body, identifier or None)
    return _back(visit, "changed" if identifier else "created")


async def _delete(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    await visit.core.budgets.delete(visit.key, form.get("id", ""))
    return _back(visit, "deleted")


async def _add_webhook(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    url = form.get("url", "").strip()
    try:
        body = read_fields(WebhookBody, {"url": url})
    except HttpProblem as problem:
        errors = field_errors(problem)
        return await asyncio.to_thread(_list, visit, url=url, errors=errors)
    added = await visit.core.webhooks.add(visit.key, body.url)
    return await asyncio.to_thread(_list, visit, added=added)


async def _test_webhook(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    outcome = await visit.core.webhooks.test(visit.key, form.get("id", ""))
    if outcome.delivered:
        return _back(visit, "delivered")
    failed = Message("bad", f"The test failed: {outcome.error}.")
    return await asyncio.to_thread(_list, visit, [failed])


async def _rotate_secret(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    rotated = await visit.core.webhooks.rotate(visit.key, form.get("id", ""))
    return await asyncio.to_thread(_list, visit, added=rotated)


async def _remove_webhook(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    await visit.core.webhooks.delete(visit.key, form.get("id", ""))
    return _back(visit, "removed")


_ACTIONS: Final = {
    "create": _save,
    "change": _save,
    "delete": _delete,
    "add": _add_webhook,
    "test": _test_webhook,
    "rotate": _rotate_secret,
    "remove": _remove_webhook,
}
_FIELDS: Final = (*_EMPTY, "currency", "time_zone")


def _back(visit: Visit, done: str) -> Redirect:
    return Redirect(visit.link("/budgets", **{**_CLEARED, "done": done}))


def _values(fields: Mapping[str, str]) -> dict[str, object]:
    """Return the values of a budget's model. Empty fields are absent ones."""
    values: dict[str, object] = {**fields}
    values["customer_id"] = fields["customer_id"] or None
    pairs = [line.partition("=") for line in fields["dimensions"].splitlines()]
    values["dimensions"] = {
        name.strip(): value.strip() for name, _, value in pairs if name.strip()
    }
    values["thresholds"] = [
        one.strip().rstrip("%").strip()
        for one in fields["thresholds"].split(",")
        if one.strip()
    ]
    return values
