"""Decorate what costs, and give the job around it an id: a retried job counts once.

You will see a job fail, its retry finish, and each of its costs counted: 0.1315 USD.
"""

from contextlib import suppress
from decimal import Decimal
from tempfile import TemporaryDirectory

import httpx

import outlay
from outlay.server import BackgroundServer, ServerSettings

EVER = "from=2000-01-01T00:00:00Z&to=2100-01-01T00:00:00Z"
METRIC = {"name": "All", "eventType": "cost.job", "valueProperty": "$.amount"}


@outlay.track_call("cost.job", amount="0.05", provider="clearbit")
def look_up(company: str) -> str:
    """Look it up. Each call costs the same."""
    return f"1 Main Street, {company}"


@outlay.track_call("cost.job", amount=lambda pages: len(pages) * Decimal("0.0015"))
def read_contract(company: str) -> list[str]:
    """Read a document. Its cost follows from its pages."""
    return [company] * 21


@outlay.operation("cost.job", operation_id="job", customer_id="customer")
def onboard(job: str, customer: str, *, fails: bool) -> None:
    """Do a job. Its calls have no ids, so theirs are derived from the job's."""
    read_contract(look_up(customer))
    if fails:
        raise TimeoutError(job)
    outlay.current_operation().add("0.05", line="identity check", provider="onfido")


def main() -> None:
    """Run the job, and run it again, because it failed."""
    settings = ServerSettings(port=0, database=":memory:")
    with BackgroundServer(settings) as server, TemporaryDirectory() as folder:
        http = httpx.Client(base_url=server.url)
        http.headers["Authorization"] = f"Bearer {server.api_key}"
        cost = http.post("/v0/costMetrics", json=METRIC).json()
        outlay.configure(
            base_url=server.url, api_key=server.api_key, journal_dir=folder
        )
        with suppress(TimeoutError):
            onboard("job-7", "cus_123", fails=True)
        print("failed, tracked", outlay.stats().tracked)
        onboard("job-7", "cus_123", fails=False)
        outlay.close()
        summary = http.get(f"/v0/costs/{cost['id']}/summary?{EVER}").json()
        print("total", summary["totalCostExact"], summary["currency"])


if __name__ == "__main__":
    main()
