"""The recorder: tracks what was observed, once, for the customer it belongs to.

Every door of capture ends here: decorators, wrapped provider clients, spans, callbacks.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

from outlay._capture.pricing import NoPrice
from outlay._capture.pricing.sources import price_lists
from outlay._capture.stamping import stamp, stamp_unpriced
from outlay._default import default_client
from outlay._model.attribution import Attribution, attribution
from outlay._model.clock import SystemClock, from_ms
from outlay._model.notices import Notices
from outlay.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from outlay._capture.observation import Observation
    from outlay._capture.pricing import Charge, PriceLists
    from outlay._client import Client, Receipt

_REMEMBERED: Final = 4096
"""Operations recorded last, at least. A wrapper, a span and a callback see the same
call within moments; what is older, the server still knows by its key."""


class UnpricedSink(Protocol):
    """Keeps what could not be priced, with its usage, to be priced later."""

    def __call__(
        self, observation: Observation, owner: Attribution, at: datetime, why: NoPrice
    ) -> None:
        """Keep ``observation``; durable when it returns."""
        ...


class Recorder:
    """Prices observations and tracks them with a client.

    Thread safety: any thread, re-entrant: a stream that the garbage collector ends is
    recorded wherever that happens. So there is no lock; of two threads that record the
    same operation at the same moment both may track it, under one key.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        prices: PriceLists,
        *,
        now: Callable[[], datetime],
        keep_unpriced: UnpricedSink,
    ) -> None:
        """Create a recorder; most callers want `of`.

        Args:
            client: whom to track with, asked at each use.
            prices: what to price usage by.
            now: the time, aware; prices are dated.
            keep_unpriced: where costs go whose price is not known.
        """
        self._client = client
        self._prices = prices
        self._now = now
        self._keep_unpriced = keep_unpriced
        self._recent = Memory(_REMEMBERED)

    @classmethod
    def of(cls, client: Client | None = None) -> Recorder:
        """Return the recorder of a client; each has one.

        Cheap, so that doors ask at each use: the default client may be replaced.

        Args:
            client: whom to track with; None: the default client.

        Raises:
            ConfigError: there is no default client yet, and a variable is malformed.
        """
        client = client or default_client()
        found = _recorders.get(client)
        # Two threads may both make one; the first that is kept is everybody's.
        return found or _recorders.setdefault(client, _recorder(client))

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
            ClosedError: the client is closed.
        """
        owner = owner or attribution.get()
        name = _name(observation, owner)
        if name is not None and name in self._recent:
            return None
        at = at or self._now()
        charge = self._prices.charge(observation, at)
        if isinstance(charge, NoPrice):
            self._keep_unpriced(observation, owner, at, charge)
            stamp_unpriced()
            receipt = None
        else:
            receipt = self._track(observation, owner, at, charge)
            stamp(receipt.idempotency_key, charge.amount, charge.currency)
        # Not earlier: what could not be tracked, another door may bring again.
        if name is not None:
            self._recent.add(name)
        return receipt

    def _track(
        self, observation: Observation, owner: Attribution, at: datetime, charge: Charge
    ) -> Receipt:
        client = self._client()
        return client.track_cost(
            event_type_in(
                charge.currency, observation.event_type, client.settings.currency
            ),
            charge.amount,
            customer_id=owner.customer_id or "",
            operation_id=observation.operation_id or observation.request_id,
            provider=observation.provider,
            operation=owner.operation,
            region=observation.region or owner.region,
            line=observation.line,
            provenance=charge.provenance,
            timestamp=at,
            data={
                **owner.dimensions,
                **observation.data,
                **_facts(observation, charge),
            },
        )


def event_type_in(currency: str, event_type: str, expected: str) -> str:
    """Return the event type of a cost in ``currency``, where ``expected`` is usual.

    Metrics sum by event type: in one of its own, a currency is added to no other.
    """
    return event_type if currency == expected else f"{event_type}.{currency.lower()}"


class Memory:
    """Remembers names, at least the last ``size`` and at most twice as many.

    Thread safety: any thread, re-entrant; it is made of single operations of a dict.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[object, None] = {}
        self._old: dict[object, None] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._young or name in self._old

    def add(self, name: object) -> None:
        """Remember ``name``."""
        young = self._young
        young[name] = None
        if len(young) >= self._size:
            # A race of two threads here forgets some names early: the server knows.
            self._old, self._young = young, {}


def _name(observation: Observation, owner: Attribution) -> tuple[object, ...] | None:
    """Return what the same cost has in common, whoever observed it.

    None: nothing tells it apart from another one like it.
    """
    if observation.operation_id is None:
        return None
    return (
        observation.event_type,
        owner.customer_id,
        observation.provider,
        observation.operation_id,
        observation.line,
    )


def _facts(observation: Observation, charge: Charge) -> dict[str, Any]:
    facts = {
        "model": observation.model,
        "serviceTier": observation.service_tier,
        "currency": charge.currency,
        "usage": observation.usage or None,
        "price": charge.price,
    }
    return {name: value for name, value in facts.items() if value is not None}


_recorders: Final[weakref.WeakKeyDictionary[Client, Recorder]] = (
    weakref.WeakKeyDictionary()
)


def _recorder(client: Client) -> Recorder:
    held = weakref.ref(client)  # a recorder must not keep its client alive

    def alive() -> Client:
        found = held()
        if found is None:
            raise ClosedError("this client is gone; create another")
        return found

    clock = SystemClock()
    notices = Notices(clock)

    def warn(
        observation: Observation,  # noqa: ARG001 - see UnpricedSink
        owner: Attribution,  # noqa: ARG001
        at: datetime,  # noqa: ARG001
        why: NoPrice,
    ) -> None:
        notices.warn_once(why.message, "a cost is not tracked: %s", why.message)

    return Recorder(
        alive,
        price_lists(client.settings),
        now=lambda: from_ms(clock.now_ms()),
        keep_unpriced=warn,
    )
