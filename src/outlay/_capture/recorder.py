"""Track each observed cost once, for the customer it belongs to.

Every source of observations ends here: decorators, captured clients, spans, callbacks.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

from outlay._capture.observation import without_invalid_names
from outlay._capture.operations.ids import identify
from outlay._capture.operations.state import (
    count_observed,
    current_derived_ids,
)
from outlay._capture.pricing.configured_lists import configured_prices
from outlay._capture.recording.attribute import FirstAttributions
from outlay._capture.recording.decide import RecentCosts
from outlay._capture.recording.hand_over import Handover
from outlay._capture.span_attributes import stamp
from outlay._client import pipeline_of
from outlay._default_client import default_client
from outlay._model.clock import from_ms
from outlay.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from outlay._capture.observation import Observation
    from outlay._capture.pricing import PricedAmount, PriceLists, PriceUnknown
    from outlay._capture.recording.values import CapturedCost
    from outlay._client import Client
    from outlay._model.attribution import Attribution
    from outlay._receipt import Receipt


class Recorder:
    """The steps from an observation to an event, in order.

    Identify, attribute, price, decide, hand over, remember, stamp, count. Each step is
    a function from a value to a value.

    Thread safety: any thread, re-entrant: a stream that the garbage collector ends is
    recorded in the middle of anything.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        prices: PriceLists,
        *,
        now: Callable[[], datetime],
    ) -> None:
        """Create a recorder. Most callers need `for_client`.

        Args:
            client: A function that returns the client that tracks the costs.
            prices: The price lists.
            now: A function that returns the current time, aware.
        """
        self._prices = prices
        self._first = FirstAttributions(now)
        self._recent = RecentCosts()
        self._handover = Handover(client)

    @classmethod
    def for_client(cls, client: Client | None = None) -> Recorder:
        """Return the recorder of a client. Each client has one.

        Cheap, so that sources call it at each use: the default client may be replaced.

        Args:
            client: The client. If None, the default client.

        Raises:
            ConfigError: There is no default client yet, and a variable is malformed.
        """
        client = client or default_client()
        # Two threads may both create one. `setdefault` gives both the first.
        return _recorders.get(client) or _recorders.setdefault(client, _create(client))

    def record(
        self,
        observation: Observation,
        attribution: Attribution | None = None,
        at: datetime | None = None,
    ) -> Receipt | None:
        """Track an observed cost, or store it until it has a price.

        Args:
            observation: The observation of one completed operation.
            attribution: The attribution. If None, the first one of the operation, or
                else the one of the running code.
            at: The time when the cost arose, aware. Defaults to now.

        Returns:
            The receipt. None, if the cost has no price yet or was recorded before.

        Raises:
            InvalidEventError: The observation breaks a rule of events.
            ClosedError: The client is closed.
        """
        cost = self._attributed(observation, attribution, at)
        return self._finish(cost, self._prices.price(cost.observation, cost.at))

    def record_unpriced(
        self, observation: Observation, attribution: Attribution, why: PriceUnknown
    ) -> None:
        """Store an observed cost whose price no list can know.

        Args:
            observation: The observation of one completed operation.
            attribution: The attribution.
            why: The reason.

        Raises:
            InvalidEventError: The observation breaks a rule of events.
            ClosedError: The client is closed.
        """
        self._finish(self._attributed(observation, attribution, None), why)

    def _attributed(
        self,
        observation: Observation,
        attribution: Attribution | None,
        at: datetime | None,
    ) -> CapturedCost:
        identified = identify(without_invalid_names(observation), current_derived_ids())
        return self._first.attribute(identified, attribution, at)

    def _finish(
        self, cost: CapturedCost, price: PricedAmount | PriceUnknown
    ) -> Receipt | None:
        outcome = self._handover.carry_out(self._recent.decide(cost, price))
        self._recent.remember(outcome)
        stamp(outcome)
        count_observed(cost.observation)
        return outcome.receipt


def forget_client(client: Client) -> None:
    """Forget what was recorded with ``client``. The same call then counts again."""
    _recorders.pop(client, None)


_recorders: Final[weakref.WeakKeyDictionary[Client, Recorder]] = (
    weakref.WeakKeyDictionary()
)


def _create(client: Client) -> Recorder:
    reference = weakref.ref(client)  # a recorder must not keep its client alive

    def living_client() -> Client:
        found = reference()
        if found is None:
            raise ClosedError("this client is gone; create another")
        return found

    clock = pipeline_of(client).clock
    return Recorder(
        living_client,
        configured_prices(client.settings),
        now=lambda: from_ms(clock.now_ms()),
    )
