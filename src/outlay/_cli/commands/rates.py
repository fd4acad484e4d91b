"""``outlay rates``: give and list rates between currencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import ExitCode
from outlay._cli.options import (
    add_action_options,
    add_subcommand,
    connection_settings,
    currency_code,
    parse_time,
    positive_decimal,
)
from outlay._cli.output import Table, print_data, print_list, print_table
from outlay._cli.periods import short_time
from outlay._cli.rate_texts import rate_json, rate_text
from outlay._cli.revenue_api import RevenueApi
from outlay._cli.wire_models import Rate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_DESCRIPTION: Final = """\
Amounts in two currencies are never added. A rate of yours lets margins show them in one
currency. The lines below the table of margins name the rates, with date and source.
"""

_EPILOG: Final = """\
examples:
  outlay rates set EUR USD 1.0832 --from 2026-10 --source ECB
  outlay rates list
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    add_subcommand(actions, "list", _list, "list all rates")
    _configure_set(add_subcommand(actions, "set", _set, "give a rate, or replace one"))
    for one in actions.choices.values():
        one.epilog = _EPILOG
    add_action_options(actions)


def _configure_set(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "from_currency",
        type=currency_code,
        metavar="FROM",
        help="a currency, such as EUR",
    )
    add(
        "to_currency", type=currency_code, metavar="TO", help="another one, such as USD"
    )
    add(
        "rate",
        type=positive_decimal("rate", "1.0832"),
        metavar="RATE",
        help="the price of one FROM in TO",
    )
    add(
        "--from",
        dest="valid_from",
        type=parse_time,
        required=True,
        metavar="TIME",
        help="the first instant of the rate, which is valid until the next one",
    )
    add(
        "--source",
        required=True,
        metavar="NAME",
        help="the origin of the rate, such as ECB, which is shown beside it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    with RevenueApi(connection_settings(arguments)) as api:
        arguments.action(api, arguments)
    return ExitCode.DONE


def _list(api: RevenueApi, arguments: argparse.Namespace) -> None:
    print_list(
        arguments.format,
        api.rates(),
        rate_json,
        _print_rates,
        nothing="no rates yet; type: outlay rates set --help",
    )


def _set(api: RevenueApi, arguments: argparse.Namespace) -> None:
    rate = Rate(
        from_currency=arguments.from_currency,
        to_currency=arguments.to_currency,
        rate=arguments.rate,
        valid_from=arguments.valid_from,
        source=arguments.source,
    )
    stored = api.set_rate(rate)
    if arguments.format:
        row = {**rate_json(rate), "unchanged": bool(stored.unchanged)}
        print_data(arguments.format, row, [row])
        return
    print(rate_text(rate))
    if stored.unchanged:
        print("  the server had it already")


def _print_rates(rates: Sequence[Rate]) -> None:
    headers = ("from", "to", "rate", "valid from, UTC", "source")
    rows = [
        (
            one.from_currency,
            one.to_currency,
            one.rate,
            short_time(one.valid_from),
            one.source,
        )
        for one in rates
    ]
    print_table(Table(headers, rows, hide=("source",)))
