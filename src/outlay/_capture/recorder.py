"""The recorder: tracks what was observed, once, for the customer it belongs to.

Every door of capture ends here: decorators, wrapped provider clients, spans, callbacks.
"""

from __future__ import annotations

import enum
import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from outlay._capture.observation import Observation, without_invalid_names
from outlay._capture.operations.ids_resolve import with_operation_id
from outlay._capture.operations.state import CostIdentity, current_operation_state
from outlay._capture.pricing import PriceUnknown
from outlay._capture.pricing.configured_lists import configured_prices
from outlay._capture.span_attributes import write_cost, write_unpriced
from outlay._capture_sink import CaptureSink
from outlay._default_client import default_client
from outlay._model.attribution import Attribution, current_attribution
from outlay._model.clock import SystemClock, from_ms
from outlay._model.rate_limited_log import RateLimitedLog
from outlay.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import datetime

    from outlay._capture.pricing import PricedAmount, PriceLists
    from outlay._client import Client
    from outlay._journal.unpriced_store import StoredCost
    from outlay._receipt import Receipt

_REMEMBERED: Final = 4096
"""Operations recorded last, at least. A wrapper, a span and a callback see the same
call within moments; what is older, the server still knows by its key."""


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
    ) -> None:
        """Create a recorder; most callers want `of`.

        Args:
            client: whom to track with, asked at each use.
            prices: what to price usage by.
            now: the time, aware; prices are dated.
        """
        self._client = client
        self._prices = prices
        self._now = now
        self._recent: BoundedDict[_StoredUnpriced | _AlreadyTracked] = BoundedDict(
            _REMEMBERED
        )
        # Of what may be seen again, by whoever looks.
        self._begun: BoundedDict[_FirstSeen] = BoundedDict(_REMEMBERED)
        self._notices = RateLimitedLog(SystemClock())

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
        observation = with_operation_id(without_invalid_names(observation))
        if owner is None:
            observation, owner, since = self._with_first_attribution(observation)
            at = at or since
        receipt = self._record(observation, owner, at or self._now())
        around = current_operation_state.get()
        if around is not None:
            around.count(CostIdentity.of(observation))
        return receipt

    def _record(
        self, observation: Observation, owner: Attribution, at: datetime
    ) -> Receipt | None:
        name = _name(observation, owner)
        earlier = self._recent.get(name) if name is not None else None
        if earlier is _TRACKED:
            return None
        if observation.is_lookup and name is not None:
            begun = _FirstSeen(owner, observation.model, at)
            self._begun.put(_operation(observation), begun)
        charge = self._prices.price(observation, at)
        if isinstance(charge, PriceUnknown):
            if _adds_information(observation, earlier):
                with self._replacing_unpriced(earlier) as to_keep:
                    kept = (
                        self._keep(observation, owner, at, charge) if to_keep else None
                    )
                if kept is not None:
                    self._remember(
                        name, _StoredUnpriced(kept, _is_priceable(observation))
                    )
            return None
        with self._replacing_unpriced(earlier) as to_track:
            receipt = self._track(observation, owner, at, charge) if to_track else None
        self._remember(name, _TRACKED)
        if receipt is not None:
            write_cost(receipt.idempotency_key, charge.amount, charge.currency)
        return receipt

    def store_unpriced(
        self, observation: Observation, owner: Attribution, why: PriceUnknown
    ) -> StoredCost | None:
        """Keep what was observed as an unpriced cost, without asking for its price.

        Args:
            observation: of one completed operation.
            owner: whom to attribute it to.
            why: nobody knows the amount.

        Returns:
            Where it is kept, or None: it was dropped, which is counted.

        Raises:
            InvalidEventError: the observation breaks a rule of events.
            ClosedError: the client is closed.
        """
        return self._keep(with_operation_id(observation), owner, self._now(), why)

    def _with_first_attribution(
        self, observation: Observation
    ) -> tuple[Observation, Attribution, datetime | None]:
        """Return an observation, its owner and its time, as it was seen at first.

        What a provider tells later is often read by code that runs for somebody else,
        or for nobody, such as a loop that polls; and it may say no more what was asked
        for.
        """
        begun = self._begun.get(_operation(observation))
        if begun is None:
            return observation, current_attribution.get(), None
        if begun.model is not None:
            observation = msgspec.structs.replace(observation, model=begun.model)
        return observation, begun.attribution, begun.at

    def _replacing_unpriced(
        self, earlier: _StoredUnpriced | None
    ) -> AbstractContextManager[bool]:
        """Withdraw what another door, or a look too early, saw of the same call."""
        if earlier is None:
            return nullcontext(enter_result=True)
        return CaptureSink(self._client()).replacing_unpriced(earlier.kept)

    def _remember(
        self, name: object | None, fate: _StoredUnpriced | _AlreadyTracked
    ) -> None:
        # Not before it is done: what could not be tracked, another door may bring.
        if name is not None:
            self._recent.put(name, fate)

    def _track(
        self,
        observation: Observation,
        owner: Attribution,
        at: datetime,
        charge: PricedAmount,
    ) -> Receipt:
        client = self._client()
        return CaptureSink(client).track_captured(
            owner,
            event_type_for_currency(
                charge.currency, observation.event_type, client.settings.currency
            ),
            charge.amount,
            operation_id=observation.operation_id,
            provider=observation.provider,
            region=observation.region,
            line=observation.line,
            provenance=charge.provenance,
            timestamp=at,
            data={**_data(observation, owner), **price_fields(charge)},
        )

    def _keep(
        self,
        observation: Observation,
        owner: Attribution,
        at: datetime,
        why: PriceUnknown,
    ) -> StoredCost | None:
        client = self._client()
        kept = CaptureSink(client).store_unpriced(
            observation.event_type,
            customer_id=owner.customer_id,
            operation_id=observation.operation_id,
            provider=observation.provider or None,  # a function need not name one
            operation=owner.operation,
            region=observation.region or owner.region,
            line=observation.line,
            timestamp=at,
            data=_data(observation, owner),
            why=(why.reason, why.message),
            observation=_encode(observation),
        )
        if kept is None:
            return None
        write_unpriced()
        if observation.price_pending:
            if observation.operation_id is not None:
                begun = _FirstSeen(owner, observation.model, at)
                self._begun.put(_operation(observation), begun)
            return kept
        subject = observation.model or observation.event_type
        self._notices.warn_once(
            f"unpriced {observation.provider} {subject} {why.reason}",
            _UNKNOWN if why.reason == UNKNOWN_AMOUNT else _UNPRICED,
            observation.provider or "somebody",
            subject,
            why.message,
        )
        return kept


# Quantities as the numbers that they are, with every digit.
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class _FirstSeen(NamedTuple):
    """What is remembered of an operation that may be seen again.

    Attributes:
        owner: whoever caused it, or looked first.
        model: that was asked for, or seen first; None: as it is told.
        at: when it began, or was seen first: the day whose price holds.
    """

    attribution: Attribution
    model: str | None
    at: datetime


class _StoredUnpriced(NamedTuple):
    """What is remembered of an operation that has no price yet.

    Attributes:
        kept: where it waits.
        whole: whether all is known of it but the price.
    """

    kept: StoredCost
    whole: bool


def _is_priceable(observation: Observation) -> bool:
    return observation.is_complete and not observation.price_pending


def _adds_information(
    observation: Observation, earlier: _StoredUnpriced | None
) -> bool:
    return earlier is None or (_is_priceable(observation) and not earlier.whole)


class _AlreadyTracked(enum.Enum):
    """What is remembered of an operation whose event is tracked."""

    TRACKED = enum.auto()


_TRACKED: Final = _AlreadyTracked.TRACKED

_UNPRICED: Final = (
    "a cost of %s %s has no price, and is kept until it has one: %s. Add it to your "
    "price book (OUTLAY_PRICE_BOOK) or upgrade genai-prices, then run 'outlay reprice' "
    "(said once of each)"
)


_UNKNOWN: Final = (
    "a cost of %s, %s, is kept without its amount: %s. Find it with 'outlay unpriced "
    "list', and tell it with 'outlay reprice --id … --amount …' (said once of each)"
)

UNKNOWN_AMOUNT: Final = "unknown_amount"
"""Why a cost is kept whose amount was to be told by the user's code, and was not."""


def event_type_for_currency(currency: str, event_type: str, expected: str) -> str:
    """Return the event type of a cost in ``currency``, where ``expected`` is usual.

    Metrics sum by event type: in one of its own, a currency is added to no other.
    """
    return event_type if currency == expected else f"{event_type}.{currency.lower()}"


Remembered = TypeVar("Remembered")


class BoundedDict(Generic[Remembered]):
    """Remembers names, at least the last ``size`` and at most twice as many.

    Thread safety: any thread, re-entrant; it is made of single operations of a dict.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[object, Remembered] = {}
        self._old: dict[object, Remembered] = {}

    def get(self, name: object) -> Remembered | None:
        """Return what is remembered under ``name``; None: nothing."""
        found = self._young.get(name)
        return self._old.get(name) if found is None else found

    def put(self, name: object, value: Remembered) -> None:
        """Remember ``value``."""
        young = self._young
        young[name] = value
        if len(young) >= self._size:
            # A race of two threads here forgets some names early: the server knows.
            self._old, self._young = young, {}


def _name(observation: Observation, owner: Attribution) -> tuple[object, ...] | None:
    """Return what the same cost has in common, whoever observed it.

    None: nothing tells it apart from another one like it.
    """
    if observation.operation_id is None:
        return None
    return (owner.customer_id, *_operation(observation))


def _operation(observation: Observation) -> tuple[object, ...]:
    return (
        observation.event_type,
        observation.provider,
        observation.operation_id,
        observation.line,
    )


def _data(observation: Observation, owner: Attribution) -> dict[str, Any]:
    """Return what an event says whatever it costs."""
    facts = {
        "model": observation.model,
        "serviceTier": observation.service_tier,
        "usage": observation.usage,
    }
    known = {name: value for name, value in facts.items() if value}
    return {**owner.dimensions, **observation.data, **known}


def price_fields(charge: PricedAmount) -> dict[str, Any]:
    """Return what an event says of its price."""
    facts: dict[str, Any] = {"currency": charge.currency}
    if charge.price is not None:
        facts["price"] = charge.price
    return facts


def forget_client(client: Client) -> None:
    """Forget what was recorded with ``client``: the same call is a new one then."""
    _recorders.pop(client, None)


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
    return Recorder(
        alive, configured_prices(client.settings), now=lambda: from_ms(clock.now_ms())
    )
