"""Change the API keys in a database file, beside its server or without one."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, Self

from outlay._cli.commands.keys.keys import ApiKey
from outlay._cli.exit_codes import CommandFailedError, UsageError
from outlay.server._services.auth import key_record, new_key
from outlay.server._services.keys import key_response, rotated
from outlay.server._storage.sqlite.key_file import KeyFile
from outlay.server._wire.response_models import encode, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from pathlib import Path
    from types import TracebackType

    from outlay.server._records import ApiKey as Record

_NAMESPACE: Final = re.compile(r"org_[a-zA-Z0-9]+")  # as of 'outlay serve'


class LocalKeys:
    """The API keys in a database file. Use as a context manager.

    Raises:
        DatabaseError: The file cannot be used.
        UsageError: The organization's name is malformed.
    """

    def __init__(self, path: Path, namespace: str) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise UsageError(f"{namespace!r} is no organization such as org_local")
        self._namespace = namespace
        self._file = KeyFile(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, traceback)

    def create(
        self, name: str, permissions: Sequence[str], expires_at: datetime | None
    ) -> ApiKey:
        """Create a key, and return it with itself."""
        key = new_key()
        try:
            record = key_record(
                key,
                name=name,
                namespace=self._namespace,
                permissions=permissions,
                now=_now(),
                expires_at=_microseconds(expires_at),
            )
        except ValueError as error:
            raise UsageError(str(error)) from None
        self._file.add_key(record)
        return _described(record, key)

    def all(self) -> list[ApiKey]:
        """Return all keys, newest first."""
        return [_described(record) for record in self._file.keys(self._namespace)]

    def rotate(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None
    ) -> ApiKey:
        """Create a key in place of another, which stays valid for ``overlap``."""
        old = self._find(key_id)
        now = _now()
        if not old.is_valid(now):
            raise CommandFailedError(
                f"{key_id} is not valid any more; create a new key"
            )
        key = new_key()
        successor, end = rotated(
            old,
            key,
            now,
            round(overlap.total_seconds()),
            expires_at=_microseconds(expires_at),
        )
        self._file.rotate_key(key_id, successor, end)
        return _described(successor, key)

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        self._find(key_id)
        self._file.revoke_key(key_id, _now())

    def _find(self, key_id: str) -> Record:
        record = self._file.key(self._namespace, key_id)
        if record is None:
            raise CommandFailedError(
                f"{self._namespace} has no key {key_id}; type: outlay keys list --db"
            )
        return record


def _now() -> int:
    return time.time_ns() // 1000


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else to_microseconds(moment)


def _described(record: Record, key: str | None = None) -> ApiKey:
    return ApiKey.model_validate_json(encode(key_response(record, key)))
