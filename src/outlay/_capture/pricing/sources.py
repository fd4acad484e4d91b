"""Which price lists there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay._capture.pricing.prices import NoPrice, Price
from outlay.errors import MissingExtraError

if TYPE_CHECKING:
    from datetime import datetime

    from outlay._capture.observation import Observation
    from outlay._capture.pricing.genai import GenaiPrices


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


def _load(*, update: bool) -> GenaiPrices | NoPrice:
    try:
        # Half a second, for it brings some thousand models' prices.
        from outlay._capture.pricing.genai import GenaiPrices  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("outlay"):
            raise
        return NoPrice(
            "missing_extra", str(MissingExtraError("Pricing reported usage", "pricing"))
        )
    return GenaiPrices(update=update)
