"""Store everything in PostgreSQL, which any number of servers share."""
