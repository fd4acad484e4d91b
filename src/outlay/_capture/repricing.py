"""Make the events of unpriced costs whose price is now known."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from outlay._capture.observation import Observation
from outlay._capture.recording.hand_over import event_type_for_currency, price_fields
from outlay._model.events import decode_event, encode_event
from outlay._model.keys import derive_key, shared_key_hash
from outlay._model.money import to_exact_decimal

if TYPE_CHECKING:
    from outlay._capture.pricing import PricedAmount, PriceLists, PriceUnknown
    from outlay._model.events import CostEvent
    from outlay._model.unpriced_cost import UnpricedCost


class UnpricedEvent:
    """An unpriced cost, decoded.

    Attributes:
        cost: The unpriced cost, as it is stored.
        event: The later event, without an amount.
        observation: The observation that price lists read.
    """

    def __init__(self, cost: UnpricedCost) -> None:
        """Decode ``cost``.

        Raises:
            msgspec.DecodeError: It is damaged, or a newer outlay wrote it.
        """
        self.cost = cost
        self.event: CostEvent = decode_event(bytes(cost.event))
        self.observation = _decode(bytes(cost.observation))

    @property
    def at(self) -> datetime:
        """The time when the cost arose. It selects the price."""
        return datetime.fromisoformat(self.event.timestamp)

    def price(
        self, prices: PriceLists, as_provider: str | None = None
    ) -> PricedAmount | PriceUnknown:
        """Return the price, or the reason why it is still not known.

        Args:
            prices: The price lists.
            as_provider: The provider whose prices apply, such as the one behind a
                gateway. A gateway may name its models ``provider/model``. Defaults to
                the cost's own provider.
        """
        observation = self.observation
        if as_provider is not None:
            model = observation.model
            observation = msgspec.structs.replace(
                observation,
                provider=as_provider,
                model=model and model.removeprefix(f"{as_provider}/"),
            )
        return prices.price(observation, self.at)

    def with_price(self, price: PricedAmount) -> bytes:
        """Return the event with its amount, as a request body.

        Its key and timestamp are the same as if the price had been known at first.

        Raises:
            InvalidEventError: The amount is not valid.
        """
        event, expected = self.event, self.cost.currency
        event_type = event_type_for_currency(price.currency, event.type, expected)
        key = event.idempotency_key
        if event_type != event.type:
            key = _key(event, event_type)
        data = {
            **event.data,
            "amount": to_exact_decimal(price.amount),
            "provenance": price.provenance,
            **price_fields(price),
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
