"""Entries of a price book: prices, with what they are for and when they hold.

Everything is exact. Numbers in a file are read as decimals, and the caller sets a
decimal context with room for every digit. Only a division without an end is rounded,
to 28 digits.
"""

from __future__ import annotations

import decimal
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from outlay._capture.pricing.price_lists import STANDARD_TIERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outlay._capture.observation import Observation

ANY: Final = "*"
_DIVIDING: Final = Context(prec=28)

_ROUNDINGS: Final = {
    "half_up": decimal.ROUND_HALF_UP,
    "half_even": decimal.ROUND_HALF_EVEN,
    "up": decimal.ROUND_UP,
    "down": decimal.ROUND_DOWN,
}


def _pattern(value: str) -> str:
    if not value or ANY in value[:-1]:
        message = "pass a name, or the beginning of one and then '*', such as 'gpt-4o*'"
        raise ValueError(message)
    return value


def _instant(value: object) -> object:
    if isinstance(value, str):  # JSON has no dates
        is_date = len(value) == len("2026-01-01")
        value = (date if is_date else datetime).fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, datetime) and value.tzinfo is None:
        message = "has a time without an offset; pass a date, or a time such as 08:00Z"
        raise ValueError(message)
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]
Instant = Annotated[datetime, BeforeValidator(_instant)]
Money = Annotated[
    Decimal, Field(ge=0, allow_inf_nan=False, max_digits=40, decimal_places=30)
]
Quantity = Annotated[
    Decimal, Field(gt=0, allow_inf_nan=False, max_digits=40, decimal_places=15)
]


class FrozenModel(BaseModel):
    """A model that never changes, and that refuses unknown fields."""

    # Schemas are built when a list is loaded (`load_price_lists`): a program that only
    # calls `track_cost` does not pay for them.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, defer_build=True
    )


class Tier(FrozenModel):
    """A price that holds up to some quantity.

    Attributes:
        up_to: The last quantity that it holds for. If None, it has no end.
        price: The price, which replaces the unit's own.
    """

    up_to: Quantity | None = None
    price: Money


class Rounding(FrozenModel):
    """The rounding by which the provider rounds the amount of a call.

    Attributes:
        places: The number of digits after the point.
        mode: The rounding: ``half_up``, ``half_even``, ``up`` or ``down``. Defaults to
            ``half_up``.
    """

    places: Annotated[int, Field(ge=0, le=12)]
    mode: Literal["half_up", "half_even", "up", "down"] = "half_up"


class UnitPrice(FrozenModel):
    """The price of one kind of unit.

    Attributes:
        price: The price of ``per`` units.
        per: The number of units that the price is for. If None, the entry's ``per``.
        tiers: Prices by quantity, the lowest tier first, which replace ``price``.
        mode: The way in which tiers apply. ``volume``: the whole quantity at the price
            of the tier that it reaches. ``graduated``: each tier's part at that tier's
            price. Defaults to ``volume``.
        by: The unit whose quantity selects a volume tier. If None, this unit.
        step: Quantities are rounded up to multiples of it, such as whole minutes.
        at_least: The smallest quantity that is charged, if any quantity was used.
    """

    price: Money | None = None
    per: Quantity | None = None
    tiers: tuple[Tier, ...] = ()
    mode: Literal["volume", "graduated"] = "volume"
    by: str | None = None
    step: Quantity | None = None
    at_least: Quantity | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return value if isinstance(value, dict | UnitPrice) else {"price": value}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.price is None) == (not self.tiers):
            message = "pass either a price or tiers"
            raise ValueError(message)
        ends = [tier.up_to for tier in self.tiers]
        if self.tiers and (ends[-1] is not None or None in ends[:-1]):
            message = "tiers: all but the last have 'up_to', the last has none"
            raise ValueError(message)
        known = [end for end in ends if end is not None]
        if known != sorted(set(known)):
            message = "tiers: 'up_to' must grow from tier to tier"
            raise ValueError(message)
        if self.by is not None and self.mode == "graduated":
            message = "by: only volume tiers can go by another unit"
            raise ValueError(message)
        return self

    def cost(
        self, quantity: Decimal, deciding: Decimal, per: Decimal | None = None
    ) -> Decimal:
        """Return the price of ``quantity`` units.

        Args:
            quantity: The quantity of this unit, above 0.
            deciding: The quantity of the unit that selects the tier.
            per: The number of units that the price is for, unless ``self.per`` is set.
        """
        billed = self._billed(quantity)
        if not self.tiers:
            total = billed * (self.price or Decimal())
        elif self.mode == "volume":
            reached = billed if self.by is None else deciding
            total = billed * self._tier(reached).price
        else:
            total = self._graduated(billed)
        return _DIVIDING.divide(total, self.per or per or Decimal(1))

    def _billed(self, quantity: Decimal) -> Decimal:
        if self.at_least is not None:
            quantity = max(quantity, self.at_least)
        if self.step is not None:
            steps = (quantity / self.step).to_integral_value(decimal.ROUND_CEILING)
            quantity = steps * self.step
        return quantity

    def _tier(self, quantity: Decimal) -> Tier:
        return next(t for t in self.tiers if t.up_to is None or quantity <= t.up_to)

    def _graduated(self, quantity: Decimal) -> Decimal:
        total = start = Decimal()
        for tier in self.tiers:
            end = quantity if tier.up_to is None else min(quantity, tier.up_to)
            if end > start:
                total += (end - start) * tier.price
                start = end
        return total


class Entry(FrozenModel):
    """One price, from one day on.

    Never change an entry whose day has come: costs that it priced would get another
    amount afterwards. Add a new entry for a new price.

    Attributes:
        provider: The provider: an exact name, or a beginning and ``*``. The next five
            fields accept the same patterns.
        model: The model, voice, processor or plan.
        event_type: The kind of cost.
        region: The region.
        line: The cost line, such as ``web_search``.
        endpoint: The kind of endpoint, such as ``regional``.
        service_tier: The service tier. If None, the standard tier. ``*`` is any tier.
        since: The start (``from`` in the file). A date means its midnight in UTC.
        until: The end, that instant excluded. If None, the entry holds until the next
            entry for the same begins.
        currency: The currency, ISO 4217. If None, the book's currency.
        call: The price of each call, in addition to its units.
        per: The number of units that the prices in ``units`` are for. Defaults to 1.
        units: Prices by unit.
        free: Units that cost nothing. A call with any other unit that has no price is
            unpriced.
        minimum: The smallest amount of a call.
        rounding: The provider's rounding of the amount of a call.
        override_reported: Whether the price replaces the amount that the provider
            reports.
        id: The entry's name in events. If None, its position in the book.
        source: The origin of the price, such as an address or a contract, for people.
    """

    provider: Pattern
    model: Pattern = ANY
    event_type: Pattern = ANY
    region: Pattern = ANY
    line: Pattern = ANY
    endpoint: Pattern = ANY
    service_tier: Pattern | None = None
    since: Annotated[Instant, Field(alias="from")]
    until: Instant | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    call: Money | None = None
    per: Quantity = Decimal(1)
    units: dict[str, UnitPrice] = {}
    free: frozenset[str] = frozenset()
    minimum: Money | None = None
    rounding: Rounding | None = None
    override_reported: bool = False
    id: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    source: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.call is None and not self.units:
            message = "has no price: pass 'call', 'units' or both"
            raise ValueError(message)
        if self.until is not None and self.until <= self.since:
            message = "until: must be later than 'from'"
            raise ValueError(message)
        return self

    @property
    def matched_fields(self) -> tuple[str, ...]:
        """The patterns. Of entries with equal patterns, only one holds at a time."""
        tier = self.service_tier or ""
        return (
            self.provider,
            self.model,
            tier,
            self.region,
            self.event_type,
            self.line,
            self.endpoint,
        )

    @property
    def specificity(self) -> tuple[tuple[bool, int], ...]:
        """The rank of the entry. Of several that match, the highest rank holds.

        Fields are compared in the order of `matched_fields`. An exact name ranks above
        a beginning, and a long beginning above a short one.
        """
        return tuple((not p.endswith(ANY), len(p)) for p in self.matched_fields)

    def matches(self, observation: Observation) -> bool:
        """Return whether the entry is for such an operation, at any time."""
        return (
            fits_pattern(self.provider, observation.provider)
            and fits_pattern(self.model, observation.model)
            and fits_pattern(self.region, observation.region)
            and fits_pattern(self.event_type, observation.event_type)
            and fits_pattern(self.line, observation.line)
            and fits_pattern(self.endpoint, observation.endpoint)
            and self._fits_tier(observation.service_tier)
        )

    def _fits_tier(self, tier: str | None) -> bool:
        if self.service_tier is None:
            return tier in STANDARD_TIERS
        return fits_pattern(self.service_tier, tier)

    def cost(
        self, billed: Mapping[str, Decimal], usage: Mapping[str, Decimal]
    ) -> Decimal:
        """Return the amount of a call.

        Args:
            billed: The quantities by unit, each thing in one unit only.
            usage: The reported quantities by unit, which select tiers.
        """
        total = self.call or Decimal()
        for unit, quantity in billed.items():
            if quantity and unit in self.units:
                price = self.units[unit]
                deciding = usage.get(price.by or unit, Decimal())
                total += price.cost(quantity, deciding, self.per)
        if self.minimum is not None:
            total = max(total, self.minimum)
        if self.rounding is not None:
            places = Decimal(1).scaleb(-self.rounding.places)
            mode = _ROUNDINGS[self.rounding.mode]
            total = total.quantize(places, rounding=mode)
        return total

    def metadata(self) -> dict[str, Any]:
        """Return the entry's part of an event."""
        return {"entry": self.id, "since": self.since.isoformat()}


def fits_pattern(pattern: str, value: str | None) -> bool:
    """Return whether a name fits a pattern: an exact name, or a beginning and ``*``."""
    if pattern.endswith(ANY):
        return (value or "").startswith(pattern[:-1])
    return pattern == value
