"""Stamps: what a call cost, written on the span that it ran in.

Through the OpenTelemetry API alone, which costs next to nothing without an SDK. A span
processor of ours passes over stamped spans: their call is counted already.

The attributes, all in outlay's own namespace:

* ``outlay.cost.status``: ``tracked``, or ``unpriced`` when no price is known yet;
* ``outlay.cost.amount``: what all costs of the span come to, an exact decimal as text;
* ``outlay.cost.currency``: of the amount; costs in another one are not in it;
* ``outlay.cost.idempotency_keys``: of the span's cost events.
"""

from __future__ import annotations

import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakKeyDictionary

from outlay._model.money import exact_sum, to_exact_decimal

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from outlay._model.money import Amount
    from outlay._receipt import Receipt

ATTR_STATUS: Final = "outlay.cost.status"
ATTR_AMOUNT: Final = "outlay.cost.amount"
ATTR_CURRENCY: Final = "outlay.cost.currency"
ATTR_IDEMPOTENCY_KEYS: Final = "outlay.cost.idempotency_keys"

_TRACKED: Final = "tracked"
_UNPRICED: Final = "unpriced"

_MAX_KEYS: Final = 128  # of one span; the SDK's own default limit is as many attributes


class _SpanCosts:
    """What is written on one span so far: the API can write attributes, not read."""

    __slots__ = ("amount", "currency", "keys")

    def __init__(self, currency: str) -> None:
        self.amount = Decimal(0)
        self.currency = currency
        self.keys: list[str] = []


# Re-entrant: a stream that the garbage collector ends may be stamped meanwhile.
_lock: Final = threading.RLock()
_costs_by_span: Final[WeakKeyDictionary[Span, _SpanCosts]] = WeakKeyDictionary()


def write_cost(key: str, amount: Decimal, currency: str) -> None:
    """Write a tracked cost on the current span, if there is one that records.

    Args:
        key: the event's idempotency key.
        amount: exact; added to what the span's earlier costs came to.
        currency: ISO 4217.
    """
    span = _recording_span()
    if span is None:
        return
    with _lock:
        written = _costs_by_span.setdefault(span, _SpanCosts(currency))
        if currency == written.currency:
            written.amount = exact_sum((written.amount, amount))
        if len(written.keys) < _MAX_KEYS:
            written.keys.append(key)
        attributes = {
            ATTR_STATUS: _TRACKED,
            ATTR_AMOUNT: f"{written.amount:f}",
            ATTR_CURRENCY: written.currency,
            ATTR_IDEMPOTENCY_KEYS: tuple(written.keys),
        }
    span.set_attributes(attributes)


def stamp_cost(receipt: Receipt, amount: Amount, *, currency: str = "USD") -> Receipt:
    """Write a cost that was tracked by hand on the current span.

    Captured calls are stamped by themselves; `track_cost` asks for no span, for few of
    its callers have one that is about the cost. Without one that records, nothing
    happens.

    A stamped span's call is counted: `CostSpanProcessor` passes it over. So stamp the
    span of the operation that cost this, not one around a call of a provider that the
    processor is to count.

    Thread safety: any thread.

    Args:
        receipt: what `track_cost` answered.
        amount: what it was told; added to what the span's earlier costs came to.
        currency: of the amount, ISO 4217.

    Returns:
        The receipt, so that a call of `track_cost` can stand in here.

    Raises:
        InvalidEventError: the amount is none.

    Example:
        >>> stamp_cost(outlay.track_cost("cost.enrichment", "0.05", ...), "0.05")
    """
    write_cost(
        receipt.idempotency_key, to_exact_decimal(amount, allow_credits=True), currency
    )
    return receipt


def write_unpriced() -> None:
    """Write on the current span that its cost is known, but not yet its price."""
    span = _recording_span()
    if span is not None and span not in _costs_by_span:
        span.set_attribute(ATTR_STATUS, _UNPRICED)


def _recording_span() -> Span | None:
    # Whoever made the current span has imported this; who has not, has no spans, and
    # is spared the import.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    span = cast("Span", trace.get_current_span())
    return span if span.is_recording() else None
