"""Choose the price lists of a client: its own, outlay's, and the public one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay._capture.pricing.genai_package import MISSING, load_genai_package
from outlay._capture.pricing.outlay_list import CorrectedPrices, outlay_prices
from outlay._capture.pricing.price_book import PriceBook
from outlay._capture.pricing.price_lists import (
    Price,
    PriceList,
    PriceLists,
    PriceUnknown,
)
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from outlay._capture.observation import Observation
    from outlay._model.settings import Settings


def load_price_lists() -> None:
    """Load the lists that need no settings, so that no captured call does.

    Calls that set capture up load them, on their own thread: the first one imports
    genai-prices if it is installed, and builds the models of prices. pydantic runs the
    code of its plugins meanwhile.
    """
    outlay_prices()
    load_genai_package()


def configured_prices(settings: Settings, *, strict: bool = False) -> PriceLists:
    """Return the price lists that the settings name, the user's own first.

    Args:
        settings: The settings of the client.
        strict: Whether to raise for a price book that cannot be read. Otherwise no
            cost is priced until the book is corrected; see `UnreadableBook`.

    Raises:
        ConfigError: The price book cannot be read, and ``strict`` is set.
    """
    return PriceLists(configured_lists(settings, strict=strict))


def configured_lists(settings: Settings, *, strict: bool = False) -> list[PriceList]:
    """Return the lists that `configured_prices` asks, in their order."""
    lists: list[PriceList] = []
    if settings.price_book is not None:
        lists.append(_book(settings.price_book, strict=strict))
    own = outlay_prices()
    public = GenaiPricesIfInstalled(update=settings.update_prices)
    return [*lists, own.fees, CorrectedPrices(public, own)]


class GenaiPricesIfInstalled:
    """The list of genai-prices. Without that package it knows no price.

    Thread safety: any thread. Two threads may both create the list; each works.
    """

    overrides = False

    def __init__(self, *, update: bool = False) -> None:
        """Use the list; see `GenaiPrices`."""
        self._update = update
        self._list: PriceList | None = None

    def price(self, observation: Observation, at: datetime) -> Price | PriceUnknown:
        """Return the price of ``observation`` at that time, or why it is unknown."""
        if self._list is None:
            package = load_genai_package()
            if package is None:
                return MISSING
            self._list = package.price_list(update=self._update)
        return self._list.price(observation, at)


class UnreadableBook:
    """Stands in for a price book that cannot be read. No other list is asked.

    A public list might give another price than the agreed one. The costs are stored
    with their usage until the book is corrected.
    """

    overrides = False

    def __init__(self, error: ConfigError) -> None:
        """Give ``error`` as the reason of every unknown price."""
        self._unknown = PriceUnknown("price_book", str(error), overrides_reported=True)

    def price(self, observation: Observation, at: datetime) -> PriceUnknown:  # noqa: ARG002 - the protocol's signature
        """Return why no price is known."""
        return self._unknown


def _book(path: Path, *, strict: bool) -> PriceList:
    try:
        return PriceBook.load(path)
    except ConfigError as error:
        if strict:
            raise
        return UnreadableBook(error)
