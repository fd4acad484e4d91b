"""Send requests through a client that the user made, of httpx or of httpx2.

Both libraries have the same calls. This module imports neither: a user who passes a
client has imported its library.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from outlay._shipping.connections import mapped_errors, read_body
from outlay._shipping.transport import TransportResponse
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    import httpx
    import httpx2

    from outlay._shipping.connections import Errors, Headers, RequestLimits

HttpClient: TypeAlias = "httpx.Client | httpx2.Client"
"""A client that a user can pass."""

HttpClientSource: TypeAlias = "HttpClient | Callable[[], HttpClient]"
"""A client, or a function that makes one."""

LIBRARIES: Final = frozenset({"httpx", "httpx2"})


class UserClientTransport:
    """Sends requests through a user's client.

    The client's proxies, certificates, hooks and limits of connections hold. The
    limits of time are ours, and redirects are not followed.

    A forked child has the sockets of its parent's client. Two processes that write to
    one socket mix their requests. So a ready client serves only the process that passed
    it. A function is called again in each process.

    Thread safety: any thread, after `open`.
    """

    _client: Any  # the same calls, though the two libraries' types differ
    _base_url: str
    _limits: RequestLimits
    _monotonic: Callable[[], float]
    _timeout_error: type[Exception]
    _not_sent_errors: Errors
    _failed_errors: Errors

    def __init__(self, source: HttpClientSource) -> None:
        """Take a client, or a function that makes one.

        Raises:
            ConfigError: ``source`` is neither.
        """
        self._source: Final[Any] = source
        self._closes_client: Final = callable(source)
        self._process: Final = os.getpid()
        if not self._closes_client:
            _library_of(source)

    def open(
        self, base_url: str, limits: RequestLimits, *, monotonic: Callable[[], float]
    ) -> None:
        """Get the client of this process, and prepare to send.

        Args:
            base_url: The prefix of all paths. The client's own is not used.
            limits: The limits of time.
            monotonic: A function that returns monotonic seconds.

        Raises:
            ConfigError: There is no client for this process.
        """
        client = self._client_of_process()
        library = _library_of(client)
        self._client = client
        self._base_url = base_url
        self._limits = limits
        self._monotonic = monotonic
        self._timeout_error = library.ReadTimeout
        self._not_sent_errors = (
            library.ConnectError,
            library.ConnectTimeout,
            library.PoolTimeout,
            library.ProxyError,
            library.UnsupportedProtocol,
        )
        self._failed_errors = (library.HTTPError, library.InvalidURL)
        logging.getLogger(library.__name__).addFilter(_hide_our_request_logs)

    def _client_of_process(self) -> object:
        if self._closes_client:
            client: object = self._source()
            return client
        if os.getpid() != self._process:
            raise ConfigError(
                "http_client was made before this process was forked, and must not be "
                "shared: pass a function that makes it, such as "
                "http_client=lambda: httpx.Client(...)"
            )
        return self._source

    def send(self, path: str, headers: Headers, body: bytes) -> TransportResponse:
        """Post ``body`` to ``path`` and return the response, whatever its status.

        Raises:
            UnavailableError: There was no response, or it was too large.
        """
        deadline_at = self._monotonic() + self._limits.deadline
        request = self._client.build_request(
            "POST",
            self._base_url + path,
            content=body,
            headers=list(headers),
            timeout=min(self._limits),
        )
        _in_our_request.active = True
        try:
            with mapped_errors(self._not_sent_errors, self._failed_errors):
                return self._exchange(request, deadline_at)
        finally:
            _in_our_request.active = False

    def _exchange(self, request: object, deadline_at: float) -> TransportResponse:
        response = self._client.send(request, stream=True, follow_redirects=False)
        try:
            parts = response.iter_bytes()
            body = read_body(self._within_deadline(deadline_at, parts))
        finally:
            response.close()
        return TransportResponse(response.status_code, response.headers, body)

    def _within_deadline(
        self, deadline_at: float, parts: Iterable[bytes]
    ) -> Iterator[bytes]:
        for part in parts:
            if self._monotonic() > deadline_at:
                raise self._timeout_error("the deadline of the request has passed")
            yield part

    def close(self) -> None:
        """Close the client if a function made it for this transport."""
        if self._closes_client:
            self._client.close()


def _library_of(client: object) -> ModuleType:
    for kind in type(client).__mro__:
        library = kind.__module__.partition(".")[0]
        if kind.__name__ == "Client" and library in LIBRARIES:
            return sys.modules[library]
    raise ConfigError(
        f"http_client={type(client).__qualname__}: pass an httpx.Client, an "
        "httpx2.Client, or a function that makes one"
    )


# These libraries log a line at INFO for each request, which would be a line for each
# cost event. The filter hides the lines of our requests only.
_in_our_request: Final = threading.local()


def _hide_our_request_logs(record: logging.LogRecord) -> bool:
    ours = getattr(_in_our_request, "active", False)
    return record.levelno > logging.INFO or not ours
