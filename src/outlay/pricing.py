"""Prices: what reported usage costs, by public lists and by your own.

    from outlay.pricing import PriceBook

    book = PriceBook.load("prices.toml")

A client uses the book that its setting ``price_book`` names; see docs/pricing.md.
"""

from outlay._capture.observation import Observation
from outlay._capture.pricing.book import PriceBook
from outlay._capture.pricing.entries import Entry, Rounding, Tier, UnitPrice
from outlay._capture.pricing.prices import NoPrice, Price

__all__ = (
    "Entry",
    "NoPrice",
    "Observation",
    "Price",
    "PriceBook",
    "Rounding",
    "Tier",
    "UnitPrice",
)
