"""Create cost metrics and read totals from Python.

`Api` waits for each response, and `AsyncApi` is the same for asyncio. Both work with
the reference server and with the live service. Amounts are exact `Decimal`.

Extensions of the reference server, which the live service does not have: the window
MONTH of a summary, several values of one dimension in ``where``, `Api.unmatched`, and
budgets.
"""

from __future__ import annotations

from outlay._shipping.budgets import BudgetStatus
from outlay.api._async import AsyncApi
from outlay.api._connection import EnsuredMetric
from outlay.api._models import (
    CUSTOMER,
    DEFAULT_PRODUCT,
    BucketWidth,
    Budget,
    BudgetFields,
    BudgetPeriod,
    BudgetState,
    BudgetWindow,
    CostMetric,
    EventCorrection,
    EventDetail,
    EventFilters,
    EventReceipt,
    EventUse,
    MetricChanges,
    MetricFields,
    Pagination,
    PriorPeriod,
    Product,
    Profitability,
    ProfitabilityRow,
    Report,
    ReportGroup,
    ReportOptions,
    ReportPoint,
    ReportSort,
    ReportWindow,
    StoredEvent,
    Summary,
    SummaryGroup,
    SummaryOptions,
    SummaryWindow,
    ThresholdPassed,
    Trend,
    UnmatchedType,
    Webhook,
    WebhookTest,
    Window,
)
from outlay.api._sync import Api

__all__ = (
    "CUSTOMER",
    "DEFAULT_PRODUCT",
    "Api",
    "AsyncApi",
    "BucketWidth",
    "Budget",
    "BudgetFields",
    "BudgetPeriod",
    "BudgetState",
    "BudgetStatus",
    "BudgetWindow",
    "CostMetric",
    "EnsuredMetric",
    "EventCorrection",
    "EventDetail",
    "EventFilters",
    "EventReceipt",
    "EventUse",
    "MetricChanges",
    "MetricFields",
    "Pagination",
    "PriorPeriod",
    "Product",
    "Profitability",
    "ProfitabilityRow",
    "Report",
    "ReportGroup",
    "ReportOptions",
    "ReportPoint",
    "ReportSort",
    "ReportWindow",
    "StoredEvent",
    "Summary",
    "SummaryGroup",
    "SummaryOptions",
    "SummaryWindow",
    "ThresholdPassed",
    "Trend",
    "UnmatchedType",
    "Webhook",
    "WebhookTest",
    "Window",
)
