"""Re-pricing: the events of costs whose price became known afterwards."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from outlay._capture.observation import Observation
from outlay._capture.recorder import event_type_for_currency, price_fields
from outlay._model.events import decode_event, encode_event
from outlay._model.keys import derive_key, shared_key_hash
from outlay._model.money import to_exact_decimal

if TYPE_CHECKING:
    from outlay._capture.pricing import PricedAmount, PriceLists, PriceUnknown
    from outlay._model.events import CostEvent
    from outlay._model.unpriced_cost import UnpricedCost


class UnpricedEvent:
    """An unpriced cost, read.

    Attributes:
        cost: as it is kept.
        event: that it will be, still without an amount.
        observation: what a price list reads.
    """

    def __init__(self, cost: UnpricedCost) -> None:
        """Read ``cost``.

        Raises:
            msgspec.DecodeError: it is damaged, or of a newer outlay.
        """
        self.cost = cost
        self.event: CostEvent = decode_event(bytes(cost.event))
        self.observation = _decode(bytes(cost.observation))

    @property
    def at(self) -> datetime:
        """When the cost arose: the day whose price holds."""
        return datetime.fromisoformat(self.event.timestamp)

    def price(self, prices: PriceLists) -> PricedAmount | PriceUnknown:
        """Return what it costs, or why that is still not known."""
        return prices.price(self.observation, self.at)

    def with_price(self, charge: PricedAmount) -> bytes:
        """Return the event with its amount: the request body.

        Its key and timestamp are those that it would have had when it arose.

        Raises:
            InvalidEventError: the amount is none.
        """
        event, expected = self.event, self.cost.currency
        event_type = event_type_for_currency(charge.currency, event.type, expected)
        key = event.idempotency_key
        if event_type != event.type:
            key = _key(event, event_type)
        data = {
            **event.data,
            "amount": to_exact_decimal(charge.amount),
            "provenance": charge.provenance,
            **price_fields(charge),
        }
        return encode_event(
            msgspec.structs.replace(
                event, type=event_type, data=data, idempotency_key=key
            )
        )


_decode: Final = msgspec.json.Decoder(Observation, float_hook=Decimal).decode


def _key(event: CostEvent, event_type: str) -> str:
    labels = event.data
    hasher = shared_key_hash(
        event.source,
        event_type,
        event.subject,
        labels.get("provider", ""),
        labels.get("line", ""),
    )
    return derive_key(hasher, labels["operationId"])
