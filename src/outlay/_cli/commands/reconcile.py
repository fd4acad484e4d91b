"""``outlay reconcile``: compare a provider's bill with the tracked costs."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    column_condition,
    connection_settings,
    currency_code,
    parse_time,
    positive,
)
from outlay._cli.output import Table, plain, pluralize, print_data, print_table
from outlay._cli.periods import period_of
from outlay._cli.progress import ProgressBar
from outlay._cli.reconciliation_api import ReconciliationApi
from outlay._reconcile.bill_formats import read_mapping
from outlay._reconcile.costs import (
    Correction,
    CostReader,
    MetricPrice,
    NetAmounts,
    decode_data,
    to_amount,
)
from outlay._reconcile.documents import (
    CATEGORY_WORDS,
    differences,
    document,
    rows,
    sums_by_category,
)
from outlay._reconcile.joining import Reconciliation
from outlay._reconcile.reading import BillOptions, open_bill
from outlay._reconcile.saving import sentences
from outlay._reconcile.values import BillError, subtract

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from outlay._cli.money_api import MoneyApi
    from outlay._cli.reconciliation_api import SavedReconciliation
    from outlay._reconcile.bill_formats import BillFormat
    from outlay._reconcile.documents import Difference
    from outlay._reconcile.reading import Bill
    from outlay._reconcile.values import Cost, Result

_DESCRIPTION: Final = """\
Read the bill of a provider, join it with the tracked costs, and put every cent into
one category: matched, rounding of the bill, price differs, only tracked, or only on
the bill. The sums of the categories equal both totals to the last digit.
"""

_EPILOG: Final = """\
exit codes:
  0  everything matches, up to the rounding of the bill and --tolerance
  1  the bill cannot be read, or the server refused
  2  wrong usage or setting
  3  the server cannot be reached
  4  the bill and the tracked costs differ

examples:
  outlay reconcile costs.csv --provider openai --month 2026-10
  outlay reconcile cost_report.json usage_report.json --provider anthropic
  outlay reconcile costs.csv --provider openai --invoice INV-2026-10
  outlay reconcile calls.csv --mapping twilio.toml --tolerance 0.01 --json
"""

_SHOWN: Final = 20  # differences in the table
_WIDTH: Final = 80  # columns of sentences
_DAY: Final = timedelta(days=1)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    _add_bill(parser)
    _add_period(parser)
    _add_reading(parser)
    _add_result(parser)
    add_format_options(parser)
    add_connection_options(parser)


def _add_bill(parser: argparse.ArgumentParser) -> None:
    """Add the files, and whose bill they are."""
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the bill; after it, usage reports of the same provider, which tell a "
        "price that differs from calls that are missing",
    )
    add(
        "--provider",
        metavar="NAME",
        help="the provider, as events name it, such as openai (default: the one of "
        "the bill's format)",
    )
    add(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="a file of TOML that says what the columns of the bill mean",
    )


def _add_period(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--month",
        type=parse_time,
        metavar="MONTH",
        help="the month that counts, such as 2026-10 (default: the days of the bill)",
    )
    add(
        "--from",
        dest="start",
        type=parse_time,
        metavar="DAY",
        help="the first day that counts",
    )
    add(
        "--to",
        dest="end",
        type=parse_time,
        metavar="DAY",
        help="the day after the last one that counts",
    )


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Add how the bill is read, and which of its charges count."""
    add = parser.add_argument
    add(
        "--timezone",
        metavar="ZONE",
        help="the time zone of the bill's days, such as America/Los_Angeles (default: "
        "that of the format)",
    )
    add(
        "--period",
        choices=("day", "month"),
        help="compare days or months (default: that of the format, mostly day)",
    )
    add(
        "--currency",
        type=currency_code,
        metavar="CODE",
        help="compare only the charges in this currency",
    )
    add("--decimal", choices=(".", ","), help="the bill's decimal mark")
    add(
        "--where",
        type=column_condition,
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="compare only these charges, such as lineItem/ProductCode=AmazonTextract; "
        "may be repeated: for one column, any of the values counts",
    )


def _add_result(parser: argparse.ArgumentParser) -> None:
    """Add how differences are judged and shown."""
    add = parser.add_argument
    add(
        "--tolerance",
        type=_amount,
        default=Decimal(),
        metavar="AMOUNT",
        help="the sum of differences up to which the exit code is 0 (default: 0)",
    )
    add(
        "--top",
        type=positive,
        default=_SHOWN,
        metavar="COUNT",
        help=f"show this many differences (default: {_SHOWN}); --json has all",
    )
    add(
        "--invoice",
        metavar="ID",
        help="save the result on the server: 'outlay export focus' shows the matched "
        "events as reconciled, with this invoice",
    )


def run(arguments: argparse.Namespace) -> int:
    """Reconcile, and show the result."""
    bill, usage = _bills(arguments)
    settings = connection_settings(arguments)
    with ProgressBar() as bar:
        bar.show("bill", 0)
        with (
            Reconciliation(bill, usage, _span(arguments)) as reconciliation,
            ReconciliationApi(settings) as api,
        ):
            # Before costs are read, so that the server says which ones count.
            invoice = arguments.invoice
            begun = None if invoice is None else api.begin(reconciliation, invoice)
            costs = _tracked_costs(api, reconciliation, settings.currency, begun)
            for cost in bar.count("tracked costs", costs):
                reconciliation.add_cost(cost)
            bar.show("comparison", 0)
            result = reconciliation.result()
            effect = []
            if begun is not None:
                bar.show("saving", 0)
                saved = api.finish(begun, reconciliation, result)
                replaced = api.labels(saved.replaces)
                effect = sentences(reconciliation, result, saved.label, replaced)
    is_different = result.unexplained > arguments.tolerance
    if arguments.format:
        print_data(arguments.format, document(result), rows(result.rows))
    else:
        _print(result, arguments.top)
        if is_different:
            _print_unexplained(result, arguments.tolerance)
    if effect:
        # Standard output may be a document.
        text = "\n".join(map(_wrapped, effect))
        print(f"\n{text}", file=sys.stderr if arguments.format else None)
    return ExitCode.DIFFERENT if is_different else ExitCode.DONE


# -- the bill


def _bills(arguments: argparse.Namespace) -> tuple[Bill, Sequence[Bill]]:
    where: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in arguments.where:
        where[name].append(value)
    options = BillOptions(
        arguments.provider,
        arguments.timezone,
        arguments.currency,
        arguments.decimal,
        arguments.period,
        {name: tuple(values) for name, values in where.items()},
    )
    mapping = _mapping(arguments.mapping)
    first, *others = arguments.files
    bill = open_bill(str(first), partial(first.open, "rb"), options, mapping)
    plain_options = options._replace(where={}, decimal=None)
    usage = [
        open_bill(str(one), partial(one.open, "rb"), plain_options) for one in others
    ]
    for one in usage:
        if not one.format.is_usage:
            raise UsageError(
                f"{one.name} is a bill ({one.format.name}); the files after the first "
                "one are usage reports"
            )
    return bill, usage


def _mapping(path: Path | None) -> BillFormat | None:
    if path is None:
        return None
    try:
        return read_mapping(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise BillError(f"cannot read {path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BillError(f"{path} is not UTF-8; save it as UTF-8") from error


def _span(arguments: argparse.Namespace) -> tuple[str, str] | None:
    """Return the first and the last day that count."""
    if not (arguments.month or arguments.start or arguments.end):
        return None
    period = period_of(arguments)
    for moment in period:
        if moment.time() != datetime.min.time():
            raise UsageError("pass whole days: bills have no times of day to compare")
    last = period.end - _DAY
    return period.start.date().isoformat(), last.date().isoformat()


# -- the tracked costs


def _tracked_costs(
    api: MoneyApi,
    reconciliation: Reconciliation,
    default_currency: str,
    begun: SavedReconciliation | None,
) -> Iterator[Cost]:
    """Yield the costs on the server, net of their corrections."""
    as_of = None if begun is None else begun.as_of
    corrections = (
        Correction(one.id, one.event_id, one.kind, one.delta, one.cost_id, one.reverts)
        for one in api.all_corrections()
        if as_of is None or one.created_at <= as_of
    )
    metrics = {
        one.id: MetricPrice(one.unit_cost, one.currency) for one in api.metrics()
    }
    currency = reconciliation.currency
    reader = CostReader(
        reconciliation.provider,
        currency,
        default_currency,
        NetAmounts(corrections, metrics, currency),
    )
    window = reconciliation.window
    query = {
        "from": window.start.astimezone(UTC).isoformat(),
        "to": window.end.astimezone(UTC).isoformat(),
        "dataset": "events",
        "format": "jsonl",
        **({} if as_of is None else {"asOf": as_of.isoformat()}),
    }
    for page in api.export(query, None):
        for line in page.body.splitlines():
            event = json.loads(line)
            at = datetime.fromisoformat(event["timestamp"])
            cost = reader.read(
                event["id"], at, event["type"], decode_data(event["data"])
            )
            if cost is not None:
                yield cost


# -- the result


def _print(result: Result, top: int) -> None:
    print(
        f"{result.provider}, {result.first} to {result.last}, days in "
        f"{result.timezone}; amounts in {result.currency}"
    )
    print(
        f"{result.bill_format}: {pluralize(result.charges, 'charge')}; "
        f"{pluralize(result.events, 'tracked event')}"
    )
    for reason, one in result.left_out.items():
        print(f"{reason}: {pluralize(one.charges, 'charge')}, {plain(one.amount)}")
    sums = sums_by_category(result)
    print_table(
        Table(
            ("", "bill", "tracked", "difference"),
            [
                (CATEGORY_WORDS[one.category], one.bill, one.ours, one.difference)
                for one in sums
            ],
            [
                (
                    "total",
                    result.bill_total,
                    result.our_total,
                    subtract(result.bill_total, result.our_total),
                )
            ],
        )
    )
    found = differences(result)
    if not found:
        print("The bill and the tracked costs match.")
    else:
        _print_differences(found, top)
    _print_fixes(result)
    for hint in result.hints:
        print()
        _print_text(hint)


def _print_unexplained(result: Result, tolerance: Decimal) -> None:
    print()
    _print_text(
        f"To check: {plain(result.unexplained)} {result.currency}, all differences "
        "without their signs and the rounding. It is more than --tolerance "
        f"{plain(tolerance)}, so the exit code is {ExitCode.DIFFERENT:d}."
    )


def _print_differences(found: Sequence[Difference], top: int) -> None:
    shown = found[:top]
    print_table(
        Table(
            ("difference", "", "model", "unit", "days"),
            [
                (one.difference, one.words, one.model, one.unit, _days(one.days))
                for one in shown
            ],
            hide=("unit", "days"),
        )
    )
    if len(found) > len(shown):
        print(f"and {len(found) - len(shown):,} more; --csv shows all")
    for note, models in _notes(shown).items():
        names = ", ".join(models[:_SHOWN])
        _print_text(f"{names}: {note}" if names else note)


def _notes(shown: Sequence[Difference]) -> dict[str, list[str]]:
    """Return the models of each note."""
    notes: dict[str, list[str]] = {}
    for one in shown:
        for note in one.notes:
            models = notes.setdefault(note, [])
            if one.model and one.model not in models:
                models.append(one.model)
    return notes


def _print_fixes(result: Result) -> None:
    for fix in result.fixes:
        by = f", priced by {fix.priced_by}" if fix.priced_by else ""
        print()
        _print_text(f"Price of {fix.model or result.provider}{by}: {fix.note}")
        if fix.entry:
            print(f"\n{fix.entry}")


def _print_text(text: str) -> None:
    print(_wrapped(text))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _days(days: Sequence[str]) -> str:
    if len(days) == 1:
        return days[0]
    return f"{len(days)} from {days[0]}"


def _amount(text: str) -> Decimal:
    amount = to_amount(text)
    if amount is None or amount < 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no amount; pass one such as 0.01"
        )
    return amount
