"""The page of reconciliation: a bill of a provider beside the tracked costs."""

from __future__ import annotations

import asyncio
import re
from calendar import monthrange
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from outlay._reconcile.bill_formats import read_mapping
from outlay._reconcile.documents import (
    CATEGORY_WORDS,
    differences,
    sums_by_category,
)
from outlay._reconcile.joining import Reconciliation
from outlay._reconcile.reading import BillOptions, open_bill
from outlay._reconcile.saving import beginning, parts, sentences
from outlay._reconcile.values import BillError, Category, subtract
from outlay._tables.csv_table import TableError
from outlay.server._dashboard.amounts import amount, count
from outlay.server._dashboard.pages import Kpi, Message, Page, frame
from outlay.server._dashboard.saved_reconciliations import (
    READ,
    SAVE,
    events_of,
    label_of,
    saved_table,
    tail_of,
)
from outlay.server._dashboard.uploads import MAX_BYTES
from outlay.server._services.auth import require_permission
from outlay.server._services.tracked_costs import tracked_costs
from outlay.server._storage.query_limit import QueryLimit, limited
from outlay.server._storage.reconciliation_store import ReconciledTotals
from outlay.server._wire.reconciliation_models import ReconciliationBody

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from outlay._reconcile.bill_formats import BillFormat
    from outlay._reconcile.documents import Difference, Sums
    from outlay._reconcile.reading import Bill
    from outlay._reconcile.values import Result, Row
    from outlay.server._dashboard.amounts import Amount
    from outlay.server._dashboard.uploads import Posted, PostedFile
    from outlay.server._dashboard.visit import Visit
    from outlay.server._records import SavedReconciliation

_MOST_ROWS: Final = 200
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_FIELDS: Final = ("provider", "month", "invoice", "timezone", "currency")
_NOTES: Final[Mapping[Category, str]] = {
    Category.MATCHED: "Both sides have the same amount.",
    Category.ROUNDING: "Less than one unit of the last digit for each charge.",
    Category.PRICE: "The quantities agree, the amounts do not. Correct the price, or "
    "ask the provider.",
    Category.OURS_ONLY: "Tracked, and not on the bill. Look for duplicates, refunds "
    "and days of another zone.",
    Category.BILL_ONLY: "On the bill, and not tracked. Capture the calls that made "
    "these charges.",
}


def reconciliation(visit: Visit) -> Page:
    """Return the page ``/reconciliation``: the form that takes a bill."""
    require_permission(visit.key, READ)
    return _form(visit, dict.fromkeys(_FIELDS, ""))


async def reconcile(visit: Visit, posted: Posted) -> Page:
    """Return the result of a posted bill. It is saved if an invoice is named."""
    require_permission(visit.key, READ)
    if posted.fields.get("invoice", "").strip():
        require_permission(visit.key, SAVE)
    saving = _Saving(visit, asyncio.get_running_loop())
    return await asyncio.to_thread(_reconcile, visit, posted, saving)


def _reconcile(visit: Visit, posted: Posted, saving: _Saving) -> Page:
    fields = {name: posted.fields.get(name, "").strip() for name in _FIELDS}
    try:
        bill, usage = _bills(posted.files, fields)
        with (
            limited(QueryLimit(visit.core.settings.query_timeout)),
            Reconciliation(bill, usage, _span(fields["month"])) as found,
        ):
            begun = saving.begin(found, fields["invoice"])
            for cost in tracked_costs(
                visit.core.store,
                visit.key.namespace,
                visit.core.settings.default_currency,
                found,
                None if begun is None else begun.as_of,
            ):
                found.add_cost(cost)
            result = found.result()
            messages = [] if begun is None else saving.save(begun, found, result)
    except (BillError, TableError) as error:
        return _form(visit, fields, str(error))
    return _result(visit, bill.name, result, messages)


class _Saving:
    """Saves a reconciliation from the thread that computes it.

    Args:
        visit: The request.
        loop: The event loop of the server.
    """

    def __init__(self, visit: Visit, loop: asyncio.AbstractEventLoop) -> None:
        self._key = visit.key
        self._service = visit.core.reconciliations
        self._loop = loop

    def begin(self, found: Reconciliation, invoice: str) -> SavedReconciliation | None:
        """Begin before costs are read, or return None without an invoice.

        Raises:
            BillError: The invoice is too long for the server.
        """
        if not invoice:
            return None
        try:
            body = ReconciliationBody.model_validate(beginning(found, invoice))
        except ValidationError as error:
            [fault, *_] = error.errors()
            name = " ".join(map(str, fault["loc"]))
            raise BillError(f"cannot be saved: {name}: {fault['msg']}") from None
        return self._run(self._service.begin(self._key, body))

    def save(
        self, begun: SavedReconciliation, found: Reconciliation, result: Result
    ) -> list[Message]:
        """Save the matches, and return messages about the effect."""
        saved = begun
        for part, totals in parts(found, result):
            sums = None if totals is None else ReconciledTotals(*totals)
            saved = self._run(self._service.add(self._key, begun.id, part, sums))
        replaced = [label_of(one) for one in self._service.neighbors(saved).earlier]
        effect = sentences(found, result, label_of(saved), replaced)
        return [Message("good", " ".join(effect))]

    def _run(
        self, step: Coroutine[Any, Any, SavedReconciliation]
    ) -> SavedReconciliation:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()


def _form(visit: Visit, fields: Mapping[str, str], error: str = "") -> Page:
    messages = [Message("bad", f"{error}.")] if error else []
    return Page(
        "reconciliation.html",
        {
            **frame(visit, "Reconciliation"),
            "messages": messages,
            "fields": fields,
            "most": MAX_BYTES >> 20,
            **saved_table(visit),
        },
        400 if error else 200,
    )


def _bills(
    files: Mapping[str, PostedFile], fields: Mapping[str, str]
) -> tuple[Bill, Sequence[Bill]]:
    if "bill" not in files:
        raise BillError("no file was chosen; choose the bill of a provider")
    options = BillOptions(
        provider=fields["provider"] or None,
        timezone=fields["timezone"] or None,
        currency=fields["currency"].upper() or None,
    )
    bill = _open(files["bill"], options, _mapping(files.get("mapping")))
    if "usage" not in files:
        return bill, ()
    usage = _open(files["usage"], options, None)
    if not usage.format.is_usage:
        raise BillError(
            f"{usage.name} is a bill ({usage.format.name}); choose it as the bill, or "
            "choose a usage report"
        )
    return bill, (usage,)


def _open(file: PostedFile, options: BillOptions, mapping: BillFormat | None) -> Bill:
    return open_bill(file.name, file.open, options, mapping)


def _mapping(file: PostedFile | None) -> BillFormat | None:
    if file is None:
        return None
    try:
        return read_mapping(file.content.decode(), file.name)
    except UnicodeDecodeError as error:
        raise BillError(f"{file.name} is not UTF-8; save it as UTF-8") from error


def _span(month: str) -> tuple[str, str] | None:
    if not month:
        return None
    if not _MONTH.fullmatch(month):
        raise BillError(f"{month!r} is no month; write it as 2026-10")
    days = monthrange(int(month[:4]), int(month[5:]))[1]
    return f"{month}-01", f"{month}-{days}"


# -- the result


def _result(
    visit: Visit, name: str, result: Result, messages: Sequence[Message]
) -> Page:
    found = differences(result)
    shown = [row for row in result.rows if row.category is not Category.MATCHED]
    sums = sums_by_category(result)
    difference = subtract(result.bill_total, result.our_total)
    return Page(
        "reconciled.html",
        {
            **frame(visit, f"Reconciliation of {name}"),
            "messages": messages,
            "currency": result.currency,
            "again": visit.link("/reconciliation"),
            "result": result,
            "kpis": _kpis(result),
            "sums": [_sums(one) for one in sums],
            "totals": {
                "bill": amount(result.bill_total),
                "ours": amount(result.our_total),
                "difference": amount(difference),
            },
            "tails": {
                "bill": tail_of([*(one.bill for one in sums), result.bill_total]),
                "ours": tail_of([*(one.ours for one in sums), result.our_total]),
                "difference": tail_of([*(one.difference for one in sums), difference]),
            },
            "left_out": [
                f"{reason}: {count(one.charges)} charges, "
                f"{amount(one.amount).text} {result.currency}"
                for reason, one in result.left_out.items()
            ],
            "differences": [_difference(visit, result, one) for one in found],
            "tail": tail_of(one.difference for one in found),
            "rows": [_row(visit, result, row) for row in shown[:_MOST_ROWS]],
            "more": count(max(0, len(shown) - _MOST_ROWS)),
            "fixes": result.fixes,
        },
    )


def _sums(one: Sums) -> dict[str, Any]:
    return {
        "name": CATEGORY_WORDS[one.category],
        "note": _NOTES[one.category],
        "bill": amount(one.bill),
        "ours": amount(one.ours),
        "difference": amount(one.difference),
    }


def _kpis(result: Result) -> list[Kpi]:
    return [
        Kpi("Bill", f"{count(result.charges)} charges", amount(result.bill_total)),
        Kpi("Tracked", f"{count(result.events)} events", amount(result.our_total)),
        Kpi(
            "To check",
            "all differences, without their signs and the rounding",
            amount(result.unexplained),
        ),
        Kpi(
            "Difference",
            "the bill minus the tracked costs",
            amount(subtract(result.bill_total, result.our_total)),
        ),
    ]


def _difference(visit: Visit, result: Result, one: Difference) -> dict[str, Any]:
    days = sorted(one.days)
    first = days[0] if len(days) == 1 else f"{len(days)} from {days[0]}"
    return {
        "words": one.words,
        "kind": _kind(one.category),
        "model": one.model,
        "unit": one.unit,
        "days": first,
        "amount": amount(one.difference),
        "notes": one.notes,
        "operations": one.operations,
        "href": _events(visit, result, one.model, days[0], days[-1])
        if _has_events(one.category)
        else "",
    }


def _row(visit: Visit, result: Result, row: Row) -> dict[str, Any]:
    return {
        "day": row.day,
        "category": CATEGORY_WORDS[row.category],
        "model": row.model,
        "unit": row.unit,
        "bill": _shown(row.category is not Category.OURS_ONLY, row.bill),
        "ours": _shown(row.category is not Category.BILL_ONLY, row.ours),
        "difference": amount(row.difference),
        "href": _events(visit, result, row.model, row.day, row.day)
        if row.events
        else "",
    }


def _shown(is_there: bool, value: Any) -> Amount | None:  # noqa: ANN401, FBT001
    return amount(value) if is_there else None


def _has_events(category: Category) -> bool:
    return category is not Category.BILL_ONLY


def _kind(category: Category) -> str:
    return "bad" if category is Category.BILL_ONLY else "warn"


def _events(visit: Visit, result: Result, model: str, first: str, last: str) -> str:
    """Return the page of the events of a model on some days of the bill."""
    if len(first) == len("2026-10"):
        days = monthrange(int(last[:4]), int(last[5:]))[1]
        first, last = f"{first}-01", f"{last}-{days}"
    more = {"model": model} if model and not result.has_services else {}
    return events_of(visit, result.provider, result.timezone, first, last, **more)
