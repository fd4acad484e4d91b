"""A small service: threads, two providers, and a monthly margin for each customer.

You will see what each customer cost, to the last digit: one of them more than they pay.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from tempfile import TemporaryDirectory

import httpx

import outlay
from outlay.server import BackgroundServer, ServerSettings

REVENUE = {"cus_amber": Decimal(49), "cus_birch": Decimal(49), "cus_cedar": Decimal(9)}
METRIC = {"name": "All", "eventType": "cost.request", "valueProperty": "$.amount"}
QUERY = "from=2026-10-01T00:00:00Z&to=2026-11-01T00:00:00Z&groupBy=subject"


def handle(number: int) -> None:
    """Serve a request of some customer; larger ones go to the dearer provider."""
    customer = ("cus_amber", "cus_birch", "cus_cedar", "cus_cedar")[number % 4]
    dear = number % 3 == 0
    outlay.track_cost(
        "cost.request",
        "0.035000001" if dear else "0.0213",
        customer_id=customer,
        operation_id=f"request-{number}",
        provider="anthropic" if dear else "openai",
        timestamp=datetime(2026, 10, 1 + number % 31, tzinfo=UTC),
    )


def report(http: httpx.Client, cost_id: str) -> None:
    """Print the margin of every customer."""
    summary = http.get(f"/v0/costs/{cost_id}/summary", params=QUERY).json()
    for group in summary["groups"]:
        customer, cost = group["dimensions"]["subject"], Decimal(group["costExact"])
        margin = REVENUE[customer] - cost
        print(f"{customer}: paid {REVENUE[customer]}, cost {cost}, margin {margin}")


def main() -> None:
    """Serve a month of requests, then report."""
    settings = ServerSettings(port=0, database=":memory:")
    with BackgroundServer(settings) as server, TemporaryDirectory() as folder:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        with httpx.Client(base_url=server.url, headers=headers) as http:
            cost = http.post("/v0/costMetrics", json=METRIC).json()
            key = server.api_key
            outlay.configure(base_url=server.url, api_key=key, journal_dir=folder)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(handle, range(2000)))
            outlay.close()
            report(http, cost["id"])


if __name__ == "__main__":
    main()
