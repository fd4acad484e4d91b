"""Write the cost of a call on the OpenTelemetry span that it ran in.

Only the OpenTelemetry API is used. Without an SDK it costs next to nothing.
`CostSpanProcessor` skips spans with these attributes, because their call is counted.

* ``outlay.cost.status``: ``tracked``, or ``unpriced`` while no price is known;
* ``outlay.cost.amount``: the sum of the span's costs, an exact decimal as text;
* ``outlay.cost.currency``: the currency of the sum. Costs in others are not in it;
* ``outlay.cost.idempotency_keys``: the keys of the span's cost events.
"""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from opentelemetry.trace import get_current_span

from outlay._capture.pricing import PriceUnknown
from outlay._model.money import exact_sum, to_exact_decimal

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from outlay._capture.recording.values import Outcome
    from outlay._model.money import Amount
    from outlay._receipt import Receipt

ATTR_STATUS: Final = "outlay.cost.status"
ATTR_AMOUNT: Final = "outlay.cost.amount"
ATTR_CURRENCY: Final = "outlay.cost.currency"
ATTR_IDEMPOTENCY_KEYS: Final = "outlay.cost.idempotency_keys"

_TRACKED: Final = "tracked"
_UNPRICED: Final = "unpriced"

_MAX_KEYS: Final = 128
"""Keys on one span. The SDK's own default limit is as many attributes."""


class _SpanCosts:
    """The costs on one span. The API can write attributes, but not read them."""

    __slots__ = ("amount", "currency", "keys")

    def __init__(self, currency: str) -> None:
        self.amount = Decimal(0)
        self.currency = currency
        self.keys: list[str] = []


# Re-entrant: the garbage collector may end a stream, and so write, in the middle.
_lock: Final = threading.RLock()
_costs_by_span: Final[WeakKeyDictionary[Span, _SpanCosts]] = WeakKeyDictionary()


def stamp(outcome: Outcome) -> None:
    """Write the outcome of a captured cost on the current span, if one records."""
    span = get_current_span()
    if not span.is_recording():
        return
    price = outcome.decision.price
    if outcome.receipt is not None and not isinstance(price, PriceUnknown):
        _add(span, outcome.receipt.idempotency_key, price.amount, price.currency)
    elif outcome.stored is not None and span not in _costs_by_span:
        span.set_attribute(ATTR_STATUS, _UNPRICED)


def stamp_cost(receipt: Receipt, amount: Amount, *, currency: str = "USD") -> Receipt:
    """Write a cost that was tracked by hand on the current span, if one records.

    Captured calls do this themselves. `track_cost` does not, because few of its callers
    run in a span that is about the cost.

    `CostSpanProcessor` skips a span with a cost, because its call is counted. So call
    this in the span of the operation itself. Do not call it in the span of a provider's
    call, which the processor counts.

    Thread safety: any thread.

    Args:
        receipt: The receipt that `track_cost` returned.
        amount: The amount that was tracked. It is added to the span's earlier costs.
        currency: The currency of the amount, ISO 4217.

    Returns:
        The receipt, so that a call of `track_cost` can be wrapped.

    Raises:
        InvalidEventError: The amount is not valid.

    Example:
        >>> stamp_cost(outlay.track_cost("cost.enrichment", "0.05", ...), "0.05")
    """
    exact = to_exact_decimal(amount, allow_credits=True)
    span = get_current_span()
    if span.is_recording():
        _add(span, receipt.idempotency_key, exact, currency)
    return receipt


def _add(span: Span, key: str, amount: Decimal, currency: str) -> None:
    with _lock:
        costs = _costs_by_span.setdefault(span, _SpanCosts(currency))
        if currency == costs.currency:
            costs.amount = exact_sum((costs.amount, amount))
        if len(costs.keys) < _MAX_KEYS:
            costs.keys.append(key)
        attributes = {
            ATTR_STATUS: _TRACKED,
            ATTR_AMOUNT: f"{costs.amount:f}",
            ATTR_CURRENCY: costs.currency,
            ATTR_IDEMPOTENCY_KEYS: tuple(costs.keys),
        }
    span.set_attributes(attributes)
