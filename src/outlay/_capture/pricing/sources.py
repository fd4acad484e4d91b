"""Which price lists there are: one's own, and the public one that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay._capture.pricing.prices import NoPrice, Price, PriceList, PriceLists
from outlay.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from outlay._capture.observation import Observation
    from outlay._capture.pricing.genai import GenaiPrices
    from outlay._model.settings import Settings


def price_lists(settings: Settings, *, strict: bool = False) -> PriceLists:
    """Return the price lists that the settings name, one's own first.

    Args:
        settings: of the client.
        strict: raise for a price book that cannot be read. Otherwise nothing is priced
            until it is mended; see `BrokenBook`.

    Raises:
        ConfigError: only if ``strict``.
    """
    return PriceLists(lists_of(settings, strict=strict))


def lists_of(settings: Settings, *, strict: bool = False) -> list[PriceList]:
    """Return each of the lists that `price_lists` asks in turn."""
    lists: list[PriceList] = []
    if settings.price_book is not None:
        lists.append(_book(settings.price_book, strict=strict))
    return [*lists, InstalledPrices(update=settings.update_prices)]


class InstalledPrices:
    """The list of genai-prices, imported when it is first asked; without it, no price.

    Thread safety: any thread.
    """

    overrides = False

    def __init__(self, *, update: bool = False) -> None:
        """Use the list; see `GenaiPrices`."""
        self._update = update
        self._list: GenaiPrices | NoPrice | None = None

    def price(self, observation: Observation, at: datetime) -> Price | NoPrice:
        """Return what ``observation`` costs at that time, or why that is not known."""
        # Two threads may both load it: the last one's caches are everybody's.
        prices = self._list or self._load()
        if isinstance(prices, NoPrice):
            return prices
        return prices.price(observation, at)

    def _load(self) -> GenaiPrices | NoPrice:
        self._list = _load(update=self._update)
        return self._list


class BrokenBook:
    """A price book that cannot be read. Nobody else is asked in its place.

    A public list might tell another price than the agreed one. The costs wait, with
    their usage, until the book is mended.
    """

    overrides = False

    def __init__(self, error: ConfigError) -> None:
        """Give ``error`` as the reason of every price that is not known."""
        self._answer = NoPrice("price_book", str(error), final=True)

    def price(self, observation: Observation, at: datetime) -> NoPrice:  # noqa: ARG002 - as PriceList has it
        """Return why no price is known."""
        return self._answer


def _book(path: Path, *, strict: bool) -> PriceList:
    from outlay._capture.pricing.book import PriceBook  # noqa: PLC0415 - for few

    try:
        return PriceBook.load(path)
    except ConfigError as error:
        if strict:
            raise
        return BrokenBook(error)


def _load(*, update: bool) -> GenaiPrices | NoPrice:
    try:
        # A tenth of a second, for it brings some thousand models' prices.
        from outlay._capture.pricing.genai import GenaiPrices  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("outlay"):
            raise
        return NoPrice(
            "missing_extra", str(MissingExtraError("Pricing reported usage", "pricing"))
        )
    return GenaiPrices(update=update)
