"""Pricing: an amount for what a provider reports only the usage of.

A price list is asked, then the next. None knows the price: the cost is unpriced, which
is neither zero nor a guess.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from outlay._capture.observation import Observation


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What an observed operation costs by a price list.

    Attributes:
        amount: exact.
        currency: ISO 4217.
        data: which list, of what date, matched what; goes into the event.
    """

    amount: Decimal
    currency: str = "USD"
    data: dict[str, Any] = {}


class PriceList(Protocol):
    """Knows what usage costs. Thread safety: any thread."""

    def price(self, observation: Observation, at: datetime) -> Price | None:
        """Return what ``observation`` costs at that time, or None: not known here."""
        ...


class PriceLists:
    """Asks one price list after the other; the first that knows, tells."""

    def __init__(self, lists: Sequence[PriceList]) -> None:
        self._lists = tuple(lists)

    def price(self, observation: Observation, at: datetime) -> Price | None:
        """Return what ``observation`` costs at that time, or None: nobody knows."""
        for prices in self._lists:
            price = prices.price(observation, at)
            if price is not None:
                return price
        return None
