"""The values of a reconciliation: charges of a bill, tracked costs, and the result."""

from __future__ import annotations

import enum
from collections.abc import Mapping  # noqa: TC003 - msgspec reads it
from datetime import datetime  # noqa: TC003 - msgspec reads it
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.errors import OutlayError

if TYPE_CHECKING:
    from collections.abc import Iterable

ZERO: Final = Decimal()
NO_QUANTITIES: Final[Mapping[str, Decimal]] = {}

# The default context would round to 28 digits.
_EXACT: Final = Context(prec=1000, traps=[Inexact, InvalidOperation])


class BillError(OutlayError):
    """A bill cannot be reconciled as it is. The message says what to do."""


class Category(enum.StrEnum):
    """The categories. Every cent of the bill and of the costs is in exactly one."""

    MATCHED = "matched"
    ROUNDING = "rounding"
    PRICE = "price"
    OURS_ONLY = "ours_only"
    BILL_ONLY = "bill_only"


class Cause(enum.StrEnum):
    """The probable cause of a difference."""

    NONE = ""
    DUPLICATE = "duplicate"
    REFUND = "refund"
    CREDIT = "credit"
    WRONG_DAY = "wrong_day"
    NOT_BILLED = "not_billed"
    NOT_CAPTURED = "not_captured"
    UNCLEAR = "unclear"


class Charge(NamedTuple):
    """One line of a bill, or of a usage report.

    Attributes:
        line: The number of the line or row in the file, from 1.
        day: The day in the bill's time zone, such as ``2026-10-31``, or the month.
        model: The model or service, by the bill's name. May be empty.
        unit: The unit in outlay's words, such as ``input_tokens``. May be empty.
        operation_id: The provider's id of the operation. May be empty.
        amount: The amount of money. Zero in a usage report.
        quantities: The quantities by unit.
        description: The bill's own words.
    """

    line: int
    day: str
    model: str
    unit: str
    operation_id: str
    amount: Decimal
    quantities: Mapping[str, Decimal] = NO_QUANTITIES
    description: str = ""


class Cost(NamedTuple):
    """One tracked event, net of its corrections.

    Attributes:
        event_id: The event's id on the server.
        at: The time of the operation, aware.
        event_type: The event type.
        model: The model. May be empty.
        operation_id: The operation id. May be empty.
        line: The name of one of several costs of the operation. May be empty.
        kind: The kind of unit that the amount is for. May be empty.
        amount: The net amount.
        quantities: The quantities by unit, each thing in one unit only. None, if they
            are not known.
        price: The origin of the amount, such as ``genai-prices 0.2.3``.
        provenance: ``reported``, ``priced`` or ``manual``. May be empty.
    """

    event_id: str
    at: datetime
    event_type: str
    model: str
    operation_id: str
    line: str
    kind: str
    amount: Decimal
    quantities: Mapping[str, Decimal] | None
    price: str = ""
    provenance: str = ""


class Row(NamedTuple):
    """A part of the bill and of the costs that is in one category.

    Attributes:
        category: The category.
        cause: The probable cause.
        day: The day in the bill's time zone, or the month.
        model: The model or service.
        unit: The kind of unit, such as ``tokens``.
        bill: The part of the bill.
        ours: The part of the tracked costs.
        charges: The number of charges behind it.
        events: The number of events behind it.
        note: The probable reason for the difference, as a sentence.
        operations: Some operation ids behind it.
    """

    category: Category
    cause: Cause
    day: str
    model: str
    unit: str
    bill: Decimal
    ours: Decimal
    charges: int = 0
    events: int = 0
    note: str = ""
    operations: tuple[str, ...] = ()

    @property
    def difference(self) -> Decimal:
        """The bill minus the tracked costs."""
        return subtract(self.bill, self.ours)

    @property
    def is_match(self) -> bool:
        """Whether both sides agree, up to the rounding of the bill."""
        return self.category in {Category.MATCHED, Category.ROUNDING}

    @property
    def key(self) -> tuple[Category, Cause, str, str, str]:
        """The fields that tell rows from each other."""
        return self.category, self.cause, self.day, self.model, self.unit


class PriceFix(NamedTuple):
    """A price book entry that would make the costs equal the bill.

    Attributes:
        model: The model.
        unit: The kind of unit.
        difference: The difference that it explains.
        priced_by: The origin of today's amounts.
        entry: The entry, as TOML to paste into a price book. Empty, if none can be
            computed.
        note: The advice, as a sentence.
    """

    model: str
    unit: str
    difference: Decimal
    priced_by: str
    entry: str
    note: str


class LeftOut(NamedTuple):
    """The charges that do not take part, and their sum."""

    charges: int
    amount: Decimal


class Result(NamedTuple):
    """A finished reconciliation.

    Attributes:
        provider: The provider.
        bill_format: The name of the bill's format.
        currency: The currency of all amounts.
        timezone: The time zone of the bill's days.
        first: The first day or month.
        last: The last day or month.
        bill_total: The sum of the charges.
        our_total: The sum of the tracked costs.
        charges: The number of charges.
        events: The number of events.
        left_out: The charges outside of the period, by reason.
        rows: The rows. Their sums are the totals.
        fixes: The price book entries that would remove price differences.
        hints: The advice, as sentences.
        has_services: Whether the bill names services instead of models.
    """

    provider: str
    bill_format: str
    currency: str
    timezone: str
    first: str
    last: str
    bill_total: Decimal
    our_total: Decimal
    charges: int
    events: int
    left_out: Mapping[str, LeftOut]
    rows: tuple[Row, ...]
    fixes: tuple[PriceFix, ...]
    hints: tuple[str, ...]
    has_services: bool = False

    @property
    def unexplained(self) -> Decimal:
        """The sum of all differences without their signs, but for rounding."""
        return total(row.difference.copy_abs() for row in self.rows if not row.is_match)

    def of(self, category: Category) -> tuple[Row, ...]:
        """Return the rows of a category."""
        return tuple(row for row in self.rows if row.category is category)


def add(one: Decimal, other: Decimal) -> Decimal:
    """Return the exact sum."""
    return _EXACT.add(one, other)


def subtract(one: Decimal, other: Decimal) -> Decimal:
    """Return the exact difference."""
    return _EXACT.subtract(one, other)


def multiply(one: Decimal, other: Decimal) -> Decimal:
    """Return the exact product."""
    return _EXACT.multiply(one, other)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of all."""
    found = ZERO
    for amount in amounts:
        found = _EXACT.add(found, amount)
    return found


def plain(amount: Decimal) -> str:
    """Return all digits of ``amount``, without an exponent or zeros at the end."""
    text = format(amount, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
