"""Requests through a client that the user has made: httpx's, or httpx2's.

Both have the same calls, and this module imports neither: whoever lends a client has
imported its library.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from outlay._shipping.connections_limits import mapped_errors, read_body
from outlay._shipping.transport import TransportResponse
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    import httpx
    import httpx2

    from outlay._shipping.connections_limits import Headers, RequestLimits

HttpClient: TypeAlias = "httpx.Client | httpx2.Client"
"""What can be lent."""

HttpClientSource: TypeAlias = "HttpClient | Callable[[], HttpClient]"
"""A client, or a function that makes one."""

LIBRARIES: Final = frozenset({"httpx", "httpx2"})


class UserClientTransport:
    """Moves requests through a client of the user's.

    The client's proxies, certificates, hooks, and limits of connections hold. The
    limits of time are ours, and redirects are not followed.

    Thread safety: any thread.
    """

    def __init__(
        self,
        client: HttpClient,
        base_url: str,
        limits: RequestLimits,
        *,
        close: bool,
        monotonic: Callable[[], float],
    ) -> None:
        """Borrow ``client``.

        Args:
            client: ready to use.
            base_url: prefix of all paths; the client's own is not looked at.
            limits: of time.
            close: whether to close the client in the end.
            monotonic: returns seconds.

        Raises:
            ConfigError: it is no client of these libraries.
        """
        library = _library_of(client)
        self._client: Final[Any] = client  # the same calls, though types differ
        self._base_url: Final = base_url
        self._limits: Final = limits
        self._close: Final = close
        self._monotonic: Final = monotonic
        self._too_late: Final = library.ReadTimeout
        self._unsent: Final = (
            library.ConnectError,
            library.ConnectTimeout,
            library.PoolTimeout,
            library.ProxyError,
            library.UnsupportedProtocol,
        )
        self._failed: Final = (library.HTTPError, library.InvalidURL)
        logging.getLogger(library.__name__).addFilter(_hide_our_request_logs)

    def send(self, path: str, headers: Headers, body: bytes) -> TransportResponse:
        """Post ``body`` to ``path``; see `Carrier`."""
        moment = self._monotonic() + self._limits.deadline
        request = self._client.build_request(
            "POST",
            self._base_url + path,
            content=body,
            headers=list(headers),
            timeout=min(self._limits),
        )
        _in_our_request.here = True
        try:
            with mapped_errors(self._unsent, self._failed):
                return self._exchange(request, moment)
        finally:
            _in_our_request.here = False

    def _exchange(self, request: object, moment: float) -> TransportResponse:
        response = self._client.send(request, stream=True, follow_redirects=False)
        try:
            body = read_body(self._within_deadline(moment, response.iter_bytes()))
        finally:
            response.close()
        return TransportResponse(response.status_code, response.headers, body)

    def _within_deadline(
        self, moment: float, parts: Iterable[bytes]
    ) -> Iterator[bytes]:
        for part in parts:
            if self._monotonic() > moment:
                raise self._too_late("the deadline of the request has passed")
            yield part

    def close(self) -> None:
        """Close the client, if that is left to us."""
        if self._close:
            self._client.close()


class Loan:
    """A client for each process: made there, or lent to the one that it is in.

    A child that is forked has the sockets of its parent's client, and what both write
    would mix. So a ready client serves the process in which it was handed over, and no
    other; a function that makes one serves all.
    """

    def __init__(self, lent: HttpClientSource) -> None:
        """Take a client, or a function that makes one.

        Raises:
            ConfigError: it is neither.
        """
        self._lent: Final[Any] = lent
        self._made_for_us: Final = callable(lent)
        self._process: Final = os.getpid()
        if not self._made_for_us:
            _library_of(lent)

    def carrier(
        self, base_url: str, limits: RequestLimits, *, monotonic: Callable[[], float]
    ) -> UserClientTransport:
        """Return what moves the requests of this process.

        Raises:
            ConfigError: there is no client for this process.
        """
        return UserClientTransport(
            self._client(),
            base_url,
            limits,
            close=self._made_for_us,
            monotonic=monotonic,
        )

    def _client(self) -> HttpClient:
        client: HttpClient
        if self._made_for_us:
            client = self._lent()
            return client
        if os.getpid() != self._process:
            raise ConfigError(
                "http_client was made before this process was forked, and must not be "
                "shared: pass a function that makes it, such as "
                "http_client=lambda: httpx.Client(...)"
            )
        client = self._lent
        return client


def _library_of(client: object) -> ModuleType:
    for kind in type(client).__mro__:
        library = kind.__module__.partition(".")[0]
        if kind.__name__ == "Client" and library in LIBRARIES:
            return sys.modules[library]
    raise ConfigError(
        f"http_client={type(client).__qualname__}: pass an httpx.Client, an "
        "httpx2.Client, or a function that makes one"
    )


# These libraries log a line at INFO for each request. For an application that logs at
# that level these would be a line for each cost event: held back for ours alone.
_in_our_request: Final = threading.local()


def _hide_our_request_logs(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or not getattr(_in_our_request, "here", False)
