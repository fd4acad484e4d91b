"""Read CSV files as people and systems write them. Server and command line share it."""
