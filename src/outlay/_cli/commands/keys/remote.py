"""Change the API keys of a server by requests to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from outlay._cli.commands.keys.keys import ApiKey
from outlay._model.settings import is_loopback
from outlay.errors import OutlayError, RejectedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from types import TracebackType

    from outlay._model.settings import Settings

_PATH: Final = "/v0/apiKeys"
_PAGE: Final = 100  # keys a request, the most that the server allows
_LATER: Final = frozenset({408, 425, 429})  # and all of 5xx


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True)

    data: tuple[ApiKey, ...]


class RemoteKeys:
    """The API keys of a running server. Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._base_url = settings.base_url
        headers = {}
        if settings.api_key is not None:
            key = settings.api_key.get_secret_value()
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            headers=headers,
            timeout=settings.timeout,
            trust_env=not is_loopback(settings.base_url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def create(
        self, name: str, permissions: Sequence[str], expires_at: datetime | None
    ) -> ApiKey:
        """Create a key, and return it with itself."""
        body: dict[str, object] = {"name": name, "permissions": list(permissions)}
        return self._key(self._request("POST", body={**body, **_end(expires_at)}))

    def all(self) -> list[ApiKey]:
        """Return all keys, newest first."""
        keys: list[ApiKey] = []
        while True:
            response = self._request("GET", f"?limit={_PAGE}&offset={len(keys)}")
            try:
                page = _Page.model_validate_json(response.content).data
            except ValidationError as error:
                raise self._no_keys(response) from error
            keys += page
            if len(page) < _PAGE:
                return keys

    def rotate(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None
    ) -> ApiKey:
        """Create a key in place of another, which stays valid for ``overlap``."""
        body = {"overlapSeconds": round(overlap.total_seconds()), **_end(expires_at)}
        return self._key(self._request("POST", f"/{_quoted(key_id)}/rotate", body=body))

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        self._request("DELETE", f"/{_quoted(key_id)}")

    def _key(self, response: httpx.Response) -> ApiKey:
        try:
            return ApiKey.model_validate_json(response.content)
        except ValidationError as error:
            raise self._no_keys(response) from error

    def _request(
        self, method: str, rest: str = "", body: dict[str, object] | None = None
    ) -> httpx.Response:
        try:
            response = self._client.request(
                method, self._base_url + _PATH + rest, json=body
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnavailableError(
                f"no response from {self._base_url} ({error}); start the server, set "
                "OUTLAY_BASE_URL, or use --db",
                sent=not isinstance(error, httpx.ConnectError),
            ) from error
        if not response.is_success:
            raise self._error(response)
        return response

    def _error(self, response: httpx.Response) -> OutlayError:
        status = response.status_code
        try:
            text = response.json()["message"]
        except (ValueError, LookupError, TypeError):
            text = response.reason_phrase
        message = f"HTTP {status}: {text}"
        if status in _LATER or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return UnavailableError(message, sent=True)
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            message += "; on the server's machine, --db needs no key"
        return RejectedError(message, status=status)

    def _no_keys(self, response: httpx.Response) -> RejectedError:
        return RejectedError(
            f"{self._base_url} has no API keys to manage; check OUTLAY_BASE_URL",
            status=response.status_code,
        )


def _quoted(key_id: str) -> str:
    return quote(key_id, safe="")


def _end(expires_at: datetime | None) -> dict[str, object]:
    return {} if expires_at is None else {"expiresAt": expires_at.isoformat()}
