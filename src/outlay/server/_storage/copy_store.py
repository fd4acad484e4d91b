"""The part of the seam that copies a whole store to one of another kind.

Events are copied in the order of their receipt, with their ids and times of receipt.
All other records have one form for every engine: rows of `RECORDS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from outlay.server._records import ReceivedEvent

Value: TypeAlias = str | int | bytes | None
"""Numbers with a fraction are plain decimal texts. Instants are microseconds."""

Row: TypeAlias = tuple[Value, ...]
"""The values of one record, in the order of its columns."""

RECORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "products": (
        "namespace", "id", "name", "description", "metadata", "created_at",
        "updated_at",
    ),
    "costs": (
        "id", "namespace", "name", "unit_cost", "currency", "product_id", "event_type",
        "aggregation", "value_property", "group_by", "unit", "created_at", "updated_at",
        "deleted_at", "billable",
    ),
    "api_keys": (
        "digest", "name", "namespace", "permissions", "created_at", "id", "hint",
        "expires_at", "revoked_at", "last_used_at",
    ),
    "corrections": (
        "id", "namespace", "key", "kind", "event_id", "reason", "created_at",
        "created_by", "cost_id", "delta", "reverts",
    ),
    "entries": (
        "correction", "namespace", "type", "event_id", "event_at", "customer", "data",
        "effective_at", "created_at", "sign", "cost_id", "delta", "closed_start",
    ),
    "closed_periods": ("namespace", "start_at", "end_at", "closed_at", "closed_by"),
    "revenue_imports": (
        "namespace", "id", "started_at", "completed_at", "received_by", "next_part",
        "digest", "added", "replaced", "unchanged",
    ),
    "revenue_lines": (
        "import", "namespace", "key", "customer", "start_at", "end_at", "amount",
        "currency", "source", "replaces",
    ),
    "rates": (
        "namespace", "from_currency", "to_currency", "rate", "valid_from", "source",
        "received_at", "received_by",
    ),
    "customers": ("namespace", "id", "name", "created_at", "updated_at"),
    "retention": ("namespace", "keep"),
    "budgets": (
        "namespace", "id", "name", "amount", "currency", "period", "zone", "customer",
        "dimensions", "thresholds", "revision", "revised_at", "created_at",
        "updated_at",
    ),
    "passed_thresholds": (
        "namespace", "budget", "revision", "start_at", "percent", "spent", "passed_at",
        "message_id", "message",
    ),
    "webhooks": (
        "id", "namespace", "url", "secret", "created_at", "failures", "last_error",
        "failing_since", "delivered_at", "attempt_at", "disabled_at", "old_secrets",
    ),
    "webhook_messages": (
        "webhook", "attempts", "created_at", "message_id", "message", "namespace",
        "budget",
    ),
    "reconciliations": (
        "id", "namespace", "invoice_id", "provider", "currency", "zone", "period",
        "first_day", "last_day", "as_of", "saved_by", "saved_at", "bill", "tracked",
        "reconciled", "charges", "reconciled_charges", "withdrawn_at", "withdrawn_by",
        "withdrawal_reason",
    ),
    "reconciliation_matches": ("reconciliation", "digest"),
}  # fmt: skip
"""The columns of each kind of record. A kind comes after those that it refers to.

An entry names its correction by id, a message its webhook, and a match its
reconciliation. A line of revenue names its import by id, and the line that it replaces
by its place in the list, from 1.
``permissions``, ``metadata``, ``group_by``, ``billable``, ``dimensions``,
``thresholds`` and ``old_secrets`` are JSON. Imports and reconciliations that were never
completed are left out.
"""


class CopyReader(Protocol):
    """Reads everything from one consistent view."""

    def obstacle(self) -> str | None:
        """Return why this store cannot be copied as a whole, or None.

        It is a clause for a message, with what to do.
        """
        ...

    def count_received(self, upto: str | None = None) -> int:
        """Return the number of events, or of those up to the event with an id.

        It is 0 if there is no such event.
        """
        ...

    def last_received(self) -> str | None:
        """Return the id of the event that was received last."""
        ...

    def received(self, after: str | None, limit: int) -> list[ReceivedEvent]:
        """Return the next events in the order of receipt.

        Args:
            after: The id of the event before them. None for the first events.
            limit: The largest number of events.
        """
        ...

    def records(self, kind: str) -> Iterator[Row]:
        """Yield the rows of a kind of `RECORDS`, the oldest first."""
        ...


class CopyWriter(Protocol):
    """Writes what another store had. No server may use the store meanwhile."""

    def import_events(self, events: Sequence[ReceivedEvent], now: int) -> None:
        """Store events as they were received, after all others, in one step.

        Keys and ids stay. No event is compared with earlier ones. A key that was
        received within the dedupe window before ``now`` is remembered.
        """
        ...

    def import_records(self, records: Iterable[tuple[str, Row]]) -> None:
        """Store rows of `RECORDS`, in their order, all or none.

        The store has none yet, and has all events.
        """
        ...
