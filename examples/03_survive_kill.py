"""Kill a process the moment it has tracked; the next one delivers what it left.

You will see a process die by SIGKILL with three events undelivered. The next process
finds them in the journal, and their total is 0.3 USD.
"""

import os
import signal
import subprocess
import sys
from tempfile import TemporaryDirectory

import httpx

import outlay
from outlay.server import BackgroundServer, ServerSettings

EVER = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}


def track_and_die(base_url: str, api_key: str, folder: str) -> None:
    """Track three costs, and die without a chance to clean up."""
    # Nothing is shipped, so it is certain that no event leaves before the kill.
    client = outlay.Client(
        base_url=base_url, api_key=api_key, journal_dir=folder, shipping="none"
    )
    for number in range(3):
        client.track_cost(
            "cost.ocr", "0.1", customer_id="cus_123", operation_id=f"page-{number}"
        )
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Start a process that dies, then a client on the same folder."""
    with (
        BackgroundServer(ServerSettings(port=0, database=":memory:")) as server,
        httpx.Client(base_url=server.url) as http,
        TemporaryDirectory() as folder,
    ):
        key = server.api_key or ""
        http.headers["Authorization"] = f"Bearer {key}"
        metric = {"name": "OCR", "eventType": "cost.ocr", "valueProperty": "$.amount"}
        cost = http.post("/v0/costMetrics", json=metric).json()
        words = [sys.executable, __file__, server.url, key, folder]
        died = subprocess.run(words, check=False)
        print("the process ended with", signal.Signals(-died.returncode).name)
        with outlay.Client(
            base_url=server.url, api_key=key, journal_dir=folder
        ) as client:
            stats = client.flush().stats
        print("recovered", stats.recovered, "delivered", stats.delivered)
        summary = http.get(f"/v0/costs/{cost['id']}/summary", params=EVER).json()
        print("total", summary["totalCostExact"], summary["currency"])


if __name__ == "__main__":
    track_and_die(*sys.argv[1:]) if sys.argv[1:] else main()
