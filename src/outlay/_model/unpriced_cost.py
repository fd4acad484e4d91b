"""Unpriced costs: captured operations whose price is not known yet."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

State = Literal["waiting", "replacing", "tracked", "discarded"]
"""The states of an unpriced cost.

- ``waiting``: it waits for a price.
- ``replacing``: another source brought a price, and its event is being tracked. A crash
  that leaves this state may have come after the event was counted.
- ``tracked``: its event is in the journal.
- ``discarded``: a person decided that it is never tracked.
"""

UNSETTLED_STATES: Final[frozenset[State]] = frozenset({"waiting", "replacing"})
"""The states in which a cost can still get a price."""

LONGEST_STATE: Final[State] = "replacing"


class UnpricedCost(msgspec.Struct, frozen=True, rename="camel"):
    """A captured operation without a price. It holds no content of the call.

    Attributes:
        state: Its state. The first field, so that it can be changed in place.
        reason: Why there was no price, in one word for machines.
        message: The same for people.
        kept_at: The time at which it was stored, as RFC 3339 in UTC.
        currency: The currency of the metrics of its event type.
        event: The cost event that it becomes, without the amount. It has its key, its
            timestamp and its customer.
        observation: The provider's report, which price lists read.
    """

    state: State
    reason: str
    message: str
    kept_at: str
    currency: str
    event: msgspec.Raw
    observation: msgspec.Raw
