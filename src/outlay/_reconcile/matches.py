"""Name the costs that agree with a bill, so that a later reader finds them again.

A *match* is a digest of 16 bytes. It names an operation, or all costs of a day that
share an event type, a model and a kind of unit. A million of them are small, and they
show nothing of the operations.
"""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import tzinfo

    from outlay._reconcile.values import Cost

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

MATCH_BYTES: Final = 16
"""The length of a match."""


class CostGroup(NamedTuple):
    """The fields that the costs of a match share.

    Attributes:
        day: The day in the bill's time zone, or the month.
    """

    day: str
    event_type: str
    model: str
    kind: str

    @property
    def match(self) -> bytes:
        """The digest of the group."""
        return _group_match(self)


@lru_cache(maxsize=4096)
def _group_match(group: CostGroup) -> bytes:
    """Return the digest of a group. Many costs in a row share one."""
    return _digest(*group)


def operation_match(operation_id: str) -> bytes:
    """Return the digest of an operation."""
    return _digest(operation_id)


class CostMatches:
    """Finds the matches that would stand for a cost.

    Args:
        zone: The time zone of the bill's days.
        period: The unit of comparison, ``day`` or ``month``.
    """

    def __init__(self, zone: tzinfo, period: str) -> None:
        self._zone = zone
        self._length = len("2026-10" if period == "month" else "2026-10-01")

    def day(self, cost: Cost) -> str:
        """Return the day or month of a cost."""
        return cost.at.astimezone(self._zone).date().isoformat()[: self._length]

    def group(self, cost: Cost) -> CostGroup:
        """Return the group of a cost."""
        return CostGroup(self.day(cost), cost.event_type, cost.model, cost.kind)

    def of(self, cost: Cost) -> tuple[bytes, ...]:
        """Return the matches of which any one says that the cost agrees."""
        group = self.group(cost).match
        if cost.operation_id:
            return operation_match(cost.operation_id), group
        return (group,)


def _digest(*names: str) -> bytes:
    text = _encode(names)
    # A lone surrogate can stand in JSON, and in no UTF-8.
    return blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=MATCH_BYTES
    ).digest()
