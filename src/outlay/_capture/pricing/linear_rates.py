"""Work out a price of genai-prices once, for many calls.

Most prices are linear: an amount for each token of a kind. Two calls that report the
same kinds of usage have the same arithmetic. Here it uses whole numbers, so the amount
is exact in every decimal context of the application.

Other prices are left to genai-prices: prices for hours and minutes, fractions of a
unit, and prices that change within a day.
"""

from __future__ import annotations

import functools
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias

from genai_prices.decompose import is_descendant_or_self
from genai_prices.types import ArrayMatch, ModelInfo, ModelPrice, TieredPrices
from genai_prices.types import TimeOfDateConstraint as DailyConstraint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from genai_prices.types import Tier, UsageExtractor
    from genai_prices.units import UnitDef, UnitRegistry

_ALWAYS: Final = frozenset({"requests"})  # units of which every call has one
_THRESHOLD: Final = "input_tokens"  # the unit that selects the tier of a price
_EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


class UsageReader:
    """Reads usage like `UsageExtractor`, if the usage is well-formed.

    Thread safety: any thread.
    """

    def __init__(self, extractor: UsageExtractor) -> None:
        root = [extractor.root] if isinstance(extractor.root, str) else extractor.root
        self._root = tuple(root[1:])  # an observation begins below the first name
        # By the first name, which many fields share.
        groups: dict[Any, list[_UsageField]] = {}
        for mapping in extractor.mappings:
            path = [mapping.path] if isinstance(mapping.path, str) else mapping.path
            field = (tuple(path[1:]), mapping.dest, mapping.required)
            groups.setdefault(path[0], []).append(field)
        self._groups = tuple(
            (name, tuple(fields), any(required for _, _, required in fields))
            for name, fields in groups.items()
        )

    def read(self, usage: Mapping[str, object]) -> dict[str, int] | None:
        """Return the counts in ``usage`` by unit, or None if genai-prices must read it.

        That is so if a count is missing, negative, a fraction or no number. Then
        genai-prices raises its own errors.
        """
        found = functools.reduce(_step, self._root, usage) if self._root else usage
        if type(found) is not dict:
            return None
        counts: dict[str, int] = {}
        for first, fields, is_required in self._groups:
            group = found.get(first)
            if group is None and not is_required:
                continue
            for rest, unit, required in fields:
                count: Any = group
                for name in rest:
                    is_dict = type(count) is dict
                    count = count.get(name) if is_dict else _step(count, name)
                if type(count) is int and count >= 0:
                    counts[unit] = counts.get(unit, 0) + count
                elif required or count is not None:
                    return None
        return counts or None


_UsageField: TypeAlias = tuple[tuple[Any, ...], str, bool]
"""The path below the first name, the unit, and whether it must be there."""


def _step(value: Any, name: Any) -> Any:
    if type(value) is dict:
        return value.get(name)
    if type(value) is list and isinstance(name, ArrayMatch):
        return name.extract(value)
    return None


class UnitRate(NamedTuple):
    """The amount that a unit adds.

    Attributes:
        unit: The name of the unit.
        rate: The amount of one, in the price's fraction of a currency unit.
        tiers: Numbers of input tokens from which another rate holds, and that rate, the
            highest first.
        included_terms: The indexes of earlier terms that price a part of these units.
    """

    unit: str
    rate: int
    tiers: tuple[tuple[int, int], ...]
    included_terms: tuple[int, ...]


class LinearPrice(NamedTuple):
    """A linear price, for usage that reports certain units.

    Attributes:
        terms: The rates of the units, parts before their wholes.
        fixed: The amount of each call.
        decimal_places: The digits after the point in the whole numbers.
    """

    terms: tuple[UnitRate, ...]
    fixed: int
    decimal_places: int

    @classmethod
    def from_price(
        cls, price: ModelPrice, registry: UnitRegistry, reported: Sequence[str]
    ) -> Self | None:
        """Return the rates of ``price``, or None if it is not linear.

        Args:
            price: The price of one model, at one time, in one tier.
            registry: The units.
            reported: The units with a count above zero.
        """
        priced = _priced_units(price, registry)
        if priced is None:
            return None
        used = [
            each
            for each in priced
            if each.name in _ALWAYS
            or any(
                is_descendant_or_self(each.unit, registry.units[u]) for u in reported
            )
        ]
        if not {each.name for each in used} <= {*_ALWAYS, *reported}:
            return None  # a part was counted, and not the whole
        if any(each.tiers for each in used) and _THRESHOLD not in reported:
            return None
        if not all(each.power_of_ten is not None for each in used):
            return None
        used.sort(key=lambda each: (-len(each.unit.dimensions), each.name))
        places = max((each.decimal_places for each in used), default=0)
        fixed = sum(each.rate(places) for each in used if each.name in _ALWAYS)
        counted = [each for each in used if each.name not in _ALWAYS]
        return cls(tuple(_terms(counted, places)), fixed, places)

    def amount(self, counts: Mapping[str, int]) -> Decimal | None:
        """Return the exact price of ``counts``, or None if they are contradictory."""
        total = self.fixed
        left: list[int] = []  # the units of each term that no earlier term prices
        for unit, rate, tiers, inner in self.terms:
            count = counts[unit]
            for index in inner:
                count -= left[index]
            if count < 0:
                return None
            left.append(count)
            for start, tier_rate in tiers:
                if counts[_THRESHOLD] > start:
                    rate = tier_rate  # noqa: PLW2901 - the term's rate in this tier
                    break
            total += count * rate
        return _EXACT.scaleb(Decimal(total), -self.decimal_places)


def changes_within_a_day(model: ModelInfo) -> bool:
    """Return whether a model's price depends on the hour of the day."""
    dated = [] if isinstance(model.prices, ModelPrice) else model.prices
    return any(
        isinstance(each.constraint, DailyConstraint)
        for each in [*dated, *(model.price_variants or ())]
    )


class _PricedUnit(NamedTuple):
    """A unit that a model has a price for."""

    unit: UnitDef
    price: Decimal
    tiers: Sequence[Tier]  # the lowest first

    @property
    def name(self) -> str:
        return self.unit.usage_key

    @property
    def power_of_ten(self) -> int | None:
        """The power of ten that the price is for, or None for other numbers."""
        digits = str(self.unit.per)
        return len(digits) - 1 if digits.rstrip("0") == "1" else None

    @property
    def decimal_places(self) -> int:
        """The digits after the point in the price of one."""
        exponents = [_exponent(self.price), *(_exponent(t.price) for t in self.tiers)]
        return max(0, *(-exponent for exponent in exponents)) + (self.power_of_ten or 0)

    def rate(self, places: int, price: Decimal | None = None) -> int:
        """Return the price of one as a whole number with ``places`` places."""
        shift = places - (self.power_of_ten or 0)
        return int(_EXACT.scaleb(self.price if price is None else price, shift))


def _priced_units(
    price: ModelPrice, registry: UnitRegistry
) -> list[_PricedUnit] | None:
    """Return the priced units, or None if one of them is unknown."""
    found = []
    for name, value in price.__dict__.items():
        if value is None:
            continue
        try:
            unit = registry.unit_for_price_key(name)
        except KeyError:
            return None
        if isinstance(value, TieredPrices):
            found.append(_PricedUnit(unit, value.base, value.tiers))
        else:
            found.append(_PricedUnit(unit, value, ()))
    return found


def _terms(counted: Sequence[_PricedUnit], places: int) -> Iterator[UnitRate]:
    for position, each in enumerate(counted):
        yield UnitRate(
            each.name,
            each.rate(places),
            tuple((t.start, each.rate(places, t.price)) for t in reversed(each.tiers)),
            tuple(
                index
                for index, inner in enumerate(counted[:position])
                if is_descendant_or_self(each.unit, inner.unit)
            ),
        )


def _exponent(price: Decimal) -> int:
    exponent = price.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0  # text for infinite numbers
