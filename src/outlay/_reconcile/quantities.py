"""Read the quantities of an event's usage, each thing in one unit only.

Providers report tokens in different shapes. Some count cached tokens among the input
tokens, others beside them. Bills name each kind apart. So both sides are read into the
same four kinds: input that was not cached, input that was read from the cache, input
that was written to it, and output.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay._reconcile.values import ZERO, add, subtract

if TYPE_CHECKING:
    from collections.abc import Mapping

INPUT: Final = "input_tokens"
CACHE_READ: Final = "cache_read_tokens"
CACHE_WRITE: Final = "cache_write_tokens"
OUTPUT: Final = "output_tokens"
TOKENS: Final = "tokens"
"""The kind of all token units. An event has one amount for all of its tokens."""

KNOWN_UNITS: Final = frozenset(
    {
        *(INPUT, CACHE_READ, CACHE_WRITE, OUTPUT),
        *("call", "character", "classification", "element", "image", "map_search"),
        *("page", "search", "second", "segment", "session", "storage_searches"),
        *("web_searches", "social_searches", "code_executions", "billable_unit"),
    }
)
"""The units of captured events; see `docs/pricing.md`."""

# The names of counts in the reports of OpenAI (chat, responses), Google, Bedrock and
# Mistral. The count of the input includes the cached part.
_WITH_CACHE_INSIDE: Final = (
    ("input_tokens", ("input_tokens_details", "cached_tokens"), "output_tokens"),
    ("prompt_tokens", ("prompt_tokens_details", "cached_tokens"), "completion_tokens"),
    ("inputTokens", ("inputTokensDetails", "cachedTokens"), "outputTokens"),
)
# Those of Anthropic and Bedrock. The cached parts are beside the input.
_WITH_CACHE_BESIDE: Final = (
    (
        "input_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "output_tokens",
    ),
    (
        "inputTokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
        "outputTokens",
    ),
)
_TOKEN_KINDS: Final = (INPUT, CACHE_READ, CACHE_WRITE, OUTPUT)
_OTHER_KINDS: Final = ("audio", "image", "video")


def kind_of(unit: str) -> str:
    """Return the kind of a unit: ``tokens`` for all tokens, or the unit's own name."""
    return TOKENS if unit.endswith("_tokens") else unit.partition("/")[0]


def read_quantities(data: Mapping[str, Any]) -> Mapping[str, Decimal] | None:
    """Return the quantities of an event's data by unit, or None if they are unknown.

    Args:
        data: The event's data. ``usage`` has what the provider reported. ``quantity``
            and ``unit`` are those of ``track_cost``.
    """
    usage = data.get("usage")
    if isinstance(usage, dict) and usage:
        return _of_usage(usage)
    quantity, unit = _count(data.get("quantity")), data.get("unit")
    if quantity is not None and isinstance(unit, str) and unit:
        return {unit: quantity}
    return None


def read_kind(data: Mapping[str, Any], quantities: Mapping[str, Decimal] | None) -> str:
    """Return the kind of unit that an event's amount is for. Empty, if unknown."""
    if quantities:
        return kind_of(next(iter(quantities)))
    usage = data.get("usage")
    if isinstance(usage, dict) and usage:
        return TOKENS if _token_names(usage) else kind_of(next(iter(usage)))
    unit = data.get("unit")
    return kind_of(unit) if isinstance(unit, str) else ""


def _token_names(usage: Mapping[str, Any]) -> set[str]:
    return {name for name in usage if "token" in name.casefold()}


def _of_usage(usage: Mapping[str, Any]) -> Mapping[str, Decimal] | None:
    for names in _WITH_CACHE_BESIDE:
        if {names[0], names[3]} <= usage.keys() and {*names[1:3]} & usage.keys():
            counts = (usage.get(name) for name in names)
            return _without_zeros(dict(zip(_TOKEN_KINDS, counts, strict=True)))
    for whole, cached, output in _WITH_CACHE_INSIDE:
        if whole in usage:
            return _inside(usage, whole, cached, output)
    return _of_units(usage)


def _inside(
    usage: Mapping[str, Any], whole: str, cached: tuple[str, str], output: str
) -> Mapping[str, Decimal] | None:
    details = usage.get(cached[0])
    details = details if isinstance(details, dict) else {}
    others = usage.get(f"{output}_details")
    others = others if isinstance(others, dict) else {}
    if any(
        _count(part.get(f"{kind}_tokens"))
        for part in (details, others)
        for kind in _OTHER_KINDS
    ):
        return None  # tokens of several prices, which a bill names apart
    read = _count(details.get(cached[1], 0))
    everything = _count(usage.get(whole))
    if read is None or everything is None or read > everything:
        return None
    return _without_zeros(
        {
            INPUT: subtract(everything, read),
            CACHE_READ: read,
            OUTPUT: usage.get(output, 0),
        }
    )


def _of_units(usage: Mapping[str, Any]) -> Mapping[str, Decimal] | None:
    """Return usage in outlay's own units. ``image/hd`` is a part of ``image``."""
    found: dict[str, Decimal] = {}
    for unit, value in usage.items():
        quantity = _count(value)
        if quantity is None or unit in _token_names(usage) - KNOWN_UNITS:
            return None
        if "/" not in unit:
            found[unit] = add(found.get(unit, ZERO), quantity)
    return found or None


def _without_zeros(counts: Mapping[str, object]) -> Mapping[str, Decimal] | None:
    found: dict[str, Decimal] = {}
    for unit, value in counts.items():
        quantity = ZERO if value is None else _count(value)
        if quantity is None:
            return None
        if quantity:
            found[unit] = quantity
    return found


def _count(value: object) -> Decimal | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | str):
        try:
            value = Decimal(str(value))
        except ArithmeticError:
            return None
    if isinstance(value, Decimal) and value.is_finite() and value >= 0:
        return value
    return None
