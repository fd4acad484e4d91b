"""Load genai-prices, an optional package, where it is installed.

Loading takes a tenth of a second, because the package contains the prices of some two
thousand models. The caller of `instrument` or `configure` pays for it, not the first
captured call.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._capture.pricing.price_lists import PriceUnknown
from outlay.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from outlay._capture.observation import Observation
    from outlay._capture.pricing.price_lists import PriceList

MISSING: Final = PriceUnknown(
    "missing_extra", str(MissingExtraError("Pricing reported usage", "pricing"))
)


class GenaiPackage(NamedTuple):
    """The parts of outlay that need genai-prices.

    Attributes:
        price_list: Creates the price list.
        usage_by_unit: A function that returns the counts in an observation by unit.
        is_part_of: A function that returns whether one unit is a part of another.
        model_prices: Yields provider, model and price of a model at a time.
    """

    price_list: Callable[..., PriceList]
    usage_by_unit: Callable[[Observation], Mapping[str, Any] | PriceUnknown]
    is_part_of: Callable[[str, str], bool]
    model_prices: Callable[[str, datetime], Iterable[tuple[str, str, str]]]


@functools.cache
def load_genai_package() -> GenaiPackage | None:
    """Import what needs genai-prices. Return None if the package is not installed."""
    try:
        module = import_module("outlay._capture.pricing.genai_list")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("outlay"):
            raise
        return None
    found: GenaiPackage = module.PACKAGE
    return found
