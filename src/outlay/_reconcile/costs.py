"""Read tracked events as costs, net of their corrections."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._reconcile.quantities import read_kind, read_quantities
from outlay._reconcile.values import ZERO, Cost, add, multiply

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_MAX_EXPONENT: Final = 100


class Correction(NamedTuple):
    """A correction of an event.

    Attributes:
        correction_id: Its id.
        event_id: The id of the event.
        kind: ``void``, ``adjust`` or ``revert``.
        delta: The amount of an adjustment, in the metric's quantity.
        cost_id: The metric of an adjustment.
        reverts: The id of the correction that it reverts, or None.
    """

    correction_id: str
    event_id: str
    kind: str
    delta: Decimal | None = None
    cost_id: str | None = None
    reverts: str | None = None


def in_effect(corrections: Iterable[Correction]) -> list[Correction]:
    """Return the voids and adjustments that were not reverted."""
    found = [*corrections]
    reverted = {one.reverts for one in found if one.reverts}
    return [
        one for one in found if not one.reverts and one.correction_id not in reverted
    ]


class MetricPrice(NamedTuple):
    """The cost of one unit of a metric, which turns an adjustment into money."""

    unit_cost: Decimal
    currency: str


class NetAmounts:
    """The effect of all corrections on the amounts of events.

    Args:
        corrections: All corrections of the events, in any order.
        metrics: The price of each metric, by its id.
        currency: The currency of the reconciliation.
    """

    def __init__(
        self,
        corrections: Iterable[Correction],
        metrics: Mapping[str, MetricPrice],
        currency: str,
    ) -> None:
        # Pages that shift while they are read may have a correction twice.
        found = {one.correction_id: one for one in corrections}
        self._voided: set[str] = set()
        self._deltas: dict[str, Decimal] = {}
        for one in in_effect(found.values()):
            if one.delta is None:
                self._voided.add(one.event_id)
                continue
            metric = metrics.get(one.cost_id or "")
            if metric is not None and metric.currency == currency:
                delta = multiply(one.delta, metric.unit_cost)
                before = self._deltas.get(one.event_id, ZERO)
                self._deltas[one.event_id] = add(before, delta)

    def net(self, event_id: str, amount: Decimal) -> Decimal | None:
        """Return the net amount of an event, or None if it is void."""
        if event_id in self._voided:
            return None
        delta = self._deltas.get(event_id)
        return amount if delta is None else add(amount, delta)


class CostReader(NamedTuple):
    """Reads the costs of one provider in one currency.

    Attributes:
        provider: The provider, as ``data.provider`` of events has it.
        currency: The currency of the bill.
        default_currency: The currency of events that name none.
        corrections: The effect of corrections.
    """

    provider: str
    currency: str
    default_currency: str
    corrections: NetAmounts

    def read(
        self, event_id: str, at: datetime, event_type: str, data: Mapping[str, Any]
    ) -> Cost | None:
        """Return the cost of an event, or None if it is not for this reconciliation.

        Args:
            event_id: The event's id.
            at: The time of the operation, aware.
            event_type: The event type.
            data: The event's data.
        """
        provider = data.get("provider")
        if provider != self.provider:
            return None
        currency = data.get("currency") or self.default_currency
        if currency != self.currency:
            return None
        amount = to_amount(data.get("amount"))
        net = None if amount is None else self.corrections.net(event_id, amount)
        if net is None:
            return None
        quantities = read_quantities(data)
        return Cost(
            event_id,
            at,
            event_type,
            _text(data, "model"),
            _text(data, "operationId"),
            _text(data, "line"),
            read_kind(data, quantities),
            net,
            quantities,
            _price(data.get("price")),
            _text(data, "provenance"),
        )


def decode_data(text: str) -> dict[str, Any]:
    """Return the data of an event. Numbers keep all of their digits."""
    data = json.loads(text, parse_float=Decimal)
    return data if isinstance(data, dict) else {}


def to_amount(value: object) -> Decimal | None:
    """Return an event's amount, or None if it has no number that can be added."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        return None
    if not amount.is_finite() or abs(amount.adjusted()) > _MAX_EXPONENT:
        return None
    return amount


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _price(price: object) -> str:
    """Return the origin of a price, such as ``genai-prices 0.2.3 openai/gpt-4o``."""
    if not isinstance(price, dict):
        return ""
    named = (price.get(name) for name in ("list", "version", "entry", "model"))
    return " ".join(str(one) for one in named if isinstance(one, str | int) and one)
