"""The values that the steps of the recorder pass on."""

from __future__ import annotations

import enum
from datetime import datetime

import msgspec

from outlay._capture.observation import Observation
from outlay._capture.pricing import PricedAmount, PriceUnknown
from outlay._journal.unpriced_store import StoredCost
from outlay._model.attribution import Attribution
from outlay._receipt import Receipt


class CapturedCost(msgspec.Struct, frozen=True):
    """An observation, and whose cost it is.

    Attributes:
        observation: The observation, with its operation id if it has any.
        attribution: The customer and the labels of the cost.
        at: The time when the cost arose, aware. It selects the price.
    """

    observation: Observation
    attribution: Attribution
    at: datetime


class Action(enum.Enum):
    """The step that a captured cost takes next."""

    TRACK = enum.auto()
    STORE_UNPRICED = enum.auto()
    SKIP = enum.auto()


class StoredUnpriced(msgspec.Struct, frozen=True):
    """A cost that was stored without a price.

    Attributes:
        stored: Its place in the store of unpriced costs.
        is_priceable: Whether only the price is missing.
    """

    stored: StoredCost
    is_priceable: bool


class Decision(msgspec.Struct, frozen=True):
    """A captured cost, its price, and the step that it takes next.

    Attributes:
        cost: The captured cost.
        price: The price, or the reason why it is not known.
        action: The step that the cost takes next.
        identity: The fields that all observations of the cost share. None, if the cost
            has no operation id.
        replaces: The unpriced cost of the same operation that this one replaces.
    """

    cost: CapturedCost
    price: PricedAmount | PriceUnknown
    action: Action
    identity: tuple[object, ...] | None = None
    replaces: StoredUnpriced | None = None


class Outcome(msgspec.Struct, frozen=True):
    """A decision that was carried out.

    Attributes:
        decision: The decision.
        receipt: The receipt of the tracked event. None, if none was tracked.
        stored: The stored unpriced cost. None, if none was stored.
    """

    decision: Decision
    receipt: Receipt | None = None
    stored: StoredCost | None = None
