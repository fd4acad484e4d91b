# ruff: noqa: E501 - lines of files as vendors write them
"""Bills of vendors in their published forms, and costs to compare them with.

No real bill was at hand. ``outlay/_reconcile/bill_formats.toml`` names the page that
each form rests on.
"""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay._reconcile.costs import CostReader, NetAmounts
from outlay._reconcile.joining import Reconciliation
from outlay._reconcile.reading import BillOptions, open_bill

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outlay._reconcile.bill_formats import BillFormat
    from outlay._reconcile.reading import Bill
    from outlay._reconcile.values import Cost, Result

NO_OPTIONS: Final = BillOptions()


def bill_of(
    content: str | bytes | object,
    options: BillOptions = NO_OPTIONS,
    mapping: BillFormat | None = None,
    name: str = "bill",
) -> Bill:
    """Return a bill of a text, of bytes, or of an object that becomes JSON."""
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    body = content.encode() if isinstance(content, str) else content
    return open_bill(name, lambda: io.BytesIO(body), options, mapping)


def cost_of(
    day: str,
    amount: str,
    *,
    provider: str = "openai",
    event_id: str = "",
    event_type: str = "cost.ai.inference",
    **data: Any,  # noqa: ANN401 - the data of an event
) -> Cost:
    """Return the cost of an event at noon of a day, or at a time."""
    at = datetime.fromisoformat(day if "T" in day else f"{day}T12:00:00")
    at = at.replace(tzinfo=at.tzinfo or UTC)
    reader = CostReader(provider, "USD", "USD", NetAmounts((), {}, "USD"))
    cost = reader.read(
        event_id, at, event_type, {"provider": provider, "amount": amount, **data}
    )
    assert cost is not None
    return cost


def reconcile(
    bill: Bill,
    costs: Iterable[Cost],
    usage: Sequence[Bill] = (),
    span: tuple[str, str] | None = None,
) -> Result:
    """Return the result of a reconciliation, whose sums are checked."""
    with Reconciliation(bill, usage, span) as reconciliation:
        for cost in costs:
            reconciliation.add_cost(cost)
        result = reconciliation.result()
    assert sum((row.bill for row in result.rows), Decimal()) == result.bill_total
    assert sum((row.ours for row in result.rows), Decimal()) == result.our_total
    return result


def openai_costs(*results: tuple[str, str, str, int | None]) -> dict[str, Any]:
    """Return a page of ``GET /v1/organization/costs``, grouped by line item.

    Args:
        results: The day, the line item, the amount and the quantity of each result.
    """
    days: dict[str, list[dict[str, Any]]] = {}
    for day, line_item, amount, quantity in results:
        days.setdefault(day, []).append(
            {
                "object": "organization.costs.result",
                "amount": {"value": float(amount), "currency": "usd"},
                "line_item": line_item,
                "project_id": None,
                "api_key_id": None,
                "quantity": quantity,
            }
        )
    return {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": _seconds(day),
                "end_time": _seconds(day) + 86_400,
                "results": found,
            }
            for day, found in days.items()
        ],
        "has_more": False,
        "next_page": None,
    }


def anthropic_costs(*results: tuple[str, str, str, str]) -> dict[str, Any]:
    """Return a page of ``GET /v1/organizations/cost_report``, grouped by description.

    Args:
        results: The day, the model, the token type and the amount in cents.
    """
    days: dict[str, list[dict[str, Any]]] = {}
    for day, model, token_type, cents in results:
        days.setdefault(day, []).append(
            {
                "amount": cents,
                "context_window": "0-200k",
                "cost_type": "tokens",
                "currency": "USD",
                "description": f"{model} Usage - {token_type}",
                "inference_geo": None,
                "model": model,
                "service_tier": "standard",
                "token_type": token_type,
                "workspace_id": None,
            }
        )
    return {
        "data": [
            {
                "starting_at": f"{day}T00:00:00Z",
                "ending_at": f"{_next(day)}T00:00:00Z",
                "results": found,
            }
            for day, found in days.items()
        ],
        "has_more": False,
        "next_page": None,
    }


def anthropic_usage(day: str, model: str, **counts: int) -> dict[str, Any]:
    """Return a page of ``GET /v1/organizations/usage_report/messages``."""
    return {
        "data": [
            {
                "starting_at": f"{day}T00:00:00Z",
                "ending_at": f"{_next(day)}T00:00:00Z",
                "results": [
                    {
                        "uncached_input_tokens": counts.get("input", 0),
                        "cache_creation": {
                            "ephemeral_1h_input_tokens": 0,
                            "ephemeral_5m_input_tokens": counts.get("written", 0),
                        },
                        "cache_read_input_tokens": counts.get("read", 0),
                        "output_tokens": counts.get("output", 0),
                        "server_tool_use": {"web_search_requests": 0},
                        "model": model,
                        "service_tier": "standard",
                        "context_window": "0-200k",
                        "api_key_id": None,
                        "workspace_id": None,
                    }
                ],
            }
        ],
        "has_more": False,
        "next_page": None,
    }


OPENAI_CSV: Final = """\
start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id,organization_id,organization_name
1791763200,1791849600,2026-10-12T00:00:00+00:00,2026-10-13T00:00:00+00:00,2.5000000000000000,usd,"gpt-4o-2024-08-06, input",,org-x,Personal
1791763200,1791849600,2026-10-12T00:00:00+00:00,2026-10-13T00:00:00+00:00,1.00,usd,"gpt-4o-2024-08-06, output",,org-x,Personal
1791849600,1791936000,2026-10-13T00:00:00+00:00,2026-10-14T00:00:00+00:00,,,,,,
"""
"""An export of costs as the dashboard of OpenAI makes it. The last day has no charge."""

ANTHROPIC_CSV: Final = """\
usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type,inference_geo,speed
2026-10-12,Claude Haiku 4.5,Default,key,message,≤ 200k,input_no_cache,1.00,1.00,token,not_available,
2026-10-12,Claude Haiku 4.5,Default,key,message,≤ 200k,output,0.51,0.51,token,not_available,
"""
"""An export of costs as the Console of Anthropic makes it: with two decimals."""

AWS_CSV: Final = """\
identity/LineItemId,identity/TimeInterval,lineItem/LineItemType,lineItem/UsageStartDate,lineItem/UsageEndDate,lineItem/ProductCode,lineItem/UsageType,lineItem/UsageAmount,lineItem/CurrencyCode,lineItem/UnblendedCost
a,2026-10-12T00:00:00Z/2026-10-12T01:00:00Z,Usage,2026-10-12T00:00:00Z,2026-10-12T01:00:00Z,AmazonTextract,EUC1-SyncPagesProcessed,1000,USD,1.5000000000
b,2026-10-12T00:00:00Z/2026-10-12T01:00:00Z,Usage,2026-10-12T05:00:00Z,2026-10-12T06:00:00Z,AmazonBedrock,EUC1-NovaLite-input-tokens,2000,USD,0.0001200000
c,2026-10-12T00:00:00Z/2026-10-12T01:00:00Z,Usage,2026-10-12T05:00:00Z,2026-10-12T06:00:00Z,AmazonEC2,EUC1-BoxUsage:m5.large,1,USD,0.1150000000
"""
"""A Cost and Usage Report of one day, with a service that outlay does not capture."""

FOCUS_CSV: Final = """\
BilledCost,BillingCurrency,ChargeCategory,ChargeDescription,ChargePeriodStart,ChargePeriodEnd,ConsumedQuantity,ConsumedUnit,ProviderName,ServiceName
1.5,USD,Usage,Pages,2026-10-12T00:00:00Z,2026-10-13T00:00:00Z,1000,Pages,AWS,Amazon Textract
-0.5,USD,Credit,Promotion,2026-10-12T00:00:00Z,2026-10-13T00:00:00Z,,,AWS,Amazon S3
"""
"""Rows of FOCUS 1.2."""


def _seconds(day: str) -> int:
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())


def _next(day: str) -> str:
    at = datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() + 86_400
    return datetime.fromtimestamp(at, UTC).date().isoformat()
