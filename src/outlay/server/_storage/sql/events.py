"""The columns of an event, in the order of `Event`."""

from __future__ import annotations

from typing import Final

EVENT_COLUMNS: Final = (
    "id, namespace, key, type, source, subject, external_subject, external_id, at, data"
)
CUSTOMER_COLUMN: Final = "coalesce(nullif(subject, ''), external_subject, '')"
"""The customer of an event, as `Event.customer`."""

READING_COLUMNS: Final = f"seq, at, {CUSTOMER_COLUMN}, data"
"""The columns of an event that a metric reads."""
