"""``outlay prices``: check a price book, or look a price up in every price list."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from outlay._capture.observation import Observation
from outlay._capture.pricing import Price, PriceUnknown
from outlay._capture.pricing.configured_lists import configured_lists
from outlay._capture.pricing.listed_prices import listed_prices
from outlay._capture.pricing.price_book import PriceBook
from outlay._cli.exit_codes import ExitCode
from outlay._cli.options import add_format_options, add_subcommand, parse_time
from outlay._cli.output import plain, pluralize, print_data
from outlay._model.clock import SystemClock, from_ms
from outlay._model.settings import Settings

_DESCRIPTION: Final = "Check a price book, or look a price up in every price list."

_EPILOG: Final = """\
examples:
  outlay prices check prices.toml
  outlay prices quote --provider openai --model gpt-4o --usage input_tokens=1000
  outlay prices show gpt-4o
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    _configure_check(
        add_subcommand(actions, "check", check, "find mistakes in a price book")
    )
    _configure_show(
        add_subcommand(actions, "show", show, "list a model's prices with their origin")
    )
    _configure_quote(
        add_subcommand(actions, "quote", quote, "look a price up in every price list")
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand.

    Raises:
        ConfigError: The price book is malformed. The message names the place.
    """
    return int(arguments.action(arguments))


def _configure_check(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example:\n  outlay prices check prices.toml\n"
    parser.add_argument("file", metavar="FILE", help="TOML or JSON")


def _configure_show(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
The order is that of captured costs: your price book, outlay's own list, genai-prices.

example:
  outlay prices show gpt-4o

exit codes:
  0  a list has a price of the model
  1  no list has one
"""
    add = parser.add_argument
    add("model", metavar="MODEL", help="the model that responded")
    add("--at", metavar="TIME", type=parse_time, help="a date or a time (default: now)")
    add(
        "--price-book",
        metavar="FILE",
        help="your own prices (default: OUTLAY_PRICE_BOOK)",
    )
    add_format_options(parser)


def _configure_quote(parser: argparse.ArgumentParser) -> None:
    parser.epilog = """\
The order is that of captured costs: the first list that knows a price is used.

example:
  outlay prices quote --provider anthropic --model claude-sonnet-4-5 \\
      --usage input_tokens=1000 --usage output_tokens=200 --at 2026-11-05

exit codes:
  0  a list knows the price
  1  no list knows it
"""
    add = parser.add_argument
    add("--provider", metavar="NAME", required=True, help="such as openai")
    add("--model", metavar="NAME", help="the model that responded")
    add(
        "--usage",
        metavar="UNIT=COUNT",
        type=_usage,
        action="append",
        default=[],
        help="such as input_tokens=1000 or page=3; may be repeated",
    )
    add("--service-tier", metavar="NAME", help="such as batch")
    add("--region", metavar="NAME", help="the region where it ran")
    add(
        "--event-type",
        metavar="TYPE",
        default="cost.ai.inference",
        help="the cost's event type (default: cost.ai.inference)",
    )
    add("--at", metavar="TIME", type=parse_time, help="a date or a time (default: now)")
    add(
        "--price-book",
        metavar="FILE",
        help="your own prices (default: OUTLAY_PRICE_BOOK)",
    )
    add_format_options(parser)


def _usage(text: str) -> tuple[str, int | Decimal]:
    unit, _, count = text.partition("=")
    try:
        number = Decimal(count)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no count of a unit; pass one such as page=3"
        ) from None
    return unit, int(number) if number == number.to_integral_value() else number


def check(arguments: argparse.Namespace) -> int:
    """Read a price book. A mistake in it raises an error."""
    book = PriceBook.load(arguments.file)
    entries = pluralize(len(book.entries), "price")
    print(f"{arguments.file}: {entries} in {book.currency}, version {book.version}")
    return ExitCode.DONE


def show(arguments: argparse.Namespace) -> int:
    """Print the prices of a model in every list, with their origin."""
    at = arguments.at or from_ms(SystemClock().now_ms())
    book = Path(arguments.price_book) if arguments.price_book else None
    settings = Settings.resolve({"price_book": book})
    prices = [*listed_prices(settings, arguments.model, at)]
    if arguments.format:
        rows = [price._asdict() for price in prices]
        print_data(arguments.format, rows, rows)
    else:
        for price in prices:
            details = [price.since and f"since {price.since}", price.source]
            known = ", ".join(detail for detail in details if detail)
            print(
                f"{price.origin}  {price.entry}  {price.price}"
                + (f"  ({known})" if known else "")
            )
    return ExitCode.DONE if prices else ExitCode.REFUSED


def quote(arguments: argparse.Namespace) -> int:
    """Look the price up in every list, and print each result."""
    observation = Observation(
        provider=arguments.provider,
        event_type=arguments.event_type,
        model=arguments.model,
        service_tier=arguments.service_tier,
        region=arguments.region,
        usage=dict(arguments.usage),
    )
    at = arguments.at or from_ms(SystemClock().now_ms())
    book = Path(arguments.price_book) if arguments.price_book else None
    settings = Settings.resolve({"price_book": book})
    prices = [
        each.price(observation, at) for each in configured_lists(settings, strict=True)
    ]
    if arguments.format:
        rows = [_as_json(price) for price in prices]
        print_data(arguments.format, rows, rows)
    else:
        for price in prices:
            print(_in_words(price))
    is_known = any(isinstance(price, Price) for price in prices)
    return ExitCode.DONE if is_known else ExitCode.REFUSED


def _in_words(price: Price | PriceUnknown) -> str:
    if isinstance(price, PriceUnknown):
        return f"no price: {price.message}"
    details = ", ".join(f"{name} {value}" for name, value in price.data.items())
    return f"{plain(price.amount)} {price.currency}  ({details})"


def _as_json(price: Price | PriceUnknown) -> dict[str, Any]:
    if isinstance(price, PriceUnknown):
        return {"amount": None, "reason": price.reason, "message": price.message}
    amount = plain(price.amount)
    return {"amount": amount, "currency": price.currency, "price": price.data}
