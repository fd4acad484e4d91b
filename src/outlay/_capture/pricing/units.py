"""Units: what was counted of an operation, and what of it is part of what.

Usage in the shape of an AI provider is read by genai-prices, into units of which some
are parts of others: cached tokens are input tokens. Of all other units, ``image/hd`` is
a part of ``image``; what is counted in the part is counted in the whole, too.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay._capture.pricing.price_lists import PriceUnknown
from outlay.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from outlay._capture.observation import Observation

CALL: Final = "call"  # which every operation is one of; it needs no price
OWN_UNITS: Final = {
    CALL: "one call",
    "atmosphere_data": "a place's ratings and services, on top of its call",
    "billable_unit": "what fal bills an endpoint by, such as an image or a megapixel",
    "character": "a billed character of text",
    "classification": "a text that was classified",
    "contact_data": "a place's hours and numbers, on top of its call",
    "element": "a pair of places in a matrix of distances",
    "image": "an image made; by size and quality, too, as in image/1024x1024/hd",
    "page": "a page of a document",
    "search": "a search, with as many documents as the provider takes for one",
    "second": "a second of audio, of a phone call, or of compute time",
    "segment": "a part of a text message",
}
"""Units by the names that extractors give them. Beside these there are
the units of genai-prices, and data packages by their providers' names."""

_PARTS: Final = ("_tokens", "audio_seconds")  # how those end that are parts of others

_MISSING: Final = PriceUnknown(
    "missing_extra", str(MissingExtraError("Reading token counts", "pricing"))
)


def quantities_by_unit(
    observation: Observation,
) -> Mapping[str, Decimal] | PriceUnknown:
    """Return the quantities in an observation by unit, or why they cannot be read."""
    usage: Mapping[str, Any] = observation.usage
    if observation.flavor is not None:
        try:
            from outlay._capture.pricing import genai_usage as reports
        except ModuleNotFoundError:
            return _MISSING
        read = reports.usage_by_unit(observation)
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
    """Return the quantities to bill in ``units``, each thing in one of them only.

    Cached tokens that have a price of their own are no longer among the input tokens.

    Args:
        usage: quantities as reported.
        units: those that have a price, or are free.
    """
    within = _part_of_checker({*usage, *units})
    if within is None:
        return _MISSING
    for unit, quantity in usage.items():
        if quantity and unit != CALL and not any(within(unit, of) for of in units):
            return PriceUnknown("no_unit_price", f"{unit} has no price")
    apart: dict[str, Decimal] = {}
    # The more special ones first: what is within the fewest comes last.
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
        count = Decimal(repr(count))  # as it was written in the response
    if isinstance(count, int):
        count = Decimal(count)
    if isinstance(count, Decimal) and count.is_finite() and count >= 0:
        return count
    return None


def _part_of_checker(units: set[str]) -> Callable[[str, str], bool] | None:
    """Return what tells whether a unit is another, or a part of it.

    None: only genai-prices knows, which is not installed.
    """
    if not any(unit.endswith(_PARTS) for unit in units):
        return _is_part
    try:
        from outlay._capture.pricing import genai_usage as reports
    except ModuleNotFoundError:
        return None
    return reports.is_part_of


def _is_part(unit: str, other: str) -> bool:
    return unit == other or unit.startswith(other + "/")
