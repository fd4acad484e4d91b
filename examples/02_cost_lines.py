"""One operation, several costs: give each its own line, and all of them count.

You will see a meeting's three costs add up to 0.4321 USD, although its job runs twice.
"""

from decimal import Decimal
from tempfile import TemporaryDirectory

import httpx

import outlay
from outlay.server import BackgroundServer, ServerSettings

EVER = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
PATHS = {"valueProperty": "$.amount", "groupBy": {"line": "$.line"}}
LINES = {  # line: quantity, unit, and the price of one
    "transcription": (48, "minute", Decimal("0.006")),
    "summary": (9070, "token", Decimal("0.00001")),
    "storage": (5, "day", Decimal("0.01068")),
}


def process_meeting(client: outlay.Client, meeting: str) -> None:
    """Do the work, then track what each part of it cost."""
    for line, (quantity, unit, price) in LINES.items():
        client.track_cost(
            "cost.meeting",
            quantity * price,
            customer_id="cus_123",
            operation_id=meeting,
            line=line,
            quantity=quantity,
            unit=unit,
        )


def main() -> None:
    """Process a meeting; the job queue runs it twice."""
    with (
        BackgroundServer(ServerSettings(port=0, database=":memory:")) as server,
        httpx.Client(base_url=server.url) as http,
        TemporaryDirectory() as folder,
    ):
        http.headers["Authorization"] = f"Bearer {server.api_key}"
        metric = {"name": "Meetings", "eventType": "cost.meeting"}
        cost = http.post("/v0/costMetrics", json=metric | PATHS).json()
        with outlay.Client(
            base_url=server.url, api_key=server.api_key, journal_dir=folder
        ) as client:
            for _ in range(2):
                process_meeting(client, "meeting-7")
        query = EVER | {"groupBy": "line"}
        summary = http.get(f"/v0/costs/{cost['id']}/summary", params=query).json()
        for group in summary["groups"]:
            print(f"{group['dimensions']['line']:<14}{group['costExact']}")
        print(f"{'total':<14}{summary['totalCostExact']}")


if __name__ == "__main__":
    main()
