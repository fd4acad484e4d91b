"""The statements that SQLite and PostgreSQL both understand."""
