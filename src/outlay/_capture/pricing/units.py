"""Read quantities by unit, and tell which units are parts of others.

genai-prices reads the usage of AI providers. Some of its units are parts of others:
cached tokens are input tokens. Of all other units, ``image/hd`` is a part of ``image``:
a quantity of the part is also counted in the whole.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay._capture.pricing.genai_package import load_genai_package
from outlay._capture.pricing.price_lists import PriceUnknown
from outlay.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from outlay._capture.observation import Observation

CALL: Final = "call"
"""The unit that every operation is one of. It needs no price."""
OWN_UNITS: Final = {
    CALL: "one call",
    "atmosphere_data": "a place's ratings and services, on top of its call",
    "billable_unit": "fal's unit of an endpoint, such as an image or a megapixel",
    "character": "a billed character of text",
    "classification": "a classified text",
    "contact_data": "a place's hours and numbers, on top of its call",
    "element": "a pair of places in a matrix of distances",
    "image": "a created image; also by size and quality, as in image/1024x1024/hd",
    "map_search": "a prompt or a query that Google Maps grounds",
    "page": "a page of a document",
    "search": "a search, with as many documents as the provider counts as one",
    "second": "a second of audio, of a phone call, or of compute time",
    "segment": "a part of a text message",
    "session": "a container of code; also by memory, as in session/4g",
}
"""The units of outlay's extractors. There are also the units of genai-prices, and data
packages under their providers' names."""

_PARTS: Final = ("_tokens", "audio_seconds")
"""The ends of the units that genai-prices knows to be parts of others."""

_MISSING: Final = PriceUnknown(
    "missing_extra", str(MissingExtraError("Reading token counts", "pricing"))
)


def quantities_by_unit(
    observation: Observation,
) -> Mapping[str, Decimal] | PriceUnknown:
    """Return the quantities in an observation by unit, or why they cannot be read."""
    usage: Mapping[str, Any] = observation.usage
    if observation.flavor is not None:
        package = load_genai_package()
        if package is None:
            return _MISSING
        read = package.usage_by_unit(observation)
        if isinstance(read, PriceUnknown):
            return read
        usage = read
    quantities = {}
    for unit, count in usage.items():
        quantity = _quantity(count)
        if quantity is None:
            return PriceUnknown("unreadable_usage", f"{unit} is no quantity")
        quantities[unit] = quantity
    return quantities


def without_overlap(
    usage: Mapping[str, Decimal], units: Collection[str]
) -> Mapping[str, Decimal] | PriceUnknown:
    """Return the quantities to bill in ``units``, each thing in one unit only.

    Cached tokens that have a price of their own no longer count as input tokens.

    Args:
        usage: The reported quantities.
        units: The units that have a price, or are free.
    """
    within = _part_of_checker({*usage, *units})
    if within is None:
        return _MISSING
    for unit, quantity in usage.items():
        if quantity and unit != CALL and not any(within(unit, of) for of in units):
            return PriceUnknown("no_unit_price", f"{unit} has no price")
    apart: dict[str, Decimal] = {}
    # Parts go before their wholes: a whole is within the fewest units.
    for unit in sorted(units, key=lambda one: -sum(within(one, of) for of in units)):
        inner = (apart[other] for other in apart if within(other, unit))
        quantity = usage.get(unit, Decimal()) - sum(inner, Decimal())
        if quantity < 0:
            return PriceUnknown(
                "unreadable_usage", f"{unit} is less than its parts are"
            )
        apart[unit] = quantity
    return apart


def _quantity(count: object) -> Decimal | None:
    if isinstance(count, bool):
        return None
    if isinstance(count, float) and math.isfinite(count):
        count = Decimal(repr(count))  # the digits of the response
    if isinstance(count, int):
        count = Decimal(count)
    if isinstance(count, Decimal) and count.is_finite() and count >= 0:
        return count
    return None


def _part_of_checker(units: set[str]) -> Callable[[str, str], bool] | None:
    """Return a function that checks whether a unit is another, or a part of it.

    Returns None if only genai-prices knows, and it is not installed.
    """
    if not any(unit.endswith(_PARTS) for unit in units):
        return _is_part
    package = load_genai_package()
    return package and package.is_part_of


def _is_part(unit: str, other: str) -> bool:
    return unit == other or unit.startswith(other + "/")
