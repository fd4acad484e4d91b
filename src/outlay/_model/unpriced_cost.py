"""Unpriced costs: captured operations whose price is not known yet."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

State = Literal["open", "held", "done", "gone"]
"""``open``: waits for a price. ``held``: a price came by another door, and its event is
being tracked; what a crash leaves so may have been counted. ``done``: its event is
tracked. ``gone``: given up, by a person's decision."""

UNSETTLED_STATES: Final[frozenset[State]] = frozenset({"open", "held"})
"""What is still to be priced."""


class UnpricedCost(msgspec.Struct, frozen=True, rename="camel"):
    """What is kept of an operation until its price is known. No content.

    Attributes:
        state: what became of it; the first field, so that it is changed in place.
        reason: why there was no price; one word for machines.
        message: the same for people.
        kept_at: RFC 3339, UTC.
        currency: that the metrics of its event type count in.
        event: the cost event that it will be, but for the amount: it has its key, its
            timestamp and its customer.
        observation: what the provider reported, for price lists to read.
    """

    state: State
    reason: str
    message: str
    kept_at: str
    currency: str
    event: msgspec.Raw
    observation: msgspec.Raw


STATE_PREFIXES: Final[dict[State, bytes]] = {
    "open": b'{"state":"open"',
    "held": b'{"state":"held"',
    "done": b'{"state":"done"',
    "gone": b'{"state":"gone"',
}
"""How the line of an unpriced cost begins, by its state; all of one length."""
