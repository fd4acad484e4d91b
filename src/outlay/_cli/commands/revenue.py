"""``outlay revenue``: import revenue from a CSV file, and list it."""

from __future__ import annotations

import argparse
import codecs
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.connection import print_warning
from outlay._cli.exit_codes import CommandFailedError, ExitCode, UsageError
from outlay._cli.options import (
    add_action_options,
    add_page_limit,
    add_subcommand,
    column_condition,
    connection_settings,
    currency_code,
    parse_time,
)
from outlay._cli.output import (
    Table,
    plain,
    pluralize,
    print_data,
    print_list,
    print_table,
)
from outlay._cli.periods import add_period_options, period_of, period_text, short_time
from outlay._cli.progress import ProgressBar
from outlay._cli.revenue_api import RevenueApi
from outlay._tables.csv_table import CsvTable, TableError
from outlay._tables.revenue_file import FIELDS, RevenueFile, RevenueOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay._cli.revenue_api import (
        ImportResult,
        Replacement,
        RevenueLine,
    )
    from outlay._tables.revenue_file import Checked

_DESCRIPTION: Final = """\
Revenue stands beside cost in margins. Lines that were imported before are left as they
are, and lines with another amount are replaced. All lines of a file count, or none.
"""

_EPILOG: Final = """\
examples:
  outlay revenue import october.csv --month 2026-10 --currency USD
  outlay revenue import invoices.csv --source lago --minor-units \\
      --column amount=total_amount_cents --column period=issuing_date \\
      --where status=finalized
  outlay revenue list --month 2026-10 --customer cus_123
"""

_SHOWN: Final = 20  # replaced lines in the table
_MOST_ERRORS: Final = 10  # in one run


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    importing = add_subcommand(
        actions, "import", _import, "import lines of revenue from a CSV file"
    )
    importing.epilog = _EPILOG
    _add_file(importing)
    _add_columns(importing)
    _add_notation(importing)
    importing.add_argument(
        "--dry-run", action="store_true", help="check the file, and send nothing"
    )
    listing = add_subcommand(
        actions, "list", _list, "list the lines of a period, the newest first"
    )
    listing.epilog = _EPILOG
    listing.add_argument("--customer", metavar="ID", help="only those of this customer")
    add_page_limit(listing, "lines")
    add_period_options(listing)
    add_action_options(actions)


def _add_file(parser: argparse.ArgumentParser) -> None:
    """Add the file, and the system that it comes from."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the file; its first line has names")
    add(
        "--source",
        default="csv",
        metavar="NAME",
        help="the system that the lines come from, such as stripe; lines of two "
        "sources never replace each other (default: csv)",
    )


def _add_columns(parser: argparse.ArgumentParser) -> None:
    """Add what the columns mean, which lines count, and what all lines share."""
    add = parser.add_argument
    add(
        "--column",
        dest="columns",
        type=_column,
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help=f"the column of a field: {', '.join(FIELDS)}; may be repeated (default: "
        "the column with the field's name)",
    )
    add(
        "--where",
        type=column_condition,
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="import only these lines, such as status=paid; may be repeated: for one "
        "column, any of the values counts",
    )
    add("--month", type=parse_time, metavar="MONTH", help="the month of all lines")
    add(
        "--currency",
        type=currency_code,
        metavar="CODE",
        help="the currency of all lines",
    )


def _add_notation(parser: argparse.ArgumentParser) -> None:
    """Add how the file writes amounts and texts."""
    add = parser.add_argument
    add(
        "--decimal",
        choices=(".", ","),
        help="the decimal mark (default: the one that the amounts prove)",
    )
    add(
        "--minor-units",
        action="store_true",
        help="amounts are in the smallest unit of their currency, such as cents",
    )
    add(
        "--encoding",
        type=_encoding,
        default="utf-8-sig",
        metavar="NAME",
        help="the encoding of the file (default: UTF-8, with or without a mark)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    arguments.action(arguments)
    return ExitCode.DONE


def _import(arguments: argparse.Namespace) -> None:
    where: defaultdict[str, set[str]] = defaultdict(set)
    for name, value in arguments.where:
        where[name].add(value)
    file = RevenueFile(
        CsvTable(
            str(arguments.file), lambda: arguments.file.open("rb"), arguments.encoding
        ),
        RevenueOptions(
            dict(arguments.columns),
            arguments.currency,
            None if arguments.month is None else arguments.month.strftime("%Y-%m"),
            arguments.decimal,
            arguments.minor_units,
            {name: frozenset(values) for name, values in where.items()},
        ),
    )
    checked = file.check(_MOST_ERRORS)
    if checked.errors:
        raise _nothing_imported(checked.errors)
    if not checked.lines:
        raise UsageError(f"{arguments.file} has no line to import")
    if arguments.dry_run:
        _print_checked(arguments, checked)
        return
    with RevenueApi(connection_settings(arguments)) as api, ProgressBar() as bar:
        lines = bar.count("lines", file.lines(), checked.lines)
        result = api.import_revenue(lines, arguments.source)
    for warning in result.warnings:
        print_warning(warning)
    _print_result(arguments, checked, result)


def _nothing_imported(errors: Sequence[TableError]) -> CommandFailedError:
    text = "\n".join(map(str, errors))
    if len(errors) == _MOST_ERRORS:
        text += "\nThe check ended here"
    return CommandFailedError(f"{text}. Nothing was imported")


def _print_checked(arguments: argparse.Namespace, checked: Checked) -> None:
    if arguments.format:
        document = {"dryRun": True, **_checked_json(checked)}
        print_data(arguments.format, document, [document])
        return
    print(f"{arguments.file} can be imported: {_amounts(checked)}")


def _print_result(
    arguments: argparse.Namespace, checked: Checked, result: ImportResult
) -> None:
    if arguments.format:
        document = {
            **_checked_json(checked),
            "importId": result.import_id,
            "added": result.added,
            "replaced": result.replaced,
            "unchanged": result.unchanged,
            "replacements": [_replacement_json(one) for one in result.replacements],
            "warnings": list(result.warnings),
        }
        print_data(arguments.format, document, [document])
        return
    print(f"imported {_amounts(checked)} from {arguments.source}")
    print(
        f"  {result.added:,} new, {result.replaced:,} replaced, "
        f"{result.unchanged:,} unchanged"
    )
    if result.replacements:
        _print_replacements(result)


def _print_replacements(result: ImportResult) -> None:
    shown = result.replacements[:_SHOWN]
    print_table(
        Table(
            ("replaced", "period", "before", "", "now", ""),
            [
                (
                    one.customer_id,
                    period_text(one.period.start, one.period.end),
                    one.replaced_amount,
                    one.replaced_currency,
                    one.amount,
                    one.currency,
                )
                for one in shown
            ],
        )
    )
    if result.replaced > len(shown):
        print(f"and {result.replaced - len(shown):,} more")


def _list(arguments: argparse.Namespace) -> None:
    start, end = period_of(arguments)
    with RevenueApi(connection_settings(arguments)) as api:
        page = api.revenue(
            start,
            end,
            customer_id=arguments.customer,
            as_of=arguments.as_of,
            limit=arguments.limit,
        )
    print_list(
        arguments.format,
        page.data,
        _line_json,
        _print_lines,
        nothing="no revenue in this period; type: outlay revenue import FILE",
        total=page.pagination.total,
    )


def _print_lines(lines: Sequence[RevenueLine]) -> None:
    headers = ("customer", "period", "amount", "", "source", "received", "")
    rows = [
        (
            one.customer_id,
            period_text(one.period.start, one.period.end),
            one.amount,
            one.currency,
            one.source,
            short_time(one.received_at),
            "" if one.is_current else "replaced",
        )
        for one in lines
    ]
    print_table(Table(headers, rows, hide=("source", "received")))


def _amounts(checked: Checked) -> str:
    sums = ", ".join(f"{plain(sum_)} {code}" for code, sum_ in checked.totals.items())
    skipped = f", {checked.skipped:,} left out" if checked.skipped else ""
    return f"{pluralize(checked.lines, 'line')} of revenue ({sums}{skipped})"


def _checked_json(checked: Checked) -> dict[str, object]:
    return {
        "lines": checked.lines,
        "skipped": checked.skipped,
        "totals": {code: plain(sum_) for code, sum_ in checked.totals.items()},
    }


def _replacement_json(one: Replacement) -> dict[str, object]:
    return {
        "key": one.key,
        "customerId": one.customer_id,
        "from": one.period.start.isoformat(),
        "to": one.period.end.isoformat(),
        "replacedAmount": plain(one.replaced_amount),
        "replacedCurrency": one.replaced_currency,
        "amount": plain(one.amount),
        "currency": one.currency,
    }


def _line_json(one: RevenueLine) -> dict[str, object]:
    return {
        "customer": one.customer_id,
        "from": one.period.start.isoformat(),
        "to": one.period.end.isoformat(),
        "amount": plain(one.amount),
        "currency": one.currency,
        "source": one.source,
        "key": one.key,
        "received": one.received_at.isoformat(),
        "receivedBy": one.received_by,
        "current": one.is_current,
    }


def _column(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if field not in FIELDS or not equals or not column:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not FIELD=COLUMN with a field of {', '.join(FIELDS)}"
        )
    return field, column


def _encoding(text: str) -> str:
    try:
        return codecs.lookup(text).name
    except LookupError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no encoding; pass one such as utf-8 or cp1252"
        ) from None
