"""Find the amount of operations whose providers report only the usage."""

from outlay._capture.pricing.price_lists import (
    Price,
    PricedAmount,
    PriceList,
    PriceLists,
    PriceUnknown,
)

__all__ = ("Price", "PriceList", "PriceLists", "PriceUnknown", "PricedAmount")
