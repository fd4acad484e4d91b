"""``outlay reprice``: track captured costs whose price has become known."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final

from outlay._capture.pricing import Charge, NoPrice, PriceLists
from outlay._capture.pricing.sources import price_lists
from outlay._journal import settling
from outlay._journal.settling import Priced
from outlay._model.clock import SystemClock
from outlay._model.money import exact
from outlay.cli._amounts import plain
from outlay.cli._exits import Exit, FailedError, UsageError
from outlay.cli._spill_scope import Scope, add_scope, journal_errors
from outlay.cli._spill_tally import counted
from outlay.cli._unpriced_scope import Found, add_filters, selected, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from outlay._journal.inspection import DestinationView

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
    add_scope(parser, destination="the one that the settings make")


def run(arguments: argparse.Namespace) -> int:
    """Price, show, and put into the journal what has a price.

    Raises:
        ConfigError: a setting or the price book is malformed.
        UsageError: an amount does not belong to one cost.
        JournalError: the folder cannot be read or written to.
    """
    with journal_errors():
        return _run(Scope(arguments, price_book=arguments.price_book), arguments)


def _run(scope: Scope, arguments: argparse.Namespace) -> int:
    view = scope.one()
    if view is not None and not arguments.dry_run:
        settling.finish(view)  # what a killed command had begun
    found = [*selected(view, arguments)]
    if arguments.amount is not None:
        rows: list[tuple[Found, Charge | NoPrice]] = [_by_hand(arguments, found)]
    else:
        prices = price_lists(scope.settings, strict=True)
        rows = _by_lists(prices, found)
    priced = [(each, charge) for each, charge in rows if isinstance(charge, Charge)]
    if view is not None and not arguments.dry_run:
        _settle(scope, view, priced)
        settling.finish(view)
    _say(arguments, rows, len(priced))
    return Exit.DONE if len(priced) == len(rows) else Exit.REFUSED


def _by_lists(
    prices: PriceLists, found: Iterable[Found]
) -> list[tuple[Found, Charge | NoPrice]]:
    return [(each, each.waiting.charge(prices)) for each in found]


def _by_hand(
    arguments: argparse.Namespace, found: list[Found]
) -> tuple[Found, Charge | NoPrice]:
    if arguments.id is None:
        raise UsageError("--amount is what one cost came to: name it with --id")
    if not found:
        raise FailedError(f"no unpriced cost {arguments.id}; it may be priced already")
    currency = arguments.currency or found[0].line.cost.currency
    return found[0], Charge(exact(arguments.amount), currency, "manual", None)


def _settle(
    scope: Scope, view: DestinationView, priced: Iterable[tuple[Found, Charge]]
) -> None:
    by_key: dict[str, Priced] = {}
    for each, charge in priced:
        known = by_key.get(each.key)
        event = each.waiting.priced(charge) if known is None else known.event
        lines = [] if known is None else known.lines
        by_key[each.key] = Priced(event, [*lines, each.line])
    events = iter(by_key.values())
    while chunk := [*itertools.islice(events, _CHUNK)]:
        settling.settle(
            view,
            chunk,
            now_ms=SystemClock().now_ms(),
            max_spill_bytes=scope.settings.max_spill_bytes,
        )


_DOUBTFUL: Final = (
    "may be tracked already, by a process that was killed: what the server may no "
    "longer recognise goes into quarantine, see 'outlay spill list'"
)


def _say(
    arguments: argparse.Namespace,
    rows: list[tuple[Found, Charge | NoPrice]],
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
        show(_shown(rows))
    verb = "would be tracked" if arguments.dry_run else "tracked"
    print(f"{counted(priced, 'cost')} {verb}; {len(rows) - priced:,} without a price")
    doubtful = sum(
        each.may_be_tracked for each, charge in rows if isinstance(charge, Charge)
    )
    if doubtful:
        print(f"{counted(doubtful, 'cost')} of these {_DOUBTFUL}")
    if priced and not arguments.dry_run:
        print("'outlay spill replay' ships now; a living process does so within 30 s")


def _shown(
    rows: Iterable[tuple[Found, Charge | NoPrice]],
) -> Iterator[tuple[Found, str, str]]:
    for each, charge in rows:
        if isinstance(charge, Charge):
            source = (charge.price or {}).get("list", charge.provenance)
            yield each, f"{plain(charge.amount)} {charge.currency}", str(source)
        else:
            yield each, "-", charge.message


def _as_json(each: Found, charge: Charge | NoPrice) -> dict[str, Any]:
    if isinstance(charge, NoPrice):
        why = {"reason": charge.reason, "message": charge.message}
        return {**each.as_json(), "amount": None, **why}
    return {
        **each.as_json(),
        "amount": plain(charge.amount),
        "currency": charge.currency,
        "provenance": charge.provenance,
        "price": charge.price,
    }
