"""Price reported usage by public lists and by your own price book.

    from outlay.pricing import PriceBook

    book = PriceBook.load("prices.toml")

A client uses the book that its setting ``price_book`` names; see docs/pricing.md.
"""

from outlay._capture.observation import Observation
from outlay._capture.pricing.book_entries import Entry, Rounding, Tier, UnitPrice
from outlay._capture.pricing.price_book import PriceBook
from outlay._capture.pricing.price_lists import Price, PriceUnknown

__all__ = (
    "Entry",
    "Observation",
    "Price",
    "PriceBook",
    "PriceUnknown",
    "Rounding",
    "Tier",
    "UnitPrice",
)
