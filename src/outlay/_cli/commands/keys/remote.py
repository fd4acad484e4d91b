"""Change the API keys of a server by requests to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from outlay._cli.commands.keys.keys import ApiKey
from outlay._cli.requests import ServerRequests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from types import TracebackType

    import httpx

    from outlay._model.settings import Settings

_PATH: Final = "/v0/apiKeys"
_PAGE: Final = 100  # keys a request, the most that the server allows


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True)

    data: tuple[ApiKey, ...]


class RemoteKeys:
    """The API keys of a running server. Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._server = ServerRequests(
            settings, remedy="; on the server's machine, --db needs no key"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, traceback)

    def create(
        self, name: str, permissions: Sequence[str], expires_at: datetime | None
    ) -> ApiKey:
        """Create a key, and return it with itself."""
        body: dict[str, object] = {"name": name, "permissions": list(permissions)}
        body |= _end(expires_at)
        return self._key(self._server.send("POST", _PATH, body))

    def all(self) -> list[ApiKey]:
        """Return all keys, newest first."""
        keys: list[ApiKey] = []
        while True:
            path = f"{_PATH}?limit={_PAGE}&offset={len(keys)}"
            response = self._server.send("GET", path)
            try:
                page = _Page.model_validate_json(response.content).data
            except ValidationError as error:
                raise self._server.unexpected(response) from error
            keys += page
            if len(page) < _PAGE:
                return keys

    def rotate(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None
    ) -> ApiKey:
        """Create a key in place of another, which stays valid for ``overlap``."""
        body = {"overlapSeconds": round(overlap.total_seconds()), **_end(expires_at)}
        return self._key(
            self._server.send("POST", f"{_PATH}/{_quoted(key_id)}/rotate", body)
        )

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        self._server.send("DELETE", f"{_PATH}/{_quoted(key_id)}")

    def _key(self, response: httpx.Response) -> ApiKey:
        try:
            return ApiKey.model_validate_json(response.content)
        except ValidationError as error:
            raise self._server.unexpected(response) from error


def _quoted(key_id: str) -> str:
    return quote(key_id, safe="")


def _end(expires_at: datetime | None) -> dict[str, object]:
    return {} if expires_at is None else {"expiresAt": expires_at.isoformat()}
