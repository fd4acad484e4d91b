"""Read the usage in a provider's response by the mappings of genai-prices."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from genai_prices.data_snapshot import get_snapshot
from genai_prices.data_units import unit_data
from genai_prices.decompose import is_descendant_or_self
from genai_prices.units import UnitRegistry

from outlay._capture.pricing.linear_rates import UsageReader
from outlay._capture.pricing.price_lists import PriceUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_prices.types import Provider, Usage, UsageExtractor

    from outlay._capture.observation import Observation

UNITS: Final = UnitRegistry(unit_data)
"""All units of genai-prices."""

_DEFAULT_SHAPES: Final = "openai"  # unknown providers mostly use its shapes


def extractor(provider: Provider, flavor: str | None) -> UsageExtractor | None:
    """Return the mapping of a provider's flavor of API, or None if there is none."""
    found = (each for each in provider.extractors or () if each.api_flavor == flavor)
    return next(found, None)


def genai_usage(provider: Provider, flavor: str, usage: Mapping[str, Any]) -> Usage:
    """Return usage as genai-prices reads it.

    Raises:
        ValueError: genai-prices cannot read it.
    """
    known = extractor(provider, flavor)
    root = known.root if known else "usage"
    first = root if isinstance(root, str) else str(root[0])
    return provider.extract_usage({first: usage}, api_flavor=flavor)[1]


def usage_by_unit(observation: Observation) -> Mapping[str, Any] | PriceUnknown:
    """Return the counts in a provider's report by unit, or why it cannot be read."""
    snapshot, flavor = get_snapshot(), observation.flavor or ""
    try:
        provider = snapshot.find_provider(None, observation.provider, None)
    except LookupError:
        provider = snapshot.find_provider(None, _DEFAULT_SHAPES, None)
    known = extractor(provider, flavor)
    counts = UsageReader(known).read(observation.usage) if known else None
    if counts is not None:
        return counts
    try:
        usage = genai_usage(provider, flavor, observation.usage)
    except ValueError as error:
        return PriceUnknown("unreadable_usage", str(error))
    return {
        unit: usage.__dict__[unit] for unit in UNITS.units if unit in usage.__dict__
    }


@functools.lru_cache(maxsize=4096)
def is_part_of(unit: str, other: str) -> bool:
    """Return whether ``unit`` is ``other``, or a part of it."""
    one, whole = UNITS.units.get(unit), UNITS.units.get(other)
    if one is None or whole is None:
        return unit == other or unit.startswith(other + "/")
    return is_descendant_or_self(whole, one)
