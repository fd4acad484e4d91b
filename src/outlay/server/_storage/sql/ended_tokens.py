"""The SQL of tokens that are not valid any more. A token itself does not tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outlay.server._storage.sql.connection import Connection

TABLES: Final = """
CREATE TABLE ended_tokens (
    digest BLOB PRIMARY KEY,
    until INTEGER NOT NULL
);
"""
"""The table. A row is needed until the token itself says that it is too old."""


def insert_token(connection: Connection, digest: bytes, until: int, now: int) -> bool:
    """Store the digest of a token, unless it is stored. Return whether it was not."""
    connection.execute("DELETE FROM ended_tokens WHERE until < ?", (now,))
    inserted = connection.execute(
        "INSERT INTO ended_tokens (digest, until) VALUES (?,?)"
        " ON CONFLICT (digest) DO NOTHING",
        (digest, until),
    )
    return inserted.rowcount == 1


def all_tokens(connection: Connection) -> frozenset[bytes]:
    """Return all stored digests."""
    rows = connection.execute("SELECT digest FROM ended_tokens")
    return frozenset(digest for (digest,) in rows)
