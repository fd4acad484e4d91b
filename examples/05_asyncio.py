"""Track from an asynchronous application: the same call, and it never blocks.

You will see 200 concurrent tasks track their costs, and a total of 0.84 USD.
"""

import asyncio
from tempfile import TemporaryDirectory

import httpx

import outlay
from outlay.server import BackgroundServer, ServerSettings

EVER = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}


async def handle(client: outlay.Client, number: int) -> None:
    """Serve one request: ask a model, then track what it cost."""
    await asyncio.sleep(0)  # here it would await the provider's response
    client.track_cost(
        "cost.ai",
        "0.0042",
        customer_id=f"cus_{number % 5}",
        operation_id=f"response-{number}",
        provider="anthropic",
    )


async def serve_requests(base_url: str, api_key: str | None, folder: str) -> None:
    """Serve many requests at once; leaving the client delivers what is left."""
    async with outlay.Client(
        base_url=base_url, api_key=api_key, journal_dir=folder
    ) as client:
        await asyncio.gather(*(handle(client, number) for number in range(200)))
        print("tracked", client.stats().tracked)


def main() -> None:
    """Run the application beside a server."""
    with (
        BackgroundServer(ServerSettings(port=0, database=":memory:")) as server,
        httpx.Client(base_url=server.url) as http,
        TemporaryDirectory() as folder,
    ):
        http.headers["Authorization"] = f"Bearer {server.api_key}"
        metric = {"name": "AI", "eventType": "cost.ai", "valueProperty": "$.amount"}
        cost = http.post("/v0/costMetrics", json=metric).json()
        asyncio.run(serve_requests(server.url, server.api_key, folder))
        summary = http.get(f"/v0/costs/{cost['id']}/summary", params=EVER).json()
        print("total", summary["totalCostExact"], summary["currency"])


if __name__ == "__main__":
    main()
