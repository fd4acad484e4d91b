"""Run all benchmarks: ``python -m bench``."""

from bench import (
    agent,
    capture,
    disk,
    functions,
    imports,
    pending,
    pricing,
    requests,
    server_ingest,
    shipping,
    spans,
    track_cost,
)

track_cost.main()
pricing.main()
capture.main()
functions.main()
disk.main()
imports.main()
pending.main()
requests.main()
shipping.main()
agent.main()
server_ingest.main()
spans.main()
