"""``outlay margins``: show revenue beside cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._cli.connection import print_warning
from outlay._cli.exit_codes import ExitCode
from outlay._cli.money_api import MoneyApi
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    connection_settings,
    currency_code,
    positive,
)
from outlay._cli.output import (
    Table,
    plain,
    plain_or_none,
    pluralize,
    print_data,
    print_table,
)
from outlay._cli.periods import (
    add_period_options,
    period_of,
    period_text,
)
from outlay._cli.rate_texts import rate_json, rate_text

if TYPE_CHECKING:
    import argparse

    from outlay._cli.money_api import Margins, MarginTotals
    from outlay._cli.output import Cell
    from outlay._cli.periods import Period

_DESCRIPTION: Final = """\
Show what each customer pays, what it costs, and what is left, to the last digit. A
customer with costs and no revenue is shown, and so is one with revenue and no costs.
"""

_EPILOG: Final = """\
examples:
  outlay margins
  outlay margins --by customer --month 2026-10 --sort worst --top 10
  outlay margins --month 2026-10 --csv
"""

_SORTS: Final = ("profit", "worst", "cost", "revenue")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add(
        "--by",
        choices=("customer",),
        default="customer",
        help="break down by customer (default)",
    )
    add_period_options(parser)
    add(
        "--sort",
        choices=_SORTS,
        default="profit",
        help="the largest first; worst: the smallest profit first (default: profit)",
    )
    add(
        "--top",
        type=positive,
        metavar="COUNT",
        help="show this many customers, and the sum of all others as one",
    )
    add(
        "--currency",
        type=currency_code,
        metavar="CODE",
        help="the currency of all amounts (default: the only one, or the server's)",
    )
    add_format_options(parser)
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the margins from the server, and show them."""
    period = period_of(arguments)
    with MoneyApi(connection_settings(arguments)) as api:
        margins = api.margins(
            *period,
            sort=arguments.sort,
            currency=arguments.currency,
            top=arguments.top,
            as_of=arguments.as_of,
        )
    for warning in margins.warnings:
        print_warning(warning)
    if arguments.format:
        rows = [_row_json(row, margins.currency) for row in _named_rows(margins)]
        document = {
            "from": period.start.isoformat(),
            "to": period.end.isoformat(),
            "currency": margins.currency,
            "rows": rows,
            "total": _amounts_json(margins.total),
            "rates": [rate_json(rate) for rate in margins.rates],
            "warnings": list(margins.warnings),
        }
        print_data(arguments.format, document, rows)
    else:
        _print(period, margins)
    return ExitCode.DONE


def _named_rows(margins: Margins) -> list[tuple[str, str, MarginTotals]]:
    return [
        ("(other)", "", row)
        if row.is_other
        else (row.customer_id, row.customer_name, row)
        for row in margins.rows
    ]


def _print(period: Period, margins: Margins) -> None:
    print(f"{period_text(*period)}, UTC; amounts in {margins.currency}")
    if not margins.rows:
        print("no cost and no revenue; type: outlay revenue import FILE")
        return
    rows: list[tuple[Cell, ...]] = [
        (customer or "(none)", name, *_cells(row))
        for customer, name, row in _named_rows(margins)
    ]
    print_table(
        Table(
            ("customer", "name", "revenue", "cost", "profit", "margin %"),
            rows,
            [("all", "", *_cells(margins.total))],
            hide=("name",),
        )
    )
    customers = margins.pagination.total
    print(pluralize(customers, "customer"))
    for rate in margins.rates:
        print(rate_text(rate))


def _cells(amounts: MarginTotals) -> tuple[Cell, ...]:
    return (
        amounts.net_revenue_exact,
        amounts.total_cost_exact,
        amounts.profit_exact,
        amounts.margin_pct,
    )


def _row_json(named: tuple[str, str, MarginTotals], currency: str) -> dict[str, Any]:
    customer, name, row = named
    return {
        "customer": customer,
        "name": name,
        **_amounts_json(row),
        "currency": currency,
    }


def _amounts_json(amounts: MarginTotals) -> dict[str, Any]:
    return {
        "revenue": plain(amounts.net_revenue_exact),
        "cost": plain(amounts.total_cost_exact),
        "profit": plain(amounts.profit_exact),
        "marginPercent": plain_or_none(amounts.margin_pct),
    }
