"""The page of revenue: import a file, and look at what imports have replaced."""

from __future__ import annotations

import asyncio
import re
import secrets
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._tables.csv_table import CsvTable, Hints, TableError
from outlay._tables.revenue_file import (
    FIELDS,
    RevenueFile,
    RevenueHints,
    RevenueOptions,
)
from outlay.server._dashboard.amounts import amount, count, tail_class
from outlay.server._dashboard.forms import read_fields
from outlay.server._dashboard.pages import (
    Message,
    Page,
    filter_chips,
    frame,
    period_controls,
)
from outlay.server._dashboard.periods import days_label, local
from outlay.server._dashboard.uploads import MAX_BYTES
from outlay.server._errors import QueryStoppedError
from outlay.server._metering.decimals import format_plain
from outlay.server._services.auth import require_permission
from outlay.server._storage.page import Page as ListPage
from outlay.server._storage.query_limit import QueryLimit, limited
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.response_models import parse_instant, to_microseconds
from outlay.server._wire.revenue_models import RevenueBody

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from outlay._tables.revenue_file import Checked
    from outlay.server._dashboard.uploads import Posted, PostedFile
    from outlay.server._dashboard.visit import Visit
    from outlay.server._records import StoredRevenue
    from outlay.server._wire.revenue_models import RevenueReplacement

READ: Final = "revenue:read"
WRITE: Final = "revenue:write"

ENCODINGS: Final = {
    "utf-8-sig": "UTF-8",
    "cp1252": "Windows-1252 (Western Europe)",
    "cp1250": "Windows-1250 (Central Europe)",
    "cp932": "Shift JIS (Japan)",
    "utf-16": "UTF-16 (“Unicode text” of Excel)",
}
"""The encodings that the form offers, with their names for a person."""

_PAGE_SIZE: Final = 50
_LINES_A_PART: Final = 5000
_MOST_ERRORS: Final = 10  # of lines, in one message
_MOST_WARNINGS: Final = 3
_MOST_SHOWN: Final = 20  # replaced lines
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_DECIMALS: Final = ("", ".", ",")
_FIELDS: Final = ("source", "month", "currency", "decimal", "encoding", "minor")
_TEXTS: Final = ("columns", "where")
_DEFAULTS: Final = {"source": "csv", "encoding": "utf-8-sig"}
_UNDER_MORE: Final = (*_TEXTS, "decimal", "minor")

_TOO_LONG: Final = "The list took too long to read; choose a shorter period."

_TABLE_HINTS: Final = Hints(
    encoding="choose the encoding of the file under More, such as Windows-1252",
    decimal="choose the decimal mark under More",
)
_HINTS: Final = RevenueHints(
    customer="name the column under More: customer = COLUMN",
    amount="name the column under More: amount = COLUMN",
    currency="fill in Currency, or name the column under More: currency = COLUMN",
    period="fill in Month, or name a column with a date under More: period = COLUMN",
    key="name a column under More (key = COLUMN)",
)


class _RefusedError(Exception):
    """A form cannot be carried out. The message says what to do."""


class _Imported(NamedTuple):
    """The outcome of an import of a whole file.

    Attributes:
        added: The number of lines whose key was new.
        replaced: The number of lines that replaced another one.
        unchanged: The number of lines that were stored before.
        replacements: Some of the replaced lines.
        warnings: The facts that a reader must know.
    """

    added: int
    replaced: int
    unchanged: int
    replacements: Sequence[RevenueReplacement]
    warnings: Sequence[str]


def revenue(visit: Visit) -> Page:
    """Return the page ``/revenue``: a form for a file, and the history."""
    require_permission(visit.key, READ)
    return _page(visit, _DEFAULTS)


async def import_revenue(visit: Visit, posted: Posted) -> Page:
    """Import a posted file, or only check it. All of its lines count, or none."""
    require_permission(visit.key, READ)
    require_permission(visit.key, WRITE)
    fields = {name: posted.fields.get(name, "").strip() for name in (*_FIELDS, *_TEXTS)}
    try:
        file = _file(posted.files.get("file"), fields)
        checked = await asyncio.to_thread(_checked, file)
        if posted.fields.get("action") == "check":
            text = f"{file.table.name} can be imported: {_words(checked)}."
            done, messages = None, [Message("good", f"{text} Nothing was stored.")]
        else:
            done = await _send(visit, file, fields["source"] or _DEFAULTS["source"])
            messages = [*_outcome(file.table.name, checked, done)]
    except (_RefusedError, TableError) as error:
        refused = [Message("bad", f"{error}. Nothing was imported.")]
        return await asyncio.to_thread(_page, visit, fields, refused, status=400)
    shown = _DEFAULTS if done else fields
    return await asyncio.to_thread(_page, visit, shown, messages, done)


# -- the file


def _file(posted: PostedFile | None, fields: Mapping[str, str]) -> RevenueFile:
    if posted is None:
        raise _RefusedError("no file was chosen; choose a CSV file")
    month, currency = fields["month"], fields["currency"].upper()
    if month and not _MONTH.fullmatch(month):
        raise _RefusedError(f"{month!r} is no month; write it as 2026-10")
    if currency and not _CURRENCY.fullmatch(currency):
        raise _RefusedError(f"{currency!r} is no currency; write it as USD")
    if fields["decimal"] not in _DECIMALS or fields["encoding"] not in ENCODINGS:
        raise _RefusedError("this form is of another version; reload its page")
    columns = dict(_pairs(fields["columns"]))
    if unknown := sorted(columns.keys() - FIELDS.keys()):
        known = ", ".join(FIELDS)
        raise _RefusedError(f"there is no field {unknown[0]!r}; there are {known}")
    where: dict[str, frozenset[str]] = {}
    for name, value in _pairs(fields["where"]):
        where[name] = where.get(name, frozenset()) | {value}
    return RevenueFile(
        CsvTable(posted.name, posted.open, fields["encoding"], _TABLE_HINTS),
        RevenueOptions(
            columns,
            currency or None,
            month or None,
            fields["decimal"] or None,
            fields["minor"] == "yes",
            where,
        ),
        _HINTS,
    )


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each line ``name = value``."""
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, value = (part.strip() for part in line.partition("="))
        if not name or not value:
            raise _RefusedError(f"{line!r} is not of the form name = value")
        yield name, value


def _checked(file: RevenueFile) -> Checked:
    """Return the outcome of a check of every line, before the first one is sent."""
    checked = file.check(_MOST_ERRORS)
    if checked.errors:
        text = "; ".join(map(str, checked.errors))
        raise _RefusedError(
            f"{text}; the check ended here"
            if len(checked.errors) == _MOST_ERRORS
            else text
        )
    if not checked.lines:
        raise _RefusedError(f"{file.table.name} has no line to import")
    return checked


async def _send(visit: Visit, file: RevenueFile, source: str) -> _Imported:
    """Store the lines in parts. None counts before the last part is stored."""
    import_id = f"page-{secrets.token_hex(12)}"
    lines = file.lines()
    warnings: dict[str, None] = {}
    part = await asyncio.to_thread(_next_part, lines)
    number = 0
    while True:
        following = await asyncio.to_thread(_next_part, lines)
        values = {
            "lines": part,
            "source": source,
            "import_id": import_id,
            "part": number,
            "is_last": not following,
        }
        try:
            body = await asyncio.to_thread(read_fields, RevenueBody, values)
            result = await visit.core.revenue.add(visit.key, body)
        except HttpProblem as problem:
            raise _RefusedError(str(problem)) from problem
        warnings.update(dict.fromkeys(result.warnings))
        if not following:
            return _Imported(
                result.added,
                result.replaced,
                result.unchanged,
                result.replacements,
                [*warnings],
            )
        part, number = following, number + 1


def _next_part(lines: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*islice(lines, _LINES_A_PART)]


def _outcome(name: str, checked: Checked, done: _Imported) -> Iterator[Message]:
    yield Message(
        "good",
        f"Imported {name}: {_words(checked)}. {count(done.added)} new, "
        f"{count(done.replaced)} replaced, {count(done.unchanged)} unchanged.",
    )
    for one in done.warnings[:_MOST_WARNINGS]:
        yield Message("warn", f"{one[:1].upper()}{one[1:]}.")
    if len(done.warnings) > _MOST_WARNINGS:
        yield Message("warn", "Further parts of the file have such customers, too.")


def _words(checked: Checked) -> str:
    sums = ", ".join(
        f"{format_plain(sum_)} {code}" for code, sum_ in checked.totals.items()
    )
    skipped = f", {count(checked.skipped)} left out" if checked.skipped else ""
    noun = "line" if checked.lines == 1 else "lines"
    return f"{count(checked.lines)} {noun} of revenue ({sums}{skipped})"


# -- the page


def _page(
    visit: Visit,
    fields: Mapping[str, str],
    messages: Sequence[Message] = (),
    done: _Imported | None = None,
    *,
    status: int = 200,
) -> Page:
    offset = (visit.page - 1) * _PAGE_SIZE
    is_listed = True
    try:
        lines, total = _history(visit, offset)
    except QueryStoppedError:
        # An import that is done must not look as if it had failed.
        lines, total, is_listed = [], 0, False
        messages = [*messages, Message("warn", _TOO_LONG)]
    last = offset + len(lines)
    shown = f"{count(total)} in all" if total else ""
    if total > _PAGE_SIZE:
        shown = f"{count(offset + 1)}–{count(last)} of {count(total)}"
    replaced = [] if done is None else done.replacements[:_MOST_SHOWN]
    context: dict[str, Any] = {
        "messages": messages,
        "may_import": visit.may(WRITE),
        "fields": dict.fromkeys((*_FIELDS, *_TEXTS), "") | {**fields},
        "is_open": any(fields.get(name) for name in _UNDER_MORE)
        or fields.get("encoding") != _DEFAULTS["encoding"],
        "encodings": ENCODINGS,
        "most": MAX_BYTES >> 20,
        "replaced": [_replacement(visit, one) for one in replaced],
        "more_replaced": "" if done is None else _more(done.replaced - len(replaced)),
        "chips": filter_chips(visit),
        "rows": [_row(visit, one) for one in lines],
        "tail": tail_class([amount(one.line.amount) for one in lines]),
        "is_listed": is_listed,
        "shown": shown,
        "previous_page": visit.link(page=str(visit.page - 1)) if offset else "",
        "next_page": visit.link(page=str(visit.page + 1)) if last < total else "",
    }
    return Page(
        "revenue.html",
        {**frame(visit, "Revenue"), **period_controls(visit), **context},
        status,
    )


def _history(visit: Visit, offset: int) -> tuple[list[StoredRevenue], int]:
    period = visit.period
    with (
        limited(QueryLimit(visit.core.settings.query_timeout)),
        visit.core.store.reading() as reader,
    ):
        return reader.revenue_history(
            visit.key.namespace,
            period.start,
            period.end,
            ListPage(_PAGE_SIZE, offset),
            as_of=visit.as_of,
        )


def _more(number: int) -> str:
    return f"And {count(number)} more." if number > 0 else ""


def _replacement(visit: Visit, one: RevenueReplacement) -> dict[str, Any]:
    start, end = (
        to_microseconds(parse_instant(text))
        for text in (one.period.start, one.period.end)
    )
    return {
        "customer": visit.customer_names.get(one.customer_id, one.customer_id),
        "days": _days(visit, start, end),
        "before": amount(one.replaced_amount),
        "before_currency": one.replaced_currency,
        "now": amount(one.amount),
        "currency": one.currency,
    }


def _row(visit: Visit, stored: StoredRevenue) -> dict[str, Any]:
    line = stored.line
    at = local(stored.received_at, visit.period.zone)
    return {
        "customer": visit.customer_names.get(line.customer, line.customer),
        "id": line.customer if line.customer in visit.customer_names else "",
        "href": visit.link("/customer", id=line.customer),
        "days": _days(visit, line.start, line.end),
        "amount": amount(line.amount),
        "currency": line.currency,
        "source": line.source,
        "imported": f"{at.day} {at:%b %Y, %H:%M}",
        "by": stored.received_by,
        "is_current": stored.is_current,
    }


def _days(visit: Visit, start: int, end: int) -> str:
    zone = visit.period.zone
    return days_label(local(start, zone).date(), local(end - 1, zone).date())
