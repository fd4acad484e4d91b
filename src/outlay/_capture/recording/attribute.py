"""Decide whose an observed cost is, and when it arose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay._capture.recording.values import CapturedCost
from outlay._model.attribution import current_attribution
from outlay._model.bounded import BoundedDict

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from outlay._capture.observation import Observation
    from outlay._model.attribution import Attribution

_REMEMBERED: Final = 8192
"""Operations remembered until a provider reports their price, or a lookup repeats."""


class FirstAttributions:
    """Remembers the attribution of operations that will be observed again.

    A provider often reports a price later. The code that reads it then runs for another
    customer or for none, such as a loop that polls. So the cost belongs to the first
    attribution, and the first time selects the price. The later response may also omit
    the model that was requested.

    Thread safety: any thread, re-entrant.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Remember nothing yet.

        Args:
            now: A function that returns the current time, aware.
        """
        self._now = now
        self._first: BoundedDict[tuple[object, ...], _First] = BoundedDict(_REMEMBERED)

    def attribute(
        self,
        observation: Observation,
        attribution: Attribution | None,
        at: datetime | None,
    ) -> CapturedCost:
        """Return ``observation`` with its attribution and time.

        Args:
            observation: The observation, with its operation id if it has any.
            attribution: The attribution, if the caller knows it. If None, the first
                one of the operation, or else the one of the running code.
            at: The time when the cost arose. If None, the first time, or else now.
        """
        first = None
        if attribution is None:
            # Mostly empty: few providers report prices later.
            first = self._first.get(observation.identity) if self._first else None
            attribution = first.attribution if first else current_attribution.get()
        if first is not None:
            at = at or first.at
            if first.model is not None:
                observation = msgspec.structs.replace(observation, model=first.model)
        if observation.region is None and attribution.region is not None:
            # Before the cost is priced: a price book may have prices by region.
            observation = msgspec.structs.replace(
                observation, region=attribution.region
            )
        cost = CapturedCost(observation, attribution, at or self._now())
        is_repeated = observation.price_pending or observation.is_lookup
        if is_repeated and observation.operation_id is not None:
            self._first.setdefault(
                observation.identity, _First(attribution, observation.model, cost.at)
            )
        return cost


class _First(NamedTuple):
    """The first observation of an operation.

    Attributes:
        attribution: The attribution of the code that observed it.
        model: The model that was requested or first reported. None, if not known.
        at: The time when the operation began or was first observed.
    """

    attribution: Attribution
    model: str | None
    at: datetime
