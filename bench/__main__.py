"""Run all benchmarks: ``python -m bench``."""

from bench import (
    agent,
    bad_days,
    budgets,
    capture,
    dashboard,
    disk,
    export,
    functions,
    imports,
    integrations,
    pending,
    pricing,
    server_contention,
    server_ingest,
    server_queries,
    shipping,
    spans,
    tracers,
    track_cost,
    transport,
)

track_cost.main()
pricing.main()
capture.main()
tracers.main()
functions.main()
disk.main()
imports.main()
integrations.main()
pending.main()
transport.main()
shipping.main()
agent.main()
server_ingest.main()
server_contention.main()
server_queries.main()
dashboard.main()
export.main()
budgets.main()
bad_days.main()
spans.main()
