"""List the prices of a model in every price list, with their origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from outlay._capture.pricing.book_entries import ANY, fits_pattern
from outlay._capture.pricing.configured_lists import configured_lists
from outlay._capture.pricing.genai_package import load_genai_package
from outlay._capture.pricing.outlay_list import CorrectedPrices
from outlay._capture.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from outlay._capture.pricing.book_entries import Entry
    from outlay._model.settings import Settings


class ListedPrice(NamedTuple):
    """A price of a model in a price list.

    Attributes:
        origin: The name of the list.
        entry: The provider, and the model or the id of the entry.
        price: The price in words, such as ``25 per 1000 web_searches``.
        since: The date from which the price holds, or nothing.
        source: The origin of the price in the list, such as an address, or nothing.
    """

    origin: str
    entry: str
    price: str
    since: str
    source: str


def listed_prices(
    settings: Settings, model: str, at: datetime
) -> Iterator[ListedPrice]:
    """Yield the prices of a model at a time, in the order in which lists are asked.

    Raises:
        ConfigError: The price book cannot be read.
    """
    package = load_genai_package()
    public = [] if package is None else [*package.model_prices(model, at)]
    providers = {provider for provider, _, _ in public}
    for prices in configured_lists(settings, strict=True):
        if isinstance(prices, PriceBook):
            yield from _in_book(prices, model, providers, at)
        elif isinstance(prices, CorrectedPrices):
            for provider, name, price in public:
                yield ListedPrice("genai-prices", f"{provider}/{name}", price, "", "")
                yield from _surcharges(prices, provider, model, at)
            yield from _unpriced(prices, providers, at)


def _in_book(
    book: PriceBook, model: str, providers: Collection[str], at: datetime
) -> Iterator[ListedPrice]:
    for entry in book.entries:
        holds = entry.since <= at and (entry.until is None or at < entry.until)
        # An entry for all models applies if its provider has the model.
        is_for = entry.model != ANY or entry.provider in providers
        if holds and is_for and fits_pattern(entry.model, model):
            yield ListedPrice(
                book.name,
                f"{entry.provider}/{entry.id}",
                _in_words(entry),
                f"{entry.since:%Y-%m-%d}",
                entry.source or "",
            )


def _in_words(entry: Entry) -> str:
    parts = [f"{entry.call} a call"] if entry.call is not None else []
    for unit, price in entry.units.items():
        per = price.per or entry.per
        amount = "tiers" if price.price is None else f"{price.price:f}"
        parts.append(f"{amount} per {per:f} {unit}")
    return ", ".join(parts)


def _surcharges(
    prices: CorrectedPrices, provider: str, model: str, at: datetime
) -> Iterator[ListedPrice]:
    for each in prices.surcharges:
        is_for = any(fits_pattern(pattern, model) for pattern in each.models)
        if each.provider == provider and is_for and each.since <= at:
            yield ListedPrice(
                "outlay",
                f"{provider}/{each.id}",
                f"tokens × {each.factor:f} at {each.endpoint} endpoints",
                f"{each.since:%Y-%m-%d}",
                each.source,
            )


def _unpriced(
    prices: CorrectedPrices, providers: Collection[str], at: datetime
) -> Iterator[ListedPrice]:
    for fee in prices.unpriced:
        if fee.provider in providers and fee.since <= at:
            yield ListedPrice(
                "outlay",
                f"{fee.provider}/{fee.id}",
                f"unpriced: {fee.note}",
                f"{fee.since:%Y-%m-%d}",
                fee.source,
            )
