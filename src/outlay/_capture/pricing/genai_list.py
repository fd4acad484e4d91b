"""The price list of genai-prices: what some thousand models of AI providers cost.

Its reading of a report and its arithmetic take some 80 µs a call. Here the first call
of a kind is priced by it; those that follow go by `Rates`, which the first one has
shown to agree, and cost a tenth.
"""

from __future__ import annotations

import os
from datetime import UTC
from decimal import Context, localcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import genai_prices
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, StartDateConstraint, Usage

from outlay._capture.pricing import genai_usage as reports
from outlay._capture.pricing.genai_package import GenaiPackage
from outlay._capture.pricing.linear_rates import (
    LinearPrice,
    UsageReader,
    changes_within_a_day,
)
from outlay._capture.pricing.price_lists import (
    STANDARD_TIERS,
    Price,
    PriceUnknown,
    strip_zeros,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date, datetime

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, Provider

    from outlay._capture.observation import Observation

LIST_NAME: Final = "genai-prices"

_TIER_FACTS: Final = ("service_tier", "processing", "speed")
"""What genai-prices calls, by provider, the fact that we call the service tier."""

_MAX_SUBJECTS: Final = 2048  # models seen; more come from a caller's free text
_MAX_SHAPES: Final = 256  # of one model's reports, times days

# USD. A year's budget, but no single call's cost: such counts are somebody's mistake.
_DEAREST: Final = 1_000_000
_IMPLAUSIBLE: Final = PriceUnknown(
    "implausible_usage", f"the usage would come to more than {_DEAREST:,} USD"
)

# Python's default precision, whatever the application has set: prices of hours need it.
_CONTEXT: Final = Context(prec=28)


class _UsageShape(NamedTuple):
    """What decides, besides the counts, how a call is priced."""

    day: date
    units: tuple[str, ...]
    above_zero: tuple[bool, ...]


class _CachedRates(NamedTuple):
    """How calls of one shape are priced. Without rates: by genai-prices, each time."""

    rates: LinearPrice | None
    data: dict[str, Any]


class GenaiPrices:
    """Prices usage by the list that the package genai-prices brings.

    Thread safety: any thread. The caches are single operations of a dict; losing a
    race costs a recomputation.
    """

    overrides = False

    def __init__(self, *, update: bool = False) -> None:
        """Use the list.

        Args:
            update: fetch newer lists, every hour, on a thread of genai-prices.
        """
        self._update = update
        self._updated_by: int | None = None
        self._snapshot: DataSnapshot | None = None
        self._subjects: dict[tuple[str | None, ...], _PricedModel | PriceUnknown] = {}

    @property
    def units(self) -> Collection[str]:
        """The units that usage without a flavor may be in."""
        return reports.UNITS.units.keys() - {"requests"}  # which each call is one of

    def price(self, observation: Observation, at: datetime) -> Price | PriceUnknown:
        """Return what ``observation`` costs at that time, or why that is not known."""
        if self._update and self._updated_by != os.getpid():
            self._updated_by = os.getpid()  # threads do not survive a fork
            genai_prices.UpdatePrices().start()
        snapshot = get_snapshot()
        if snapshot is not self._snapshot or len(self._subjects) > _MAX_SUBJECTS:
            self._snapshot, self._subjects = snapshot, {}
        name = (
            observation.provider,
            observation.flavor,
            observation.model,
            observation.service_tier,
        )
        subject = self._subjects.get(name)
        if subject is None:
            subject = _find(snapshot, observation)
            self._subjects[name] = subject
        if isinstance(subject, PriceUnknown):
            return subject
        price = subject.price(observation.usage, at)
        if isinstance(price, Price) and price.amount > _DEAREST:
            return _IMPLAUSIBLE
        return price


class _PricedModel:
    """One model, in one service tier, as one flavor of API reports its usage."""

    def __init__(
        self,
        snapshot: DataSnapshot,
        provider: Provider,
        model: ModelInfo,
        observation: Observation,
    ) -> None:
        self._snapshot = snapshot
        self._provider = provider
        self._model = model
        self._tier = observation.service_tier
        self._flavor = observation.flavor
        self._constant = not changes_within_a_day(model)
        extractor = reports.extractor(provider, self._flavor)
        self._read = UsageReader(extractor).read if extractor else None
        self._shapes: dict[_UsageShape, _CachedRates | PriceUnknown] = {}

    def price(self, usage: Mapping[str, Any], at: datetime) -> Price | PriceUnknown:
        """Return what ``usage`` costs at that time, or why that is not known."""
        at = at.astimezone(UTC)
        counts = self._counts(usage)
        if counts is None or not self._constant:
            return self._calculate(usage, at)[0]
        shape = _UsageShape(at.date(), tuple(counts), tuple(map(bool, counts.values())))
        entry = self._shapes.get(shape)
        if entry is None:
            price, entry = self._calculate(usage, at, counts)
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            self._shapes[shape] = entry
            return price
        if isinstance(entry, PriceUnknown):
            return entry
        amount = entry.rates.amount(counts) if entry.rates else None
        if amount is None:
            return self._calculate(usage, at)[0]
        return Price(amount=strip_zeros(amount), data=entry.data)

    def _counts(self, usage: Mapping[str, Any]) -> dict[str, int] | None:
        """Return the counts by unit; None: only genai-prices can tell, or complain."""
        if self._read is not None:
            return self._read(usage)
        if self._flavor is not None or not usage.keys() <= reports.UNITS.units.keys():
            return None
        return _whole_numbers(usage)

    def _calculate(
        self,
        usage: Mapping[str, Any],
        at: datetime,
        counts: Mapping[str, int] | None = None,
    ) -> tuple[Price | PriceUnknown, _CachedRates | PriceUnknown]:
        """Return what genai-prices says, and how to price further calls of the shape.

        What it refuses for the counts' sake, such as more cached tokens than tokens, it
        may accept of the next call.
        """
        context = self._price_context(at)
        if isinstance(context, PriceUnknown):
            return context, context
        try:
            measured = Usage(**counts) if counts else self._extract(usage)
            with localcontext(_CONTEXT):
                found = self._model.calc_price(
                    measured,
                    self._provider,
                    genai_request_timestamp=at,
                    price_context=context,
                )
        except ValueError as error:
            return PriceUnknown("unreadable_usage", str(error)), _CachedRates(None, {})
        reported = self._reported(measured)
        if (
            missing := self._missing_unit_price(found.model_price, reported)
        ) is not None:
            return missing, missing
        data = self._data(at)
        price = Price(amount=strip_zeros(found.total_price), data=data)
        rates = None
        if counts is not None:
            rates = LinearPrice.of(found.model_price, reports.UNITS, reported)
            if rates is not None and rates.amount(counts) != found.total_price:
                rates = None
        return price, _CachedRates(rates, data)

    def _price_context(self, at: datetime) -> dict[str, str] | PriceUnknown | None:
        """Return what genai-prices is told of the service tier.

        It prices a tier that it does not know like the standard one. That would be a
        guess: only tiers that it has a price for are priced.
        """
        if self._tier is None:
            return None
        context = dict.fromkeys(_TIER_FACTS, self._tier)
        variants = self._model.price_variants or ()
        # Models of another provider, which stand in, are priced without a context.
        own = any(self._model is model for model in self._provider.models)
        known = own and any(
            all(context.get(name) == value for name, value in variant.when.items())
            and (variant.constraint is None or variant.constraint.active(at))
            for variant in variants
        )
        if known or self._tier in STANDARD_TIERS:
            return context
        return PriceUnknown(
            "unknown_tier",
            f"{LIST_NAME} has no price of {self._model.id!r} in the service tier "
            f"{self._tier!r}",
        )

    def _extract(self, usage: Mapping[str, Any]) -> Usage:
        """Return usage as genai-prices reads it.

        Raises:
            ValueError: it cannot.
        """
        if self._flavor is None:
            unknown = usage.keys() - reports.UNITS.units.keys()
            if unknown or not usage:
                raise ValueError(_unknown_units(unknown))
            return Usage(**usage)
        return reports.genai_usage(self._provider, self._flavor, usage)

    def _reported(self, usage: Usage) -> list[str]:
        units = reports.UNITS.units
        return [
            unit
            for unit in units
            if unit in usage.__dict__ and usage.__dict__[unit] > 0
        ]

    def _missing_unit_price(
        self, price: ModelPrice, reported: list[str]
    ) -> PriceUnknown | None:
        """Return a complaint, if the price does not cover all that was reported.

        Genai-prices would leave it out of the amount, which would be too low then.
        """
        units = reports.UNITS.units
        priced = [
            name
            for name, unit in units.items()
            if getattr(price, unit.price_key) is not None
        ]
        for name in reported:
            if not any(reports.is_part_of(name, unit) for unit in priced):
                return PriceUnknown(
                    "no_unit_price",
                    f"{LIST_NAME} has no price of {self._model.id!r} for {name}",
                )
        return None

    def _data(self, at: datetime) -> dict[str, Any]:
        data = {
            "list": LIST_NAME,
            "version": genai_prices.__version__,
            "model": f"{self._provider.id}/{self._model.id}",
        }
        if self._snapshot.from_auto_update:
            # The package's own clock is a naive local one.
            fetched = self._snapshot.timestamp.astimezone(UTC)
            data["updated"] = fetched.isoformat(timespec="seconds")
        since = _effective_since(self._model, at)
        if since is not None:
            data["since"] = since.isoformat()
        return data


def _find(
    snapshot: DataSnapshot, observation: Observation
) -> _PricedModel | PriceUnknown:
    try:
        provider = snapshot.find_provider(None, observation.provider, None)
    except LookupError:
        return PriceUnknown(
            "unknown_provider", f"{LIST_NAME} has no {observation.provider!r}"
        )
    if observation.model is None:
        return PriceUnknown("unknown_model", "the answer does not name its model")
    try:
        _, model = snapshot.find_provider_model(observation.model, provider, None, None)
    except LookupError:
        return PriceUnknown(
            "unknown_model",
            f"{LIST_NAME} has no {observation.model!r} of {provider.id}",
        )
    return _PricedModel(snapshot, provider, model, observation)


def _whole_numbers(usage: Mapping[str, Any]) -> dict[str, int] | None:
    """Return usage in units of genai-prices' own, if it is in whole numbers."""
    if all(type(count) is int and count >= 0 for count in usage.values()):
        return dict(usage)
    return None


def _unknown_units(units: set[str]) -> str:
    if not units:
        return "the answer reports no usage"
    return f"{LIST_NAME} has no unit {', '.join(sorted(map(repr, units)))}"


def _effective_since(model: ModelInfo, at: datetime) -> date | None:
    """Return from when on the price at that time is in force, if it is dated."""
    if isinstance(model.prices, ModelPrice):
        return None
    for each in reversed(model.prices):
        constraint = each.constraint
        if constraint is None or constraint.active(at):
            if isinstance(constraint, StartDateConstraint):
                return constraint.start_date
            return None
    return None


PACKAGE: Final = GenaiPackage(GenaiPrices, reports.usage_by_unit, reports.is_part_of)
