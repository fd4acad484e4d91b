"""Entries of a price book: what a provider charges, for what, from when to when.

Everything is exact: numbers in a file are read as decimals, never as binary fractions,
and the caller sees to a decimal context with room for every digit. Only a division
without an end is rounded, to 28 digits.
"""

from __future__ import annotations

import decimal
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

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
    if isinstance(value, str):  # as JSON has it
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


class _FrozenModel(BaseModel):
    # Schemas are built when a book is loaded: programs without one do not pay for them.
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, defer_build=True
    )


class Tier(_FrozenModel):
    """A price that holds up to some quantity.

    Attributes:
        up_to: the last quantity it holds for; None: there is no end to it.
        price: in place of the unit's own.
    """

    up_to: Quantity | None = None
    price: Money


class Rounding(_FrozenModel):
    """How the provider rounds the amount of a call.

    Attributes:
        places: digits that are left after the point.
        mode: ``half_up``, ``half_even``, ``up`` or ``down``.
    """

    places: Annotated[int, Field(ge=0, le=12)]
    mode: Literal["half_up", "half_even", "up", "down"] = "half_up"


class UnitPrice(_FrozenModel):
    """What one kind of unit costs.

    Attributes:
        price: for every ``per`` units.
        per: how many; None: as the entry says.
        tiers: prices by quantity, the lowest first, in place of ``price``.
        mode: of tiers: ``volume``: the whole quantity at the price of the tier that it
            reaches. ``graduated``: each tier's part of it at that tier's price.
        by: the unit whose quantity decides about a volume tier; None: this one.
        step: quantities are rounded up to multiples of it, such as whole minutes.
        at_least: the least quantity that is charged, if there is any.
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
        """Return what ``quantity`` units cost.

        Args:
            quantity: of this unit, over 0.
            deciding: of the unit that decides about the tier.
            per: what the price is for, unless this says so itself.
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


class Entry(_FrozenModel):
    """One price, from one day on.

    Never change an entry whose day has come: what it priced would have cost something
    else afterwards. A new price is a new entry.

    Attributes:
        provider: whose; exact, or a beginning and ``*``. So are the next three.
        model: of which model, voice, processor or plan.
        event_type: of which kind of cost.
        region: where.
        service_tier: None: the standard one. ``*``: any.
        since: from when on (``from`` in the file); a date is its midnight in UTC.
        until: up to when, that instant excluded. None: until the next entry that is
            for the same.
        currency: ISO 4217; None: the book's.
        call: for each call, whatever it used.
        per: how many units the prices in ``units`` are for.
        units: prices by unit.
        free: units that cost nothing; of others without a price a call is unpriced.
        minimum: the least that a call costs.
        rounding: how the provider rounds the amount of a call.
        override_reported: whether it holds against what the provider reports.
        id: names the entry in events; None: its place in the book.
        source: where the price is from, such as an address or a contract; for people.
    """

    provider: Pattern
    model: Pattern = ANY
    event_type: Pattern = ANY
    region: Pattern = ANY
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
        """What it is for; of two entries with the same one only one can hold."""
        tier = self.service_tier or ""
        return (self.provider, self.model, tier, self.region, self.event_type)

    @property
    def specificity(self) -> tuple[tuple[bool, int], ...]:
        """How special it is: of several that match, the highest holds.

        The fields in the order of `subject`; in each an exact name before a beginning,
        and a long one before a short one.
        """
        return tuple((not p.endswith(ANY), len(p)) for p in self.matched_fields)

    def matches(self, observation: Observation) -> bool:
        """Return whether it is for such an operation, at whatever time."""
        return (
            _fits(self.provider, observation.provider)
            and _fits(self.model, observation.model)
            and _fits(self.region, observation.region)
            and _fits(self.event_type, observation.event_type)
            and self._fits_tier(observation.service_tier)
        )

    def _fits_tier(self, tier: str | None) -> bool:
        if self.service_tier is None:
            return tier in STANDARD_TIERS
        return _fits(self.service_tier, tier)

    def cost(
        self, billed: Mapping[str, Decimal], usage: Mapping[str, Decimal]
    ) -> Decimal:
        """Return what a call costs.

        Args:
            billed: quantities by unit, each thing in one of them only.
            usage: quantities by unit, for tiers to go by.
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
        """Return what an event says of it."""
        return {"entry": self.id, "since": self.since.isoformat()}


def _fits(pattern: str, value: str | None) -> bool:
    if pattern.endswith(ANY):
        return (value or "").startswith(pattern[:-1])
    return pattern == value
