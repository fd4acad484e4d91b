"""Write totals in the columns of FOCUS 1.2.

FOCUS is the FinOps Open Cost and Usage Specification (focus.finops.org, version 1.2).
A row is the cost of one metric, customer and set of dimensions on one day. Corrections
are rows of their own.

``InvoiceId`` is null until a saved reconciliation matches the events of a row with an
invoice (`invoiced_costs`). ``ChargeClass`` is null, because the validator's rules
accept no row with ``Correction``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._metering.decimals import format_plain
from outlay.server._services.export_rows import DAY, decode_texts, encode_json
from outlay.server._wire.response_models import (
    from_microseconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from outlay.server._services.export_rows import GroupTotal, Row

FOCUS_COLUMNS: Final = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "CommitmentDiscountStatus",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "Tags",
    "x_AmountStatus",
    "x_CostMetricId",
    "x_CustomerId",
)

_STATUS: Final = "x_AmountStatus"
_CUSTOMER: Final = "customer"
FOCUS_DIMENSIONS: Final = {_STATUS: "$.provenance"}
"""The dimension that FOCUS rows have beside those of the metric."""

# Categories and subcategories of FOCUS 1.2, by the start of the event type.
_SERVICES: Final = (
    ("cost.ai.", "AI and Machine Learning", "Generative AI"),
    ("cost.documents.", "AI and Machine Learning", "Other (AI and Machine Learning)"),
    ("cost.messaging", "Other", "Other (Other)"),
)
_OTHER: Final = ("Other", "Other (Other)")
_REMEMBERED_DAYS: Final = 512
_REMEMBERED_LABELS: Final = 4096
_DEFAULT_STATUS: Final = {True: "reported", False: "manual"}
_RECONCILED: Final = "reconciled"
_UNKNOWN: Final = "unknown"
_EVENTS_UNIT: Final = "Requests"


class _Labels(NamedTuple):
    """The texts that the rows of one set of dimensions share.

    Attributes:
        provider: The value of the dimension ``provider``.
        status: The status of the amounts, or '' if the events do not say it.
        tags: The start of a JSON object with the other dimensions.
    """

    provider: str
    status: str
    tags: str


def focus_rows(total: GroupTotal) -> Sequence[Row]:
    """Return the usage of a total, and its corrections if there are any.

    Only quantities that add up have rows: the cost of a maximum has no parts.
    """
    if not total.metric.can_subtract or total.metric.aggregation == "AVG":
        return ()
    rows: list[Row] = []
    if total.gross or total.events > 0:
        rows.append(_row(total, total.gross, is_usage=True))
    if total.gross is not total.cost and total.corrections:
        rows.append(_row(total, total.corrections, is_usage=False))
    return rows


def _row(total: GroupTotal, amount: Decimal, *, is_usage: bool) -> Row:
    """Return the values of `FOCUS_COLUMNS`, in this order."""
    cost = total.metric.cost
    text = format_plain(amount)
    start, end = _month(total.day)
    provider, status, tags = _labels(total.dimensions.text)
    category, subcategory = _service(cost.event_type or "")
    quantity, unit = _usage(total) if is_usage else ("", "")
    description = f"{cost.name} of {provider}"
    customer = encode_json(total.customer).decode()
    return (
        text,
        cost.namespace,
        cost.namespace,
        cost.currency,
        end,
        start,
        "Usage" if is_usage else "Adjustment",
        "",
        description if is_usage else f"Corrections of {description}",
        "Usage-Based" if is_usage else "One-Time",
        _instant(total.day + DAY),
        _instant(total.day),
        # Null, because there are no commitments. Rules about quantities read it.
        "",
        quantity,
        unit,
        text,
        text,
        total.invoice,
        provider,
        text,
        quantity,
        unit,
        provider,
        provider,
        category,
        cost.name,
        subcategory,
        f'{tags}"customer":{customer}}}',
        _RECONCILED
        if total.invoice
        # An event of another client than outlay's does not say it.
        else (is_usage and status) or _DEFAULT_STATUS[is_usage],
        cost.id,
        total.customer,
    )


@lru_cache(maxsize=_REMEMBERED_LABELS)
def _labels(dimensions: str) -> _Labels:
    """Return the texts of dimensions, from their JSON."""
    values = decode_texts(dimensions)
    tags = {
        name: value
        for name, value in values.items()
        # The customer of the row replaces a dimension of the same name.
        if value and name not in {_STATUS, _CUSTOMER}
    }
    start = encode_json(tags).decode().removesuffix("}")
    return _Labels(
        values.get("provider") or _UNKNOWN,
        values[_STATUS],
        f"{start}," if tags else start,
    )


def _usage(total: GroupTotal) -> tuple[str, str]:
    """Return the quantity and the unit of a usage.

    A metric whose value is money has no unit. Its usage is the number of events.
    """
    unit = total.metric.cost.unit
    quantity = format_plain(total.quantity) if unit else str(max(total.events, 0))
    # Readers take a column without any decimal point for integers, which FOCUS refuses.
    return quantity if "." in quantity else f"{quantity}.0", unit or _EVENTS_UNIT


@lru_cache(maxsize=_REMEMBERED_DAYS)
def _service(event_type: str) -> tuple[str, str]:
    for start, category, subcategory in _SERVICES:
        if event_type.startswith(start):
            return category, subcategory
    return _OTHER


@lru_cache(maxsize=_REMEMBERED_DAYS)
def _month(at: int) -> tuple[str, str]:
    """Return the start and the end of the month of an instant."""
    day = from_microseconds(at)
    start = datetime(day.year, day.month, 1, tzinfo=UTC)
    year, month = divmod(day.year * 12 + day.month, 12)
    return _text(start), _text(datetime(year, month + 1, 1, tzinfo=UTC))


@lru_cache(maxsize=_REMEMBERED_DAYS)
def _instant(at: int) -> str:
    return _text(from_microseconds(at))


def _text(moment: datetime) -> str:
    """Return the form of FOCUS: UTC, in seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
