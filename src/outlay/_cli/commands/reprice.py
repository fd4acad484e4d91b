"""``outlay reprice``: track captured costs whose price is now known."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._capture.pricing import PricedAmount, PriceUnknown
from outlay._capture.pricing.configured_lists import configured_prices
from outlay._cli.commands.unpriced import (
    ShownRow,
    UnpricedRow,
    add_unpriced_filter,
    print_unpriced,
    read_selected,
)
from outlay._cli.exit_codes import CommandFailedError, ExitCode, UsageError
from outlay._cli.journal_options import (
    CURRENT_DESTINATION,
    JournalTarget,
    add_journal_options,
    mapped_os_errors,
)
from outlay._cli.options import add_format_options, currency_code
from outlay._cli.output import plain, pluralize, print_data
from outlay._cli.progress import ProgressBar
from outlay._journal.admin import edit
from outlay._journal.admin.edit import PricedEvent
from outlay._model.clock import SystemClock
from outlay._model.money import to_exact_decimal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from outlay._journal.admin.inspect import DestinationView

_DESCRIPTION: Final = """\
Price the captured costs that had no price, and put them into the journal. Each event
has the key and the timestamp of its capture, so it counts once. The price is that of
the day of the cost. Costs without a known price stay unpriced.
"""

_EPILOG: Final = """\
examples:
  outlay reprice --dry-run
  outlay reprice --price-book prices.toml --provider clearbit
  outlay reprice --provider unknown --as-provider openai --dry-run
  outlay reprice --id ok1_a495c237a205f2cb409ef90e084b68419b84b524 --amount 0.0042

exit codes:
  0  done
  1  some have no price yet
"""

_IN_DOUBT: Final = (
    "may be tracked already, by a process that was killed. Events that are older than "
    "the dedupe window go into quarantine, see 'outlay journal list'"
)

_CHUNK: Final = 256  # costs that become events in one step; see CHUNK_LETTERS


class PricedRow(NamedTuple):
    """An unpriced cost and its price, or the reason why it has none."""

    row: UnpricedRow
    price: PricedAmount | PriceUnknown


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
    add(
        "--as-provider",
        metavar="NAME",
        help="use the prices of this provider for the costs of --provider, which is a "
        "gateway in front of it, or unknown",
    )
    add("--amount", metavar="AMOUNT", help="amount of the cost given by --id")
    add(
        "--currency",
        type=currency_code,
        metavar="CODE",
        help="currency of --amount (default: that of the metrics)",
    )
    add("--dry-run", action="store_true", help="show, and change nothing")
    add_format_options(parser)
    add_unpriced_filter(parser)
    add_journal_options(parser, destination=CURRENT_DESTINATION)


def run(arguments: argparse.Namespace) -> int:
    """Price the selected costs, show them, and track those that have a price.

    Raises:
        ConfigError: A setting or the price book is malformed.
        UsageError: ``--amount`` is given without ``--id``, or ``--as-provider`` without
            ``--provider``.
        JournalError: The folder cannot be read or written.
    """
    with mapped_os_errors():
        return _reprice(
            JournalTarget(arguments, price_book=arguments.price_book), arguments
        )


def _reprice(target: JournalTarget, arguments: argparse.Namespace) -> int:
    view = target.selected_destination()
    if view is not None and not arguments.dry_run:
        edit.remove_settled_unpriced(view)  # Finish what a killed command began.
    found = read_selected(view, arguments)
    if arguments.amount is not None:
        rows = [_manual_price(arguments, found)]
    else:
        rows = _list_prices(target, found, arguments)
    priced = [(row, price) for row, price in rows if isinstance(price, PricedAmount)]
    if view is not None and not arguments.dry_run:
        _commit(target, view, priced)
        edit.remove_settled_unpriced(view)
    if arguments.format:
        _print_data(arguments, rows, len(priced))
    else:
        _print_result(arguments, rows, priced)
    return ExitCode.DONE if len(priced) == len(rows) else ExitCode.REFUSED


def _list_prices(
    target: JournalTarget, found: Sequence[UnpricedRow], arguments: argparse.Namespace
) -> list[PricedRow]:
    as_provider = arguments.as_provider
    if as_provider is not None and arguments.provider is None:
        raise UsageError(
            "--as-provider is for the costs of one gateway: add --provider"
        )
    prices = configured_prices(target.settings, strict=True)
    with ProgressBar() as bar:
        return [
            PricedRow(row, row.unpriced.price(prices, as_provider))
            for row in bar.count("priced", found, len(found))
        ]


def _manual_price(arguments: argparse.Namespace, found: list[UnpricedRow]) -> PricedRow:
    if arguments.id is None:
        raise UsageError("--amount is the amount of one cost: add --id")
    if not found:
        raise CommandFailedError(
            f"no unpriced cost {arguments.id}; it may be priced already"
        )
    currency = arguments.currency or found[0].line.cost.currency
    amount = to_exact_decimal(arguments.amount)
    return PricedRow(found[0], PricedAmount(amount, currency, "manual", None))


def _commit(
    target: JournalTarget,
    view: DestinationView,
    priced: Iterable[tuple[UnpricedRow, PricedAmount]],
) -> None:
    """Put the priced costs into the journal, one event for each key."""
    by_key: dict[str, PricedEvent] = {}
    for row, price in priced:
        known = by_key.get(row.key)
        event = row.unpriced.with_price(price) if known is None else known.event
        lines = [] if known is None else known.lines
        by_key[row.key] = PricedEvent(event, [*lines, row.line])
    with ProgressBar() as bar:
        events = bar.count("tracked", by_key.values(), len(by_key))
        while chunk := [*itertools.islice(events, _CHUNK)]:
            edit.reprice(
                view,
                chunk,
                now_ms=SystemClock().now_ms(),
                max_journal_bytes=target.settings.max_journal_bytes,
            )


def _print_data(
    arguments: argparse.Namespace, rows: list[PricedRow], priced: int
) -> None:
    costs = [_as_json(row, price) for row, price in rows]
    document = {
        "dryRun": arguments.dry_run,
        "priced": priced,
        "left": len(rows) - priced,
        "costs": costs,
    }
    print_data(arguments.format, document, costs)


def _as_json(row: UnpricedRow, price: PricedAmount | PriceUnknown) -> dict[str, Any]:
    if isinstance(price, PriceUnknown):
        reason = {"reason": price.reason, "message": price.message}
        return {**row.as_json(), "amount": None, **reason}
    return {
        **row.as_json(),
        "amount": plain(price.amount),
        "currency": price.currency,
        "provenance": price.provenance,
        "price": price.price,
    }


def _print_result(
    arguments: argparse.Namespace,
    rows: list[PricedRow],
    priced: list[tuple[UnpricedRow, PricedAmount]],
) -> None:
    if rows:
        print_unpriced(map(_shown_row, rows))
    verb = "would be tracked" if arguments.dry_run else "tracked"
    left = len(rows) - len(priced)
    print(f"{pluralize(len(priced), 'cost')} {verb}; {left:,} without a price")
    if in_doubt := sum(row.may_be_tracked for row, _ in priced):
        print(f"{pluralize(in_doubt, 'cost')} of these {_IN_DOUBT}")
    if priced and not arguments.dry_run:
        print(
            "'outlay journal replay' ships them now; a living process does so within "
            "30 s"
        )


def _shown_row(priced: PricedRow) -> ShownRow:
    row, price = priced
    if isinstance(price, PriceUnknown):
        return ShownRow(row, "-", price.message)
    source = (price.price or {}).get("list", price.provenance)
    return ShownRow(row, f"{plain(price.amount)} {price.currency}", str(source))
