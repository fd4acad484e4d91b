"""Pricing: an amount for what a provider reports only the usage of."""

from outlay._capture.pricing.price_lists import (
    Price,
    PricedAmount,
    PriceList,
    PriceLists,
    PriceUnknown,
)

__all__ = ("Price", "PriceList", "PriceLists", "PriceUnknown", "PricedAmount")
