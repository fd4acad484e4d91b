"""Decide whether a captured cost is tracked, stored without a price, or skipped."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from outlay._capture.pricing import PriceUnknown
from outlay._capture.recording.values import Action, Decision, StoredUnpriced
from outlay._model.bounded import BoundedDict

if TYPE_CHECKING:
    from outlay._capture.observation import Observation
    from outlay._capture.pricing import PricedAmount
    from outlay._capture.recording.values import CapturedCost, Outcome

_REMEMBERED: Final = 8192
"""Operations remembered, so that each is tracked once. A wrapper, a span and a callback
observe the same call within moments. The server still knows older ones by their key."""


class RecentCosts:
    """Remembers which operations were tracked, or stored without a price.

    Thread safety: any thread, re-entrant. There is no lock: a stream that the garbage
    collector ends is recorded in the middle of anything. Two threads that record the
    same operation at the same time may both track it, with one key.
    """

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._recent: BoundedDict[
            tuple[object, ...], StoredUnpriced | _AlreadyTracked
        ] = BoundedDict(_REMEMBERED)

    def decide(
        self, cost: CapturedCost, price: PricedAmount | PriceUnknown
    ) -> Decision:
        """Decide what happens to a cost.

        Args:
            cost: The captured cost.
            price: Its price, or the reason why it is not known.
        """
        identity = _identity(cost)
        earlier = None if identity is None else self._recent.get(identity)
        if earlier is _TRACKED:
            return Decision(cost, price, Action.SKIP, identity)
        if not isinstance(price, PriceUnknown):
            return Decision(cost, price, Action.TRACK, identity, earlier)
        if earlier is None or (
            _is_priceable(cost.observation) and not earlier.is_priceable
        ):
            return Decision(cost, price, Action.STORE_UNPRICED, identity, earlier)
        return Decision(cost, price, Action.SKIP, identity)

    def remember(self, outcome: Outcome) -> None:
        """Remember what happened, so that the next source decides by it.

        It is called after the fact. If tracking fails, another source may still bring
        the same cost.
        """
        decision = outcome.decision
        if decision.identity is None:
            return
        if decision.action is Action.TRACK:
            self._recent[decision.identity] = _TRACKED
        elif outcome.stored is not None:
            self._recent[decision.identity] = StoredUnpriced(
                outcome.stored, _is_priceable(decision.cost.observation)
            )


class _AlreadyTracked(enum.Enum):
    """Marks an operation whose event is tracked."""

    TRACKED = enum.auto()


_TRACKED: Final = _AlreadyTracked.TRACKED


def _identity(cost: CapturedCost) -> tuple[object, ...] | None:
    """Return what all observations of one cost share, or None without an id."""
    if cost.observation.operation_id is None:
        return None
    return (cost.attribution.customer_id, *cost.observation.identity)


def _is_priceable(observation: Observation) -> bool:
    return observation.is_complete and not observation.price_pending
