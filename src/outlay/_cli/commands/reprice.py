"""``outlay reprice``: track captured costs whose price has become known."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final

from outlay._capture.pricing import PricedAmount, PriceLists, PriceUnknown
from outlay._capture.pricing.configured_lists import configured_prices
from outlay._cli.commands.unpriced_scope import (
    UnpricedRow,
    add_filters,
    print_table,
    read_selected,
)
from outlay._cli.exit_codes import CommandFailedError, ExitCode, UsageError
from outlay._cli.journal_options import (
    JournalTarget,
    add_journal_options,
    mapped_os_errors,
)
from outlay._cli.journal_totals import pluralize
from outlay._cli.output_amounts import plain
from outlay._journal.admin import commit as settling
from outlay._journal.admin.commit import PricedEvent
from outlay._model.clock import SystemClock
from outlay._model.money import to_exact_decimal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from outlay._journal.admin.inspect import DestinationView

_DESCRIPTION: Final = """\
Price the captured costs that had no price, and put them into the journal, with the key
and the timestamp that they were captured with: each counts once, whatever happens
meanwhile. Prices are those of the day on which a cost arose. What is still not known
stays.
"""

_EPILOG: Final = """\
examples:
  outlay reprice --dry-run
  outlay reprice --price-book prices.toml --provider clearbit
  outlay reprice --id ok1_a495c237a205f2cb409ef90e084b68419b84b524 --amount 0.0042

exit codes:
  0  done
  1  some have no price yet
"""

_CHUNK: Final = 256  # costs that become events in one step; see CHUNK_LETTERS


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add(
        "--price-book",
        metavar="FILE",
        help="your own prices (default: OUTLAY_PRICE_BOOK)",
    )
    add("--amount", metavar="AMOUNT", help="what the one named by --id cost, by hand")
    add("--currency", metavar="CODE", help="of --amount (default: that of the metrics)")
    add("--dry-run", action="store_true", help="show, and change nothing")
    add("--json", action="store_true", help="print JSON; amounts are exact strings")
    add_filters(parser)
    add_journal_options(parser, destination="the one that the settings make")


def run(arguments: argparse.Namespace) -> int:
    """Price, show, and put into the journal what has a price.

    Raises:
        ConfigError: a setting or the price book is malformed.
        UsageError: an amount does not belong to one cost.
        JournalError: the folder cannot be read or written to.
    """
    with mapped_os_errors():
        return _run(
            JournalTarget(arguments, price_book=arguments.price_book), arguments
        )


def _run(scope: JournalTarget, arguments: argparse.Namespace) -> int:
    view = scope.selected_destination()
    if view is not None and not arguments.dry_run:
        settling.recover(view)  # what a killed command had begun
    found = [*read_selected(view, arguments)]
    if arguments.amount is not None:
        rows: list[tuple[UnpricedRow, PricedAmount | PriceUnknown]] = [
            _manual_price(arguments, found)
        ]
    else:
        prices = configured_prices(scope.settings, strict=True)
        rows = _list_prices(prices, found)
    priced = [
        (each, charge) for each, charge in rows if isinstance(charge, PricedAmount)
    ]
    if view is not None and not arguments.dry_run:
        _settle(scope, view, priced)
        settling.recover(view)
    _print_result(arguments, rows, len(priced))
    return ExitCode.DONE if len(priced) == len(rows) else ExitCode.REFUSED


def _list_prices(
    prices: PriceLists, found: Iterable[UnpricedRow]
) -> list[tuple[UnpricedRow, PricedAmount | PriceUnknown]]:
    return [(each, each.waiting.price(prices)) for each in found]


def _manual_price(
    arguments: argparse.Namespace, found: list[UnpricedRow]
) -> tuple[UnpricedRow, PricedAmount | PriceUnknown]:
    if arguments.id is None:
        raise UsageError("--amount is what one cost came to: name it with --id")
    if not found:
        raise CommandFailedError(
            f"no unpriced cost {arguments.id}; it may be priced already"
        )
    currency = arguments.currency or found[0].line.cost.currency
    return found[0], PricedAmount(
        to_exact_decimal(arguments.amount), currency, "manual", None
    )


def _settle(
    scope: JournalTarget,
    view: DestinationView,
    priced: Iterable[tuple[UnpricedRow, PricedAmount]],
) -> None:
    by_key: dict[str, PricedEvent] = {}
    for each, charge in priced:
        known = by_key.get(each.key)
        event = each.waiting.with_price(charge) if known is None else known.event
        lines = [] if known is None else known.lines
        by_key[each.key] = PricedEvent(event, [*lines, each.line])
    events = iter(by_key.values())
    while chunk := [*itertools.islice(events, _CHUNK)]:
        settling.commit(
            view,
            chunk,
            now_ms=SystemClock().now_ms(),
            max_journal_bytes=scope.settings.max_journal_bytes,
        )


_DOUBTFUL: Final = (
    "may be tracked already, by a process that was killed: what the server may no "
    "longer recognise goes into quarantine, see 'outlay journal list'"
)


def _print_result(
    arguments: argparse.Namespace,
    rows: list[tuple[UnpricedRow, PricedAmount | PriceUnknown]],
    priced: int,
) -> None:
    if arguments.json:
        document = {
            "dryRun": arguments.dry_run,
            "priced": priced,
            "left": len(rows) - priced,
            "costs": [_as_json(each, charge) for each, charge in rows],
        }
        print(json.dumps(document, ensure_ascii=False))
        return
    if rows:
        print_table(_table_rows(rows))
    verb = "would be tracked" if arguments.dry_run else "tracked"
    print(f"{pluralize(priced, 'cost')} {verb}; {len(rows) - priced:,} without a price")
    doubtful = sum(
        each.may_be_tracked for each, charge in rows if isinstance(charge, PricedAmount)
    )
    if doubtful:
        print(f"{pluralize(doubtful, 'cost')} of these {_DOUBTFUL}")
    if priced and not arguments.dry_run:
        print("'outlay journal replay' ships now; a living process does so within 30 s")


def _table_rows(
    rows: Iterable[tuple[UnpricedRow, PricedAmount | PriceUnknown]],
) -> Iterator[tuple[UnpricedRow, str, str]]:
    for each, charge in rows:
        if isinstance(charge, PricedAmount):
            source = (charge.price or {}).get("list", charge.provenance)
            yield each, f"{plain(charge.amount)} {charge.currency}", str(source)
        else:
            yield each, "-", charge.message


def _as_json(each: UnpricedRow, charge: PricedAmount | PriceUnknown) -> dict[str, Any]:
    if isinstance(charge, PriceUnknown):
        why = {"reason": charge.reason, "message": charge.message}
        return {**each.as_json(), "amount": None, **why}
    return {
        **each.as_json(),
        "amount": plain(charge.amount),
        "currency": charge.currency,
        "provenance": charge.provenance,
        "price": charge.price,
    }
