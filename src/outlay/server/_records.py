"""The values that the store keeps: events, costs, products, API keys."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import msgspec

MICROSECONDS_PER_HOUR: Final = 3_600_000_000


class Aggregation(StrEnum):
    """The way in which the values of many events become one quantity."""

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
        id: The server's id of the event, ``evt_…``.
        at: The time of the operation, in microseconds since 1970, UTC.
        data: The JSON object exactly as it was sent.
        fields: The decoded ``data``, its numbers as int or exact Decimal. Empty in an
            event that was read from the database.
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
        """The customer of the cost: the subject, or else the caller's own id."""
        return self.subject or self.external_subject or ""


class ReceivedEvent(msgspec.Struct, frozen=True, gc=False):
    """A stored event, and the time of its receipt.

    Attributes:
        event: The event.
        received_at: The time of receipt, in microseconds since 1970.
    """

    event: Event
    received_at: int


class IngestResult(msgspec.Struct, frozen=True, gc=False):
    """The outcome of one event that was given to the store.

    Attributes:
        event: The stored event: the given one, or the first one with its key.
        duplicate: Whether the key was received before, within the dedupe window.
        conflict: Whether a duplicate differs from the first event with its key.
    """

    event: Event
    duplicate: bool = False
    conflict: bool = False


class BillableFields(msgspec.Struct, frozen=True):
    """The fields of a billable metric that a cost does not have.

    Attributes:
        item_id: The item that is billed, or None.
        event_from: The first instant whose events count, in microseconds since 1970.
            If None, all events count.
    """

    description: str
    item_id: str | None = None
    event_from: int | None = None


class CostMetric(msgspec.Struct, frozen=True):
    """A cost metric: which events count, and what they cost.

    A billable metric has the same definition, but no price. Its unit cost is 1, and its
    currency is empty.

    Attributes:
        unit_cost: The price of one unit of quantity, in major units of ``currency``.
        event_type: The type of the events that count. If None, no event counts.
        aggregation: The aggregation of their values. If None, there is no quantity.
        value_property: The JSONPath of the value inside ``data``.
        group_by: The JSONPath of each dimension, by the dimension's name.
        created_at: The time of creation, in microseconds since 1970.
        updated_at: The time of the last change, in microseconds since 1970.
        billable: The other fields of a billable metric. None for a cost.
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
    billable: BillableFields | None = None

    def has_same_quantities(self, other: CostMetric) -> bool:
        """Return whether both have the same quantities, whatever their prices."""
        return (
            self.event_type == other.event_type
            and self.currency == other.currency
            and self.aggregation == other.aggregation
            and self.value_property == other.value_property
            and dict(self.group_by) == dict(other.group_by)
        )


class Product(msgspec.Struct, frozen=True):
    """A product that is sold. Each cost belongs to one."""

    id: str
    namespace: str
    name: str
    description: str
    metadata: Mapping[str, str]
    created_at: int
    updated_at: int


class Erasure(msgspec.Struct, frozen=True):
    """A running replacement of a customer's id. It does not have the id.

    Attributes:
        pseudonym: The text in the place of the id.
        started_at: The time of its start, in microseconds since 1970.
    """

    pseudonym: str
    started_at: int


class Retention(msgspec.Struct, frozen=True):
    """The time for which an organization's events are kept.

    Attributes:
        keep: The time in microseconds. None keeps them without a limit.
        deleted_before: The time before which events may be gone, in microseconds since
            1970. None if none is.
    """

    keep: int | None = None
    deleted_before: int | None = None


class ApiKey(msgspec.Struct, frozen=True):
    """An API key's permissions. Only the SHA-256 of the key is stored.

    Attributes:
        digest: The SHA-256 of the key.
        permissions: The permissions, such as ``events:create``. ``*`` means all.
        created_at: The time of creation, in microseconds since 1970.
        id: The public id, ``key_…``. '' for a key that is not stored.
        hint: The last characters of the key, by which its owner recognizes it.
        expires_at: The first instant at which it is refused. If None, there is none.
        revoked_at: The time at which it was revoked. None if it was not.
        last_used_at: The time of its last use, to the minute. None if it was not used.
    """

    digest: bytes
    name: str
    namespace: str
    permissions: frozenset[str]
    created_at: int
    id: str = ""
    hint: str = ""
    expires_at: int | None = None
    revoked_at: int | None = None
    last_used_at: int | None = None

    def is_valid(self, now: int) -> bool:
        """Return whether a request at ``now``, in microseconds, may use the key."""
        return self.revoked_at is None and (
            self.expires_at is None or now < self.expires_at
        )


class RevenueLine(msgspec.Struct, frozen=True, gc=False):
    """The revenue of one customer in one period, from one source.

    Attributes:
        key: The identity of the line within its source, such as an invoice's number.
        start: The start of the period, in microseconds since 1970.
        end: The first instant after the period, in the same unit.
        amount: The revenue. It is negative for a credit note.
        source: The system that the line comes from, such as ``stripe``.
    """

    key: str
    customer: str
    start: int
    end: int
    amount: Decimal
    currency: str
    source: str


class StoredRevenue(msgspec.Struct, frozen=True, gc=False):
    """A line of revenue with its history.

    Attributes:
        import_id: The import that brought the line.
        received_at: The completion of that import, in microseconds since 1970.
        received_by: The name of the API key that sent the import.
        is_current: Whether no later import replaced the line.
    """

    line: RevenueLine
    import_id: str
    received_at: int
    received_by: str
    is_current: bool


class Rate(msgspec.Struct, frozen=True, gc=False):
    """The price of one unit of a currency in another one.

    Attributes:
        valid_from: The first instant at which the rate is valid, in microseconds since
            1970. It is valid until the next one of its pair.
        source: The publisher of the rate, such as ``ECB``.
    """

    from_currency: str
    to_currency: str
    rate: Decimal
    valid_from: int
    source: str


class Customer(msgspec.Struct, frozen=True, gc=False):
    """A customer with a display name."""

    id: str
    name: str
    created_at: int
    updated_at: int


class CorrectionKind(StrEnum):
    """The effect of a correction on its event."""

    VOID = "void"
    ADJUST = "adjust"
    REVERT = "revert"


class Correction(msgspec.Struct, frozen=True, gc=False):
    """A record that changes what an event counts. The event itself never changes.

    Attributes:
        id: The correction's id, ``cor_…``.
        key: The idempotency key.
        event_id: The id of the corrected event.
        reason: The reason, for people.
        created_at: The time of the correction, in microseconds since 1970.
        created_by: The name of the API key.
        cost_id: The cost metric of an adjustment. Otherwise None.
        delta: The amount that an adjustment adds to the metric's value.
        reverts: The id of the reverted correction. Otherwise None.
    """

    id: str
    namespace: str
    key: str
    kind: CorrectionKind
    event_id: str
    reason: str
    created_at: int
    created_by: str
    cost_id: str | None = None
    delta: Decimal | None = None
    reverts: str | None = None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A part of what an event counts, beside its own amount at its own time.

    Attributes:
        effective_at: The time at which it counts, in microseconds since 1970.
        sign: 1 or -1 if the event counts once more or once less. Otherwise 0.
        cost_id: The cost metric of an adjustment. If None, all metrics count it.
        delta: The amount of an adjustment.
        closed_start: The start of the closed period that it adjusts. None if it counts
            at the time of its event.
    """

    effective_at: int
    sign: int
    cost_id: str | None = None
    delta: Decimal | None = None
    closed_start: int | None = None


class ClosedPeriod(msgspec.Struct, frozen=True, gc=False):
    """A period whose figures no longer change, ``start <= t < end``."""

    start: int
    end: int
    closed_at: int
    closed_by: str


class Withdrawal(msgspec.Struct, frozen=True):
    """The end of a saved reconciliation, which stays on record.

    Attributes:
        at: The time from which the reconciliation does not count, in microseconds
            since 1970.
        by: The name of the API key.
    """

    at: int
    by: str
    reason: str


class SavedReconciliation(msgspec.Struct, frozen=True):
    """A reconciliation with a provider's bill, whose matches are stored.

    Attributes:
        invoice_id: The provider's id of the invoice.
        provider: The provider, as events name it.
        currency: The currency of the bill.
        zone: The IANA time zone of the bill's days.
        period: The unit of comparison, ``day`` or ``month``.
        first: The first day or month, such as ``2026-10-01``.
        last: The last day or month.
        as_of: The last instant of receipt that counts, in microseconds since 1970.
        saved_by: The name of the API key that saved it.
        saved_at: The time from which it counts, in microseconds since 1970. None, while
            matches are still added.
        bill: The sum of the charges.
        tracked: The sum of the tracked costs.
        reconciled: The sum of the tracked costs that match.
        charges: The number of charges. None, if it is not known.
        reconciled_charges: The number of charges that match. None, if it is not known.
        withdrawal: The end. None, while it counts.
    """

    id: str
    namespace: str
    invoice_id: str
    provider: str
    currency: str
    zone: str
    period: str
    first: str
    last: str
    as_of: int
    saved_by: str
    saved_at: int | None = None
    bill: Decimal = Decimal()
    tracked: Decimal = Decimal()
    reconciled: Decimal = Decimal()
    charges: int | None = None
    reconciled_charges: int | None = None
    withdrawal: Withdrawal | None = None

    def counts(self, as_of: int | None = None) -> bool:
        """Return whether it counts, now or at a time in microseconds since 1970."""
        saved, end = self.saved_at, self.withdrawal
        if as_of is None:
            return saved is not None and end is None
        return saved is not None and saved <= as_of and (end is None or as_of < end.at)


class BudgetPeriod(StrEnum):
    """The length of a budget's periods, in its time zone. A week starts on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Budget(msgspec.Struct, frozen=True):
    """A limit for the costs of a period, as information: nothing is refused.

    Attributes:
        amount: The limit, in major units of ``currency``.
        zone: The IANA name of the time zone in which periods begin.
        customer: The customer whose costs count. If None, those of all count.
        dimensions: The value that a cost must have, by the dimension's name.
        thresholds: The percentages of the limit that are reported, ascending.
        revision: A text that changes with the limit, the period or the costs that
            count. Each threshold is reported once for each revision and period.
        revised_at: The time of the last such change, in microseconds since 1970.
        created_at: The time of creation, in the same unit.
        updated_at: The time of the last change, in the same unit.
    """

    id: str
    namespace: str
    name: str
    amount: Decimal
    currency: str
    period: BudgetPeriod
    zone: str
    customer: str | None
    dimensions: Mapping[str, str]
    thresholds: tuple[int, ...]
    revision: str
    revised_at: int
    created_at: int
    updated_at: int

    def has_same_limit(self, other: Budget) -> bool:
        """Return whether both have the same limit for the same costs and periods."""
        return (
            self.amount == other.amount
            and self.currency == other.currency
            and self.period == other.period
            and self.zone == other.zone
            and self.customer == other.customer
            and dict(self.dimensions) == dict(other.dimensions)
        )


class PassedThreshold(msgspec.Struct, frozen=True):
    """The record that the costs of a budget reached a threshold in a period.

    Attributes:
        revision: The revision of the budget.
        start: The start of the period, in microseconds since 1970.
        percent: The threshold.
        spent: The costs of the period at that time.
        passed_at: The time at which the server found it, in microseconds since 1970.
        message_id: The id of the message about it, ``msg_…``.
        message: The body of the message.
    """

    namespace: str
    budget_id: str
    revision: str
    start: int
    percent: int
    spent: Decimal
    passed_at: int
    message_id: str
    message: str


class OldSecret(msgspec.Struct, frozen=True):
    """A secret that a rotation has replaced, and that signs messages for a while.

    Attributes:
        secret: The key of the signatures.
        until: The time from which it signs no more, in microseconds since 1970.
    """

    secret: bytes
    until: int

    def __repr__(self) -> str:
        return f"OldSecret(until={self.until!r})"  # never the secret


class Webhook(msgspec.Struct, frozen=True):
    """An address that receives messages, and the state of its deliveries.

    Attributes:
        secret: The key of the signatures. It is in no log and in no error.
        failures: The number of failed attempts since the last success.
        last_error: The reason of the last failure. '' after a success.
        failing_since: The time of the first of these failures, in microseconds since
            1970. None without failures.
        delivered_at: The time of the last success, in the same unit. None without one.
        attempt_at: The earliest time of the next attempt, in the same unit.
        disabled_at: The time from which nothing is sent, in the same unit. None while
            messages are sent.
        old_secrets: The secrets before the current one, the newest first. Some of them
            may have ended.
    """

    id: str
    namespace: str
    url: str
    secret: bytes
    created_at: int
    failures: int = 0
    last_error: str = ""
    failing_since: int | None = None
    delivered_at: int | None = None
    attempt_at: int = 0
    disabled_at: int | None = None
    old_secrets: tuple[OldSecret, ...] = ()

    def secrets_at(self, now: int) -> tuple[bytes, ...]:
        """Return the secrets that sign a message at a time, the current one first."""
        old = (one.secret for one in self.old_secrets if now < one.until)
        return (self.secret, *old)

    def rotated(self, secret: bytes, now: int, until: int) -> Webhook:
        """Return the webhook with another secret.

        Args:
            secret: The new secret.
            now: The time of the rotation, in microseconds since 1970.
            until: The time until which the current secret signs as well.
        """
        still = [one for one in self.old_secrets if now < one.until]
        return msgspec.structs.replace(
            self,
            secret=secret,
            old_secrets=(OldSecret(self.secret, until), *still),
        )

    def __repr__(self) -> str:
        return f"Webhook(id={self.id!r})"  # never the secret


class Delivery(msgspec.Struct, frozen=True):
    """A message that waits for its delivery to one webhook.

    Attributes:
        message_id: The id of the message. Each attempt has the same one.
        message: The body.
        attempts: The number of failed attempts.
        created_at: The time of the message, in microseconds since 1970.
    """

    message_id: str
    message: str
    webhook: Webhook
    attempts: int
    created_at: int
