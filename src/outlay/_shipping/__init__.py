"""Send pending events from the journal to the server.

Policies decide and do nothing else: `outcomes`, `backoff`, `circuit_breaker`,
`concurrency`, `batching`, `dedupe_window`. The `planner` applies them to the events.
The `shipper` acts: it owns the threads, and calls the transport.
"""
