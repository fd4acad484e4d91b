"""What the store keeps: events, costs, products, API keys. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import msgspec

MICROSECONDS_PER_HOUR: Final = 3_600_000_000


class Aggregation(StrEnum):
    """How the values of many events become one quantity."""

    SUM = "SUM"
    COUNT = "COUNT"
    AVG = "AVG"
    MIN = "MIN"
    MAX = "MAX"
    UNIQUE_COUNT = "UNIQUE_COUNT"
    LATEST = "LATEST"


class Event(msgspec.Struct, gc=False):
    """One accepted cost event.

    Attributes:
        id: the server's own name for it, ``evt_…``.
        at: when the operation happened, in microseconds since 1970, UTC.
        data: the JSON object as it was sent, to the letter.
        fields: ``data`` decoded, its numbers as int or exact Decimal; empty when the
            event was read back.
    """

    id: str
    namespace: str
    key: str
    type: str
    source: str
    subject: str | None
    external_subject: str | None
    external_id: str | None
    at: int
    data: str
    fields: dict[str, Any] = {}

    @property
    def customer(self) -> str:
        """Who the cost is attributed to: the subject, else the caller's own id."""
        return self.subject or self.external_subject or ""


class IngestResult(msgspec.Struct, frozen=True, gc=False):
    """What became of one event handed to the store.

    Attributes:
        event: the stored event: the one handed in, or the first with its key.
        duplicate: the key was received before, within the dedupe window.
        conflict: a duplicate that says something else than the first did.
    """

    event: Event
    duplicate: bool = False
    conflict: bool = False


class CostMetric(msgspec.Struct, frozen=True):
    """A cost metric: which events count, and what they cost.

    Attributes:
        unit_cost: price of one unit of quantity, in major units of ``currency``.
        event_type: the events it reads; None reads none.
        aggregation: None computes nothing.
        value_property: JSONPath of the value inside ``data``.
        group_by: dimension name to JSONPath.
        created_at: microseconds since 1970, as `updated_at`.
    """

    id: str
    namespace: str
    name: str
    unit_cost: Decimal
    currency: str
    product_id: str
    event_type: str | None
    aggregation: Aggregation | None
    value_property: str | None
    group_by: Mapping[str, str]
    unit: str | None
    created_at: int
    updated_at: int

    def has_same_quantities(self, other: CostMetric) -> bool:
        """Say whether both give the same quantities, whatever their price."""
        return (
            self.event_type == other.event_type
            and self.aggregation == other.aggregation
            and self.value_property == other.value_property
            and dict(self.group_by) == dict(other.group_by)
        )


class Product(msgspec.Struct, frozen=True):
    """What is sold; a cost belongs to one."""

    id: str
    namespace: str
    name: str
    description: str
    metadata: Mapping[str, str]
    created_at: int
    updated_at: int


class ApiKey(msgspec.Struct, frozen=True):
    """Who may do what. The key itself is not kept, only its SHA-256.

    Attributes:
        digest: SHA-256 of the key.
        permissions: such as ``events:create``; ``*`` is all.
    """

    digest: bytes
    name: str
    namespace: str
    permissions: frozenset[str]
    created_at: int
