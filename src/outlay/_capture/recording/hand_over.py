"""Hand a captured cost to its client: as an event, or as an unpriced cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay._capture.observation import UNKNOWN_PROVIDER
from outlay._capture.pricing import PriceUnknown
from outlay._capture.recording.values import Action, Outcome
from outlay._capture_sink import CaptureSink
from outlay._model.clock import SystemClock
from outlay._model.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay._capture.observation import Observation
    from outlay._capture.pricing import PricedAmount
    from outlay._capture.recording.values import CapturedCost, Decision
    from outlay._client import Client
    from outlay._journal.unpriced_store import StoredCost
    from outlay._model.attribution import Attribution
    from outlay._receipt import Receipt

UNKNOWN_AMOUNT: Final = "unknown_amount"
"""The reason of an unpriced cost whose amount callback failed."""


class Handover:
    """Carries out decisions with one client. Thread safety: any thread, re-entrant."""

    def __init__(self, client: Callable[[], Client]) -> None:
        """Hand over nothing yet.

        Args:
            client: A function that returns the client. It is called for each cost.
        """
        self._client = client
        self._log = RateLimitedLog(SystemClock())

    def carry_out(self, decision: Decision) -> Outcome:
        """Track or store the cost, and return what came of it.

        Raises:
            InvalidEventError: The observation breaks a rule of events.
            ClosedError: The client is closed.
        """
        if decision.action is Action.SKIP:
            return Outcome(decision)
        client = self._client()
        sink = CaptureSink(client)
        if decision.replaces is None:
            return self._hand_over(decision, sink, client)
        # A kill between the two steps neither loses nor doubles the replaced cost.
        with sink.replacing_unpriced(decision.replaces.stored) as is_current:
            if not is_current:  # another process has priced or discarded it meanwhile
                return Outcome(decision)
            return self._hand_over(decision, sink, client)

    def _hand_over(
        self, decision: Decision, sink: CaptureSink, client: Client
    ) -> Outcome:
        cost, price = decision.cost, decision.price
        if not isinstance(price, PriceUnknown):
            expected = client.settings.currency
            return Outcome(
                decision, receipt=_track(sink, cost, price, expected=expected)
            )
        stored = _store(sink, cost, price)
        if stored is not None and not cost.observation.price_pending:
            self._warn_unpriced(cost.observation, price)
        return Outcome(decision, stored=stored)

    def _warn_unpriced(self, observation: Observation, why: PriceUnknown) -> None:
        subject = observation.model or observation.event_type
        if observation.provider == UNKNOWN_PROVIDER and why.reason != UNKNOWN_AMOUNT:
            # No price book would help: the models are those of a known provider.
            self._log.warn_once("unknown provider", _NO_PROVIDER, subject)
            return
        self._log.warn_once(
            f"unpriced {observation.provider} {subject} {why.reason}",
            _NO_AMOUNT if why.reason == UNKNOWN_AMOUNT else _NO_PRICE,
            observation.provider or "an unnamed provider",
            subject,
            why.message,
        )


def _track(
    sink: CaptureSink, cost: CapturedCost, price: PricedAmount, *, expected: str
) -> Receipt:
    observation = cost.observation
    data = _data(observation, cost.attribution)
    data.update(price_fields(price))
    return sink.track_captured(
        cost.attribution,
        event_type_for_currency(price.currency, observation.event_type, expected),
        str(price.amount),  # plain digits, which the composer takes as they are
        operation_id=observation.operation_id,
        provider=observation.provider,
        region=observation.region,
        line=observation.line,
        provenance=price.provenance,
        timestamp=cost.at,
        data=data,
    )


def _store(
    sink: CaptureSink, cost: CapturedCost, why: PriceUnknown
) -> StoredCost | None:
    observation, attribution = cost.observation, cost.attribution
    return sink.store_unpriced(
        observation.event_type,
        customer_id=attribution.customer_id,
        operation_id=observation.operation_id,
        provider=observation.provider or None,  # a function need not name one
        operation=attribution.operation,
        region=observation.region or attribution.region,
        line=observation.line,
        timestamp=cost.at,
        data=_data(observation, attribution),
        why=(why.reason, why.message),
        observation=_encode(observation),
    )


# Quantities become numbers with every digit.
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


def event_type_for_currency(currency: str, event_type: str, expected: str) -> str:
    """Return the event type of a cost in ``currency``.

    Metrics sum by event type. A currency of its own type is added to no other.

    Args:
        currency: The currency of the cost, ISO 4217.
        event_type: The event type of costs in the usual currency.
        expected: The usual currency.
    """
    return event_type if currency == expected else f"{event_type}.{currency.lower()}"


def price_fields(price: PricedAmount) -> dict[str, Any]:
    """Return the fields that describe a price in the data of an event."""
    fields: dict[str, Any] = {"currency": price.currency}
    if price.price is not None:
        fields["price"] = price.price
    return fields


def _data(observation: Observation, attribution: Attribution) -> dict[str, Any]:
    """Return the data of an event, without its price."""
    data = {**attribution.dimensions, **observation.data}
    if observation.model:
        data["model"] = observation.model
    if observation.service_tier:
        data["serviceTier"] = observation.service_tier
    if observation.usage:
        data["usage"] = observation.usage
    return data


_NO_PROVIDER: Final = (
    "a cost of %s has no price, because outlay does not know the provider of that "
    "address. If it is a gateway, name the provider that it stands for: "
    "outlay.instrument(client, provider='openai'). The cost is stored, see 'outlay "
    "unpriced list' (logged once)"
)
_NO_PRICE: Final = (
    "a cost of %s %s has no price, and is stored until it has one: %s. Add it to your "
    "price book (OUTLAY_PRICE_BOOK) or upgrade genai-prices, then run 'outlay reprice' "
    "(logged once for each)"
)
_NO_AMOUNT: Final = (
    "a cost of %s, %s, is stored without its amount: %s. Find it with 'outlay unpriced "
    "list', and give its amount with 'outlay reprice --id … --amount …' (logged once "
    "for each)"
)
