"""Track while the server is down; nothing blocks, nothing is lost.

You will see three events wait in the journal, and all of them delivered once the server
is back.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import outlay
from outlay.server import BackgroundServer, ServerSettings

KEY = "sk_test_example"


def main() -> None:
    """Stop the server, track, and start it again."""
    with TemporaryDirectory() as folder:
        settings = ServerSettings(
            port=0,
            database=Path(folder, "costs.db"),
            api_key=KEY,
            accept_unmatched=True,  # this example has no cost metric
        )
        with BackgroundServer(settings) as server:
            url = server.url
        port = int(url.rpartition(":")[2])
        print("the server is down")

        with outlay.Client(base_url=url, api_key=KEY, journal_dir=folder) as client:
            for number in range(3):
                receipt = client.track_cost(
                    "cost.ai",
                    "0.0042",
                    customer_id="cus_123",
                    operation_id=f"response-{number}",
                )
                print("tracked, durable:", receipt.durable)
            report = client.flush(timeout=0.5)
            print("complete:", report.complete, "pending:", report.stats.pending)

            back = settings.model_copy(update={"port": port})
            with BackgroundServer(back) as server:
                print("the server is back")
                report = client.flush(timeout=10)
                print("complete:", report.complete, "pending:", report.stats.pending)
                print("the server counted", server.counts.accepted)


if __name__ == "__main__":
    main()
