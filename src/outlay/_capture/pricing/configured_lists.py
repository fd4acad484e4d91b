"""Which price lists there are: one's own, and the public one that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay._capture.pricing.price_lists import (
    Price,
    PriceList,
    PriceLists,
    PriceUnknown,
)
from outlay.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from outlay._capture.observation import Observation
    from outlay._capture.pricing.genai_list import GenaiPrices
    from outlay._model.settings import Settings


def configured_prices(settings: Settings, *, strict: bool = False) -> PriceLists:
    """Return the price lists that the settings name, one's own first.

    Args:
        settings: of the client.
        strict: raise for a price book that cannot be read. Otherwise nothing is priced
            until it is mended; see `BrokenBook`.

    Raises:
        ConfigError: only if ``strict``.
    """
    return PriceLists(configured_lists(settings, strict=strict))


def configured_lists(settings: Settings, *, strict: bool = False) -> list[PriceList]:
    """Return each of the lists that `price_lists` asks in turn."""
    lists: list[PriceList] = []
    if settings.price_book is not None:
        lists.append(_book(settings.price_book, strict=strict))
    return [*lists, GenaiPricesIfInstalled(update=settings.update_prices)]


class GenaiPricesIfInstalled:
    """The list of genai-prices, imported when it is first asked; without it, no price.

    Thread safety: any thread.
    """

    overrides = False

    def __init__(self, *, update: bool = False) -> None:
        """Use the list; see `GenaiPrices`."""
        self._update = update
        self._list: GenaiPrices | PriceUnknown | None = None

    def price(self, observation: Observation, at: datetime) -> Price | PriceUnknown:
        """Return what ``observation`` costs at that time, or why that is not known."""
        # Two threads may both load it: the last one's caches are everybody's.
        prices = self._list or self._load()
        if isinstance(prices, PriceUnknown):
            return prices
        return prices.price(observation, at)

    def _load(self) -> GenaiPrices | PriceUnknown:
        self._list = _load(update=self._update)
        return self._list


class UnreadableBook:
    """A price book that cannot be read. Nobody else is asked in its place.

    A public list might tell another price than the agreed one. The costs wait, with
    their usage, until the book is mended.
    """

    overrides = False

    def __init__(self, error: ConfigError) -> None:
        """Give ``error`` as the reason of every price that is not known."""
        self._answer = PriceUnknown("price_book", str(error), overrides_reported=True)

    def price(self, observation: Observation, at: datetime) -> PriceUnknown:  # noqa: ARG002 - as PriceList has it
        """Return why no price is known."""
        return self._answer


def _book(path: Path, *, strict: bool) -> PriceList:
    from outlay._capture.pricing.price_book import PriceBook  # noqa: PLC0415 - for few

    try:
        return PriceBook.load(path)
    except ConfigError as error:
        if strict:
            raise
        return UnreadableBook(error)


def _load(*, update: bool) -> GenaiPrices | PriceUnknown:
    try:
        # A tenth of a second, for it brings some thousand models' prices.
        from outlay._capture.pricing.genai_list import GenaiPrices  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("outlay"):
            raise
        return PriceUnknown(
            "missing_extra", str(MissingExtraError("Pricing reported usage", "pricing"))
        )
    return GenaiPrices(update=update)
