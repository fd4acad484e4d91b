"""Pricing: an amount for what a provider reports only the usage of."""

from outlay._capture.pricing.prices import (
    Charge,
    NoPrice,
    Price,
    PriceList,
    PriceLists,
)

__all__ = ("Charge", "NoPrice", "Price", "PriceList", "PriceLists")
