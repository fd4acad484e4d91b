"""Send requests to the extensions of the reference server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import httpx

from outlay._model.settings import is_loopback
from outlay.errors import OutlayError, RejectedError, UnavailableError

if TYPE_CHECKING:
    from types import TracebackType

    from outlay._model.settings import Settings

_LATER: Final = frozenset({408, 425, 429})  # and all of 5xx


class ServerRequests:
    """Requests to one server, each sent once. Use as a context manager.

    Args:
        settings: The address and the credential.
        remedy: What to do if the key is refused, for the message. Defaults to nothing.
    """

    def __init__(self, settings: Settings, *, remedy: str = "") -> None:
        self.base_url = settings.base_url
        self._remedy = remedy
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

    def send(
        self, method: str, path: str, body: dict[str, object] | None = None
    ) -> httpx.Response:
        """Send a request, and return its response, which is a success.

        Raises:
            RejectedError: The server refused it.
            UnavailableError: There was no response, or the server asks to come back.
        """
        try:
            response = self._client.request(method, self.base_url + path, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnavailableError(
                f"no response from {self.base_url} ({error}); start the server, or set "
                "OUTLAY_BASE_URL",
                sent=not isinstance(error, httpx.ConnectError),
            ) from error
        if not response.is_success:
            raise self._error(response)
        return response

    def unexpected(self, response: httpx.Response) -> RejectedError:
        """Return the error of a response that another kind of server sent."""
        return RejectedError(
            f"{self.base_url} is no outlay server; check OUTLAY_BASE_URL",
            status=response.status_code,
        )

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
            message += self._remedy
        return RejectedError(message, status=status)
