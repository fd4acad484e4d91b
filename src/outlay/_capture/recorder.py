"""The recorder: tracks what was observed, once, for the customer it belongs to.

Every door of capture ends here: decorators, wrapped provider clients, spans, callbacks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Protocol

from outlay._capture.stamping import stamp, stamp_unpriced
from outlay._model.attribution import Attribution, attribution

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from outlay._capture.observation import Observation
    from outlay._capture.pricing import PriceLists
    from outlay._client import Client, Receipt
    from outlay._model.events import Provenance

_REMEMBERED: Final = 4096
"""Operations recorded last. A wrapper, a span and a callback see the same call within
moments; whatever is older than this many calls, the server still knows by its key."""


class UnpricedSink(Protocol):
    """Keeps what could not be priced, with its usage, to be priced later."""

    def __call__(
        self, observation: Observation, owner: Attribution, at: datetime | None
    ) -> None:
        """Keep ``observation``; durable when it returns."""
        ...


class Recorder:
    """Prices observations and tracks them with a client.

    Thread safety: any thread.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        prices: PriceLists,
        *,
        now: Callable[[], datetime],
        keep_unpriced: UnpricedSink,
    ) -> None:
        """Create a recorder.

        Args:
            client: whom to track with, asked at each use: the default may change.
            prices: what to price usage by.
            now: the time, aware; prices are dated.
            keep_unpriced: where costs go whose price is not known.
        """
        self._client = client
        self._prices = prices
        self._now = now
        self._keep_unpriced = keep_unpriced
        self._lock = threading.Lock()
        self._recent: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def record(
        self,
        observation: Observation,
        owner: Attribution | None = None,
        at: datetime | None = None,
    ) -> Receipt | None:
        """Track what ``observation`` says.

        Args:
            observation: of one completed operation.
            owner: whom to attribute it to; None: the running code's attribution.
            at: when the cost arose, aware; None: now.

        Returns:
            The receipt, or None: not priced yet, or recorded before.

        Raises:
            InvalidEventError: the observation breaks a rule of events.
        """
        owner = owner or attribution.get()
        if self._seen(observation, owner):
            return None
        amount, currency = observation.amount, observation.currency
        provenance: Provenance = observation.provenance
        data: dict[str, Any] = {**owner.dimensions, **observation.data}
        if amount is None or provenance == "priced":
            price = (
                self._prices.price(observation, at or self._now())
                if observation.complete
                else None
            )
            if price is not None:
                amount, currency, provenance = price.amount, price.currency, "priced"
                data |= price.data
        if amount is None:
            self._keep_unpriced(observation, owner, at)
            stamp_unpriced()
            return None
        receipt = self._client().track_cost(
            observation.event_type,
            amount,
            customer_id=owner.customer_id or "",
            operation_id=observation.operation_id or observation.request_id,
            provider=observation.provider,
            operation=owner.operation,
            region=observation.region or owner.region,
            line=observation.line,
            provenance=provenance,
            timestamp=at,
            data={**data, **_facts(observation, currency)},
        )
        stamp(receipt.idempotency_key, amount, currency)
        return receipt

    def _seen(self, observation: Observation, owner: Attribution) -> bool:
        """Return whether the same operation was recorded already, and remember it."""
        if observation.operation_id is None:
            return False
        name = (
            observation.event_type,
            owner.customer_id,
            observation.provider,
            observation.operation_id,
            observation.line,
        )
        with self._lock:
            seen = name in self._recent
            self._recent[name] = None
            self._recent.move_to_end(name)
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        return seen


def _facts(observation: Observation, currency: str) -> dict[str, Any]:
    facts = {
        "model": observation.model,
        "serviceTier": observation.service_tier,
        "currency": currency,
        "usage": observation.usage or None,
    }
    return {name: value for name, value in facts.items() if value is not None}
