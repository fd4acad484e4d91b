"""Prices, and whom to ask for them.

A price list is asked, then the next. None knows the price: the cost is unpriced, which
is neither zero nor a guess.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from outlay._capture.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from outlay._capture.observation import Observation
    from outlay._model.events import Provenance


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What an observed operation costs by a price list.

    Attributes:
        amount: exact.
        currency: ISO 4217.
        data: which list, of what version and date, matched what; goes into the event
            as ``price``.
        final: whether it holds even against an amount that the provider reports.
    """

    amount: Decimal
    currency: str = "USD"
    data: dict[str, Any] = {}
    overrides_reported: bool = False


class PriceUnknown(NamedTuple):
    """Why a price list cannot tell.

    Attributes:
        reason: one word for machines, such as ``unknown_model``.
        message: one sentence for people.
        final: whether no other list is to be asked, for it might know worse.
    """

    reason: str
    message: str
    overrides_reported: bool = False


INCOMPLETE_RESPONSE: Final = PriceUnknown(
    "incomplete", "the answer was not read to its end, so its usage is not known"
)
PENDING: Final = PriceUnknown(
    "pending", "the provider has yet to say what it charges; look at the operation then"
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


class PricedAmount(NamedTuple):
    """The amount that an operation is tracked with, and who says so.

    Attributes:
        amount: exact.
        currency: ISO 4217.
        provenance: who says it.
        price: of a priced one, which price of which list; see `Price`.
    """

    amount: Decimal
    currency: str
    provenance: Provenance
    price: Mapping[str, Any] | None


class PriceList(Protocol):
    """Knows what usage costs. Thread safety: any thread.

    Attributes:
        overrides: whether some of its prices are final.
    """

    overrides: bool

    def price(self, observation: Observation, at: datetime) -> Price | PriceUnknown:
        """Return what ``observation`` costs at that time, or why that is not known.

        Args:
            observation: of a complete answer.
            at: when the cost arose, aware.
        """
        ...


class PriceLists:
    """Decides what an operation is tracked with.

    The sources of amounts, in order:

    1. a price list's price that is final: one's own, where it says so;
    2. what the provider reports;
    3. the price lists, one after the other;
    4. what a tool between says, by a price list that we do not know.

    Amounts given by hand are not observed, and never come here.

    Thread safety: any thread.
    """

    def __init__(self, lists: Sequence[PriceList]) -> None:
        self._lists = tuple(lists)
        self._overriding = tuple(each for each in lists if each.overrides)

    def price(
        self, observation: Observation, at: datetime
    ) -> PricedAmount | PriceUnknown:
        """Return what to track ``observation`` with, or why nobody knows.

        Args:
            observation: what was observed.
            at: when the cost arose, aware.
        """
        told = observation.amount
        if told is not None and observation.provenance == "reported":
            return self._reported(told, observation, at)
        if observation.price_pending or not observation.is_complete:
            return self._unpriced_reason(observation, at)
        answer = _first_price(self._lists, observation, at)
        if isinstance(answer, Price):
            return _priced(answer)
        if told is not None:
            return PricedAmount(
                told, observation.currency, observation.provenance, None
            )
        return answer

    def _unpriced_reason(
        self, observation: Observation, at: datetime
    ) -> PricedAmount | PriceUnknown:
        if not observation.is_complete:
            return INCOMPLETE_RESPONSE
        return self._final(observation, at) or PENDING

    def _reported(
        self, amount: Decimal, observation: Observation, at: datetime
    ) -> PricedAmount:
        final = self._final(observation, at)
        return final or PricedAmount(amount, observation.currency, "reported", None)

    def _final(self, observation: Observation, at: datetime) -> PricedAmount | None:
        answer = _first_price(self._overriding, observation, at)
        if isinstance(answer, Price) and answer.overrides_reported:
            return _priced(answer)
        return None


def _priced(price: Price) -> PricedAmount:
    return PricedAmount(price.amount, price.currency, "priced", price.data)


def _first_price(
    lists: Sequence[PriceList], observation: Observation, at: datetime
) -> Price | PriceUnknown:
    """Return the first price, or the last list's reason not to have one.

    The lists go from one's own, which need not know much, to the one that knows
    most.
    """
    answer: Price | PriceUnknown = NO_LIST
    for prices in lists:
        # Usage of a shape that a list chokes on must not cost us the cost.
        answer = guarded("prices", prices.price, observation, at) or _FAILED
        if isinstance(answer, Price) or answer.overrides_reported:
            break
    return answer


def strip_zeros(amount: Decimal) -> Decimal:
    """Return the same amount without zeros at its end, and without an exponent."""
    short = amount.normalize(_EXACT)
    is_whole = short == short.to_integral_value()
    return short.quantize(1, context=_EXACT) if is_whole else short
