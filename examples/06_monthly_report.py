"""A small service: threads, two providers, and a monthly margin for each customer.

You will see what each customer cost, to the last digit: one of them more than they pay.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from tempfile import TemporaryDirectory

import outlay
from outlay.api import Api, CostMetric
from outlay.server import BackgroundServer, ServerSettings

REVENUE = {"cus_amber": Decimal(49), "cus_birch": Decimal(49), "cus_cedar": Decimal(9)}
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


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
        timestamp=OCTOBER.replace(day=1 + number % 31),
    )


def report(api: Api, metric: CostMetric) -> None:
    """Print the margin of every customer."""
    for group in api.summary(metric, OCTOBER, NOVEMBER, by=["customer"]).groups:
        customer, cost = group.dimensions["customer"], group.cost
        margin = REVENUE[customer] - cost
        print(f"{customer}: paid {REVENUE[customer]}, cost {cost}, margin {margin}")


def main() -> None:
    """Serve a month of requests, then report."""
    settings = ServerSettings(port=0, database=":memory:")
    with BackgroundServer(settings) as server, TemporaryDirectory() as folder:
        key = server.api_key
        with Api(base_url=server.url, api_key=key) as api:
            metric = api.create_metric("All", "cost.request")
            outlay.configure(base_url=server.url, api_key=key, journal_dir=folder)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(handle, range(2000)))
            outlay.close()
            report(api, metric)


if __name__ == "__main__":
    main()
