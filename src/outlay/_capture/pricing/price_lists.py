"""Decide the amount of an observed operation.

The price lists are asked one after the other. If none knows the price, the cost is
unpriced. That is neither zero nor a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from outlay._capture.guard import guarded
from outlay._model.events import Provenance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from outlay._capture.observation import Observation


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """The price of an observed operation in a price list.

    Attributes:
        amount: The exact amount.
        currency: The currency, ISO 4217.
        data: The list, its version and date, and the matched entry. The event contains
            it as ``price``.
        overrides_reported: Whether the price replaces an amount that the provider
            reports.
    """

    amount: Decimal
    currency: str = "USD"
    data: dict[str, Any] = {}
    overrides_reported: bool = False


class PriceUnknown(NamedTuple):
    """The reason why a price list has no price.

    Attributes:
        reason: One word for programs, such as ``unknown_model``.
        message: One sentence for people.
        overrides_reported: Whether no later list is asked, because its price might be
            wrong.
    """

    reason: str
    message: str
    overrides_reported: bool = False


INCOMPLETE_RESPONSE: Final = PriceUnknown(
    "incomplete", "the response was not read to its end, so its usage is not known"
)
PENDING: Final = PriceUnknown(
    "pending",
    "the provider has not reported the charge yet; look the operation up later",
)
STANDARD_TIERS: Final = frozenset({None, "auto", "default", "on_demand", "standard"})
"""Service tiers at the list price, by the names that providers have for them."""

_EXACT: Final = Context(prec=1000)  # amounts have 66 characters at most

_FAILED: Final = PriceUnknown(
    "unreadable_usage",
    "the price list failed to read it; see the log",
    overrides_reported=True,
)

NO_LIST: Final = PriceUnknown("no_price_list", "there is no price list to ask")


class PricedAmount(msgspec.Struct, frozen=True):
    """The amount of an operation, and its source.

    Attributes:
        amount: The exact amount.
        currency: The currency, ISO 4217.
        provenance: The kind of source.
        price: The data of the `Price`, if a price list is the source.
    """

    amount: Decimal
    currency: str
    provenance: Provenance
    price: Mapping[str, Any] | None


class PriceList(Protocol):
    """Knows prices of usage.

    Thread safety: any thread.

    Attributes:
        overrides: Whether some of its prices replace reported amounts.
    """

    overrides: bool

    def price(self, observation: Observation, at: datetime) -> Price | PriceUnknown:
        """Return the price of ``observation`` at that time, or why it is unknown.

        Args:
            observation: An observation of a complete response.
            at: The time at which the cost arose, aware.
        """
        ...


class PriceLists:
    """Decides the amount of an operation.

    The sources of amounts, in order:

    1. a price that replaces reported amounts, in the user's own price book;
    2. the amount that the provider reports;
    3. the price lists, one after the other;
    4. the amount of a tool between, such as LiteLLM, which has a list of its own.

    Amounts given by hand are not observed, so this class does not see them.

    Thread safety: any thread.
    """

    def __init__(self, lists: Sequence[PriceList]) -> None:
        self._lists = tuple(lists)
        self._overriding = tuple(each for each in lists if each.overrides)

    def price(
        self, observation: Observation, at: datetime
    ) -> PricedAmount | PriceUnknown:
        """Return the amount of ``observation``, or why it is unknown.

        Args:
            observation: The observation.
            at: The time at which the cost arose, aware.
        """
        amount = observation.amount
        if amount is not None and observation.provenance == "reported":
            return self._override(observation, at) or _given(amount, observation)
        unknown = _unpriceable(observation)
        if unknown is not None:
            pending = unknown is PENDING
            return (pending and self._override(observation, at)) or unknown
        price = _ask(self._lists, observation, at)
        if isinstance(price, Price):
            return _priced(price)
        return price if amount is None else _given(amount, observation)

    def _override(self, observation: Observation, at: datetime) -> PricedAmount | None:
        price = _ask(self._overriding, observation, at)
        if isinstance(price, Price) and price.overrides_reported:
            return _priced(price)
        return None


def _given(amount: Decimal, observation: Observation) -> PricedAmount:
    """Return the amount that the provider or a tool gave."""
    return PricedAmount(amount, observation.currency, observation.provenance, None)


def _unpriceable(observation: Observation) -> PriceUnknown | None:
    """Return the reason why no list may price ``observation``, or None."""
    if not observation.is_complete:
        return INCOMPLETE_RESPONSE
    if observation.price_pending:
        return PENDING
    if observation.contradiction is not None:
        # A list would price one of two contradictory counts: a guess.
        return PriceUnknown("contradictory_usage", observation.contradiction)
    return None


def _priced(price: Price) -> PricedAmount:
    return PricedAmount(price.amount, price.currency, "priced", price.data)


def _ask(
    lists: Sequence[PriceList], observation: Observation, at: datetime
) -> Price | PriceUnknown:
    """Return the first price. A list that fails on strange usage ends the search.

    Its price may be the agreed one, so no later list may take its place.
    """
    return guarded("prices", _first_price, lists, observation, at) or _FAILED


def _first_price(
    lists: Sequence[PriceList], observation: Observation, at: datetime
) -> Price | PriceUnknown:
    """Return the first price, or the last list's reason for having none.

    The user's own list comes first and knows little. The last list knows most, so its
    reason is the most helpful one.
    """
    price: Price | PriceUnknown = NO_LIST
    for each in lists:
        price = each.price(observation, at)
        if isinstance(price, Price) or price.overrides_reported:
            break
    return price


def strip_zeros(amount: Decimal) -> Decimal:
    """Return the same amount without trailing zeros and without an exponent."""
    short = amount.normalize(_EXACT)
    is_whole = short == short.to_integral_value()
    return short.quantize(1, context=_EXACT) if is_whole else short
