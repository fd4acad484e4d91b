"""Track a first cost, twice by mistake, and read back that it was counted once.

You will see the key that both calls share, and a total of 0.0042 USD.
"""

from tempfile import TemporaryDirectory

import httpx

import outlay
from outlay.server import BackgroundServer, ServerSettings

EVER = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}


def main() -> None:
    """Start a server, say what counts, track, and ask for the total."""
    with (
        BackgroundServer(ServerSettings(port=0, database=":memory:")) as server,
        httpx.Client(base_url=server.url) as http,
        TemporaryDirectory() as folder,
    ):
        http.headers["Authorization"] = f"Bearer {server.api_key}"
        metric = {"name": "AI", "eventType": "cost.ai", "valueProperty": "$.amount"}
        cost = http.post("/v0/costMetrics", json=metric).json()

        outlay.configure(
            base_url=server.url, api_key=server.api_key, journal_dir=folder
        )
        for _ in range(2):
            receipt = outlay.track_cost(
                "cost.ai",
                "0.0042",
                customer_id="cus_123",
                operation_id="response-8d1f",  # the provider's id of what was done
                provider="anthropic",
            )
            print("tracked", receipt.idempotency_key)
        outlay.close()  # delivers what is left; at exit it happens by itself

        summary = http.get(f"/v0/costs/{cost['id']}/summary", params=EVER).json()
        print("total  ", summary["totalCostExact"], summary["currency"])


if __name__ == "__main__":
    main()
