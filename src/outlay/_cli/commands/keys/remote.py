"""Change the API keys of a server by requests to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import BaseModel, ConfigDict

from outlay._cli.commands.keys.keys import ApiKey
from outlay._cli.server_api import ServerApi, quoted
from outlay.errors import AuthenticationError, PermissionDeniedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from outlay.api._calls import Call

T = TypeVar("T")

_PATH: Final = "/v0/apiKeys"
_PAGE: Final = 100  # keys a request, the most that the server allows


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True)

    data: tuple[ApiKey, ...]


class RemoteKeys(ServerApi):
    """The API keys of a running server. Use as a context manager."""

    def create(
        self, name: str, permissions: Sequence[str], expires_at: datetime | None
    ) -> ApiKey:
        """Create a key, and return it with itself."""
        body = {"name": name, "permissions": list(permissions), **_end(expires_at)}
        return self._post(_PATH, ApiKey, body)

    def all(self) -> list[ApiKey]:
        """Return all keys, newest first."""
        keys: list[ApiKey] = []
        while True:
            query = {"limit": str(_PAGE), "offset": str(len(keys))}
            page = self._get(_PATH, _Page, query).data
            keys += page
            if len(page) < _PAGE:
                return keys

    def rotate(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None
    ) -> ApiKey:
        """Create a key in place of another, which stays valid for ``overlap``."""
        body = {"overlapSeconds": round(overlap.total_seconds()), **_end(expires_at)}
        return self._post(f"{_PATH}/{quoted(key_id)}/rotate", ApiKey, body)

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        self._delete(f"{_PATH}/{quoted(key_id)}")

    def _send(self, call: Call[T]) -> T:
        try:
            return super()._send(call)
        except (AuthenticationError, PermissionDeniedError) as error:
            message = f"{error}; on the server's machine, --db needs no key"
            raise type(error)(message, status=error.status) from error


def _end(expires_at: datetime | None) -> dict[str, object]:
    return {} if expires_at is None else {"expiresAt": expires_at.isoformat()}
