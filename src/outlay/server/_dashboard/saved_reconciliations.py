"""Saved reconciliations: their table, the page of one, and its withdrawal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from outlay._reconcile.saving import label
from outlay.server._dashboard.amounts import amount, count, tail_class
from outlay.server._dashboard.forms import field_errors, read_fields
from outlay.server._dashboard.pages import Message, Page, Redirect, frame
from outlay.server._dashboard.periods import local
from outlay.server._dashboard.visit import WHERE
from outlay.server._services.auth import require_permission
from outlay.server._services.reconciliations import neighbors
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.reconciliation_models import WithdrawBody

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from decimal import Decimal

    from outlay.server._dashboard.amounts import Amount
    from outlay.server._dashboard.visit import Visit
    from outlay.server._records import SavedReconciliation
    from outlay.server._services.reconciliations import Neighbors

READ: Final = "events:read"
SAVE: Final = "events:correct"
_PATH: Final = "/saved-reconciliation"
_PAGE_SIZE: Final = 25


def saved_table(visit: Visit) -> dict[str, Any]:
    """Return a page of the table of saved reconciliations, the last one first."""
    found = visit.core.reconciliations.saved(visit.key.namespace)
    offset = (visit.page - 1) * _PAGE_SIZE
    shown = found[offset : offset + _PAGE_SIZE]
    return {
        "saved": [_row(visit, one, neighbors(one, found)) for one in shown],
        "count": count(len(found)),
        "saved_tails": {
            "bill": tail_of([one.bill for one in shown]),
            "tracked": tail_of([one.tracked for one in shown]),
            "reconciled": tail_of([one.reconciled for one in shown]),
        },
        "previous_page": visit.link(page=str(visit.page - 1)) if offset else "",
        "next_page": visit.link(page=str(visit.page + 1))
        if offset + len(shown) < len(found)
        else "",
    }


def _row(visit: Visit, one: SavedReconciliation, beside: Neighbors) -> dict[str, Any]:
    return {
        "invoice": one.invoice_id,
        "href": visit.link(_PATH, id=one.id, page=None),
        "provider": one.provider,
        "days": f"{one.first} to {one.last}",
        "currency": one.currency,
        "bill": amount(one.bill),
        "tracked": amount(one.tracked),
        "reconciled": amount(one.reconciled),
        "at": _time(visit, one.saved_at).partition(",")[0],
        "by": one.saved_by,
        "state": _state(one, beside),
    }


def tail_of(values: Iterable[Decimal]) -> str:
    """Return the class that aligns a column of amounts."""
    return tail_class([amount(one) for one in values])


def _state(one: SavedReconciliation, beside: Neighbors) -> tuple[str, str]:
    """Return the kind of a tag, and its text."""
    if one.withdrawal is not None:
        return "bad", "withdrawn"
    if beside.later:
        return "warn", "has a later one"
    return "good", "counts"


def _time(visit: Visit, at: int | None) -> str:
    if at is None:
        return "–"
    moment = local(at, visit.period.zone)
    return f"{moment.day} {moment:%b %Y, %H:%M}"


# -- one of them


def saved_reconciliation(visit: Visit) -> Page:
    """Return the page ``/saved-reconciliation`` of the one with the query's ``id``."""
    require_permission(visit.key, READ)
    messages = []
    if visit.query.get("done") == "withdrawn":
        text = "It is withdrawn. Exports do not name its invoice any more."
        messages.append(Message("good", text))
    return _page(visit, visit.query.get("id", ""), messages)


def _page(
    visit: Visit,
    identifier: str,
    messages: Sequence[Message] = (),
    *,
    reason: str = "",
    error: str = "",
) -> Page:
    namespace = visit.key.namespace
    one = visit.core.reconciliations.get(namespace, identifier)
    beside = visit.core.reconciliations.neighbors(one)
    context: dict[str, Any] = {
        "messages": messages,
        "back": visit.link("/reconciliation", id=None, done=None),
        "id": one.id,
        "invoice": one.invoice_id,
        "provider": one.provider,
        "days": f"{one.first} to {one.last}",
        "events": events_of(visit, one.provider, one.zone, one.first, one.last),
        "state": _state(one, beside),
        "facts": _facts(visit, one),
        "amounts": _amounts(one),
        "tail": tail_of([one.bill, one.tracked, one.reconciled]),
        "currency": one.currency,
        "earlier": _links(visit, beside.earlier),
        "later": _links(visit, beside.later),
        "is_withdrawn": one.withdrawal is not None,
        "may_withdraw": one.withdrawal is None and visit.may(SAVE),
        "reason": reason,
        "error": error,
    }
    title = f"Reconciliation with {one.invoice_id}"
    return Page(
        "saved_reconciliation.html",
        {**frame(visit, title), **context},
        400 if error else 200,
    )


def _facts(visit: Visit, one: SavedReconciliation) -> dict[str, str]:
    facts = {
        "Id": one.id,
        "Compared by": f"{one.period}, in {one.zone}",
        "Charges": "not known"
        if one.charges is None or one.reconciled_charges is None
        else f"{count(one.reconciled_charges)} of {count(one.charges)} match",
        "Includes": f"events received until {_time(visit, one.as_of)}",
        "Saved": f"{_time(visit, one.saved_at)}, by {one.saved_by}",
    }
    if one.withdrawal is not None:
        at = _time(visit, one.withdrawal.at)
        facts["Withdrawn"] = f"{at}, by {one.withdrawal.by}"
        facts["Reason"] = one.withdrawal.reason
    return facts


def _amounts(one: SavedReconciliation) -> dict[str, Amount]:
    return {
        "Bill": amount(one.bill),
        "Tracked": amount(one.tracked),
        "Reconciled": amount(one.reconciled),
    }


def _links(visit: Visit, found: Sequence[SavedReconciliation]) -> list[tuple[str, str]]:
    return [(visit.link(id=one.id, done=None), label_of(one)) for one in found]


async def withdraw(visit: Visit, form: Mapping[str, str]) -> Page | Redirect:
    """Withdraw the reconciliation that a form names."""
    require_permission(visit.key, SAVE)
    identifier, reason = form.get("id", ""), form.get("reason", "").strip()
    try:
        body = read_fields(WithdrawBody, {"reason": reason})
    except HttpProblem as problem:
        error = field_errors(problem)["reason"]
        return await asyncio.to_thread(
            _page, visit, identifier, reason=reason, error=error
        )
    await visit.core.reconciliations.withdraw(visit.key, identifier, body)
    return Redirect(visit.link(_PATH, id=identifier, done="withdrawn"))


def label_of(one: SavedReconciliation) -> str:
    """Return the id, the invoice and the days, for messages."""
    return label(one.id, one.invoice_id, one.first, one.last)


def events_of(
    visit: Visit, provider: str, zone: str, first: str, last: str, **more: str
) -> str:
    """Return the page of the events of a provider, from the first to the last day."""
    query = {"from": first, "to": last}
    if zone != "UTC":
        query["tz"] = zone
    for name, value in {"provider": provider, **more}.items():
        if name in visit.dimensions:
            query[WHERE + name] = value
    return f"/events?{urlencode(query)}"
