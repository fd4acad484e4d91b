"""Keep whole days of events in ClickHouse, beside the ledger in PostgreSQL."""
