"""Store events and rollups in one SQLite file."""
