"""Store API keys.

Statements change single columns, and never copy a row back. So two programs on one file
cannot undo each other's revocation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay.server._records import ApiKey

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._storage.page import Page
    from outlay.server._storage.sql.connection import Connection

_COLUMNS: Final = (
    "digest, name, namespace, permissions, created_at,"
    " id, hint, expires_at, revoked_at, last_used_at"
)
_decode_texts: Final = msgspec.json.Decoder(frozenset[str]).decode
_encode_json: Final = msgspec.json.Encoder().encode


class SqlKeyWriter:
    """Writes in the thread of the store."""

    _connection: Connection

    def _transaction(self) -> AbstractContextManager[None]:
        """Return the store's transaction, which commits or rolls back."""
        raise NotImplementedError

    def _changing_keys(self) -> AbstractContextManager[None]:
        """Return a transaction after which all servers read the keys again."""
        raise NotImplementedError

    def add_key(self, key: ApiKey) -> None:
        """Store an API key."""
        with self._changing_keys():
            self._insert_key(key)

    def add_first_key(self, key: ApiKey) -> bool:
        """Store an API key, unless there is one already. Return whether it did."""
        with self._changing_keys():
            (has_any,) = self._connection.execute(
                "SELECT EXISTS (SELECT 1 FROM api_keys)"
            ).fetchone()
            if not has_any:
                self._insert_key(key)
        return not has_any

    def revoke_key(self, key_id: str, now: int) -> None:
        """Revoke an API key. The time of an earlier revocation stays."""
        with self._changing_keys():
            self._connection.execute(
                "UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?",
                (now, key_id),
            )

    def rotate_key(self, key_id: str, successor: ApiKey, expires_at: int) -> None:
        """Store a key that replaces another, which expires then, unless it did."""
        with self._changing_keys():
            self._insert_key(successor)
            self._connection.execute(
                "UPDATE api_keys SET expires_at = :at"
                " WHERE id = :id AND coalesce(expires_at, :at) >= :at",
                {"at": expires_at, "id": key_id},
            )

    def note_key_uses(self, digests: Collection[bytes], now: int) -> None:
        """Note the last use of keys."""
        with self._transaction():
            self._connection.executemany(
                "UPDATE api_keys SET last_used_at = ? WHERE digest = ?",
                [(now, digest) for digest in digests],
            )

    def _insert_key(self, key: ApiKey) -> None:
        self._connection.execute(
            f"INSERT INTO api_keys ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 - a constant
            (
                key.digest,
                key.name,
                key.namespace,
                _encode_json(sorted(key.permissions)).decode(),
                key.created_at,
                key.id,
                key.hint,
                key.expires_at,
                key.revoked_at,
                key.last_used_at,
            ),
        )


def key_with_digest(connection: Connection, digest: bytes) -> ApiKey | None:
    """Return the key with this SHA-256."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM api_keys WHERE digest = ?",  # noqa: S608 - a constant
        (digest,),
    ).fetchone()
    return None if row is None else _key_of(row)


def key_with_id(connection: Connection, namespace: str, key_id: str) -> ApiKey | None:
    """Return the key of an organization with this id."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM api_keys WHERE namespace = ? AND id = ?",  # noqa: S608 - a constant
        (namespace, key_id),
    ).fetchone()
    return None if row is None else _key_of(row)


def page_of_keys(
    connection: Connection, namespace: str, page: Page
) -> tuple[list[ApiKey], int]:
    """Return a page of an organization's keys, newest first, and their number."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM api_keys WHERE namespace = ?"  # noqa: S608 - a constant
        " ORDER BY created_at DESC, id LIMIT ? OFFSET ?",
        (namespace, page.limit, page.offset),
    )
    keys = [_key_of(row) for row in rows]
    (total,) = connection.execute(
        "SELECT count(*) FROM api_keys WHERE namespace = ?", (namespace,)
    ).fetchone()
    return keys, total


def _key_of(row: Sequence[Any]) -> ApiKey:
    digest, name, namespace, permissions, *rest = row
    return ApiKey(digest, name, namespace, _decode_texts(permissions), *rest)
