"""Price usage by the list of genai-prices, with some two thousand models.

Its reading of usage and its arithmetic take about 80 µs a call. Here it prices the
first call of a kind. Later calls go by a `LinearPrice`, which agreed with the first
result, and take a tenth of the time.
"""

from __future__ import annotations

import os
from datetime import UTC
from decimal import Context, localcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import genai_prices
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, StartDateConstraint, Usage

from outlay._capture.observation import UNKNOWN_PROVIDER
from outlay._capture.pricing import genai_usage
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
from outlay._model.bounded import BoundedDict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import date, datetime

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, Provider

    from outlay._capture.observation import Observation

LIST_NAME: Final = "genai-prices"

_TIER_FACTS: Final = ("service_tier", "processing", "speed")
"""The names that genai-prices has for the service tier, depending on the provider."""

_MAX_MODELS: Final = 4096  # a caller's free text may add models
_MAX_SHAPES: Final = 512  # of one model's usage, times days

# USD. It is a year's budget, and no single call's cost. Such counts are a mistake.
_MAX_PLAUSIBLE: Final = 1_000_000
_IMPLAUSIBLE: Final = PriceUnknown(
    "implausible_usage", f"the usage would come to more than {_MAX_PLAUSIBLE:,} USD"
)

# Python's default precision, whatever the application set. Prices of hours need it.
_CONTEXT: Final = Context(prec=28)


_UsageShape: TypeAlias = "tuple[date, tuple[str, ...], tuple[bool, ...]]"
"""The facts that select the price of a call, besides the counts: its day in UTC, the
units, and which of them have a count above zero."""


class _CachedRates(NamedTuple):
    """The price of calls of one shape. Without rates, genai-prices calculates each."""

    rates: LinearPrice | None
    data: dict[str, Any]


class GenaiPrices:
    """Prices usage by the list of the package genai-prices.

    Thread safety: any thread. Caches use single operations of a dict. A lost race costs
    a recomputation.
    """

    overrides = False

    def __init__(self, *, update: bool = False) -> None:
        """Use the list.

        Args:
            update: Whether a thread of genai-prices fetches a newer list every hour.
                Defaults to False.
        """
        self._update = update
        self._updated_by: int | None = None
        self._snapshot: DataSnapshot | None = None
        self._models: BoundedDict[
            tuple[str | None, ...], _PricedModel | PriceUnknown
        ] = BoundedDict(_MAX_MODELS)

    @property
    def units(self) -> Collection[str]:
        """The units that usage without a flavor may have."""
        return genai_usage.UNITS.units.keys() - {"requests"}  # each call is one

    def price(self, observation: Observation, at: datetime) -> Price | PriceUnknown:
        """Return the price of ``observation`` at that time, or why it is unknown."""
        if self._update and self._updated_by != os.getpid():
            self._updated_by = os.getpid()  # threads do not survive a fork
            genai_prices.UpdatePrices().start()
        snapshot = get_snapshot()
        if snapshot is not self._snapshot:
            self._snapshot, self._models = snapshot, BoundedDict(_MAX_MODELS)
        name = (
            observation.provider,
            observation.flavor,
            observation.model,
            observation.service_tier,
        )
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = _find(snapshot, observation)
        if isinstance(model, PriceUnknown):
            return model
        price = model.price(observation.usage, at)
        if isinstance(price, Price) and price.amount > _MAX_PLAUSIBLE:
            return _IMPLAUSIBLE
        return price


class _PricedModel:
    """A model in one service tier, with usage in the shape of one flavor of API."""

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
        extractor = genai_usage.extractor(provider, self._flavor)
        self._read = UsageReader(extractor).read if extractor else None
        self._shapes: BoundedDict[_UsageShape, _CachedRates | PriceUnknown] = (
            BoundedDict(_MAX_SHAPES)
        )

    def price(self, usage: Mapping[str, Any], at: datetime) -> Price | PriceUnknown:
        """Return the price of ``usage`` at that time, or why it is unknown."""
        at = at.astimezone(UTC)
        # None, if genai-prices itself must read them.
        counts = self._units(usage) if self._read is None else self._read(usage)
        if counts is None or not self._constant:
            return self._calculate(usage, at)[0]
        shape = (at.date(), tuple(counts), tuple(map(bool, counts.values())))
        entry = self._shapes.get(shape)
        if entry is None:
            price, entry = self._calculate(usage, at, counts)
            self._shapes[shape] = entry
            return price
        if isinstance(entry, PriceUnknown):
            return entry
        amount = entry.rates.amount(counts) if entry.rates else None
        if amount is None:
            return self._calculate(usage, at)[0]
        return Price(amount=strip_zeros(amount), data=entry.data)

    def _units(self, usage: Mapping[str, Any]) -> dict[str, int] | None:
        """Return usage that is in units already, if all counts are whole numbers."""
        if (
            self._flavor is not None
            or not usage.keys() <= genai_usage.UNITS.units.keys()
        ):
            return None
        return _whole_numbers(usage)

    def _calculate(
        self,
        usage: Mapping[str, Any],
        at: datetime,
        counts: Mapping[str, int] | None = None,
    ) -> tuple[Price | PriceUnknown, _CachedRates | PriceUnknown]:
        """Return the price by genai-prices, and the rates of later calls of the shape.

        genai-prices may refuse a call because of its counts, such as more cached tokens
        than tokens. It may accept the next call of the shape.
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
            rates = LinearPrice.from_price(
                found.model_price, genai_usage.UNITS, reported
            )
            if rates is not None and rates.amount(counts) != found.total_price:
                rates = None
        return price, _CachedRates(rates, data)

    def _price_context(self, at: datetime) -> dict[str, str] | PriceUnknown | None:
        """Return the service tier in the form that genai-prices needs.

        genai-prices uses the standard price for a tier that it does not know. That
        would be a guess, so such a tier is unpriced.
        """
        if self._tier is None:
            return None
        context = dict.fromkeys(_TIER_FACTS, self._tier)
        variants = self._model.price_variants or ()
        # Models of another provider that stand in are priced without a context.
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
            ValueError: genai-prices cannot read it.
        """
        if self._flavor is None:
            unknown = usage.keys() - genai_usage.UNITS.units.keys()
            if unknown or not usage:
                raise ValueError(_unknown_units(unknown))
            return Usage(**usage)
        return genai_usage.genai_usage(self._provider, self._flavor, usage)

    def _reported(self, usage: Usage) -> list[str]:
        units = genai_usage.UNITS.units
        return [
            unit
            for unit in units
            if unit in usage.__dict__ and usage.__dict__[unit] > 0
        ]

    def _missing_unit_price(
        self, price: ModelPrice, reported: list[str]
    ) -> PriceUnknown | None:
        """Return why the price does not cover the reported usage, or None if it does.

        genai-prices would leave the rest out of the amount, which would be too low.
        """
        units = genai_usage.UNITS.units
        priced = [
            name
            for name, unit in units.items()
            if getattr(price, unit.price_key) is not None
        ]
        for name in reported:
            if not any(genai_usage.is_part_of(name, unit) for unit in priced):
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
            # The package's own time is naive and local.
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
        text = f"{LIST_NAME} has no {observation.provider!r}"
        if observation.provider == UNKNOWN_PROVIDER:
            text = "the address is of no known provider"
        return PriceUnknown("unknown_provider", text)
    if observation.model is None:
        return PriceUnknown("unknown_model", "the response does not name its model")
    try:
        _, model = snapshot.find_provider_model(observation.model, provider, None, None)
    except LookupError:
        return PriceUnknown(
            "unknown_model",
            f"{LIST_NAME} has no {observation.model!r} of {provider.id}",
        )
    return _PricedModel(snapshot, provider, model, observation)


def _whole_numbers(usage: Mapping[str, Any]) -> dict[str, int] | None:
    """Return usage in units of genai-prices, if all counts are whole numbers."""
    if all(type(count) is int and count >= 0 for count in usage.values()):
        return dict(usage)
    return None


def _unknown_units(units: set[str]) -> str:
    if not units:
        return "the response reports no usage"
    return f"{LIST_NAME} has no unit {', '.join(sorted(map(repr, units)))}"


def _effective_since(model: ModelInfo, at: datetime) -> date | None:
    """Return the start of the price that holds at that time, if it is dated."""
    if isinstance(model.prices, ModelPrice):
        return None
    for each in reversed(model.prices):
        constraint = each.constraint
        if constraint is None or constraint.active(at):
            if isinstance(constraint, StartDateConstraint):
                return constraint.start_date
            return None
    return None


def _model_prices(name: str, at: datetime) -> Iterator[tuple[str, str, str]]:
    """Yield provider, model and price of the models that a name matches."""
    snapshot = get_snapshot()
    for provider in snapshot.providers:
        try:
            _, model = snapshot.find_provider_model(name, provider, None, None)
        except LookupError:
            continue
        price = model.get_prices(at)
        yield provider.id, model.id, str(price)


PACKAGE: Final = GenaiPackage(
    GenaiPrices, genai_usage.usage_by_unit, genai_usage.is_part_of, _model_prices
)
