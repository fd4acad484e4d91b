"""Post over HTTP, through connections of our own or a user's client."""

from __future__ import annotations

# Python imports this module when the first connection is made. Import it here: a child
# that is forked during an import can never finish that import.
import encodings.idna  # noqa: F401
import importlib.metadata
import platform
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from outlay._model.clock import SystemClock
from outlay._model.settings import is_loopback
from outlay._shipping.compression import (
    AMBIGUOUS_STATUSES,
    HOP_STATUSES,
    BodyCompressor,
)
from outlay._shipping.connections import ConnectionPool, RequestLimits
from outlay._shipping.transport import EVENTS_PATH
from outlay._shipping.user_client import UserClientTransport
from outlay.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay._model.settings import Settings
    from outlay._shipping.compression import Compression
    from outlay._shipping.connections import Headers
    from outlay._shipping.transport import TransportResponse
    from outlay._shipping.user_client import HttpClientSource


class HttpTransport:
    """Posts over pooled connections of httpx's engine, or through a user's client.

    It obeys the usual proxy and certificate variables, except for a server on this
    machine. A user's client is used with the settings that it has.

    Thread safety: any thread.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        timeout: float,
        max_connections: int,
        deadline: float = 60.0,
        compression: Compression = "never",
        client: HttpClientSource | UserClientTransport | None = None,
    ) -> None:
        """Prepare. Connections are made when they are needed.

        Args:
            base_url: The prefix of all paths, without a trailing slash.
            api_key: The credential. If None, requests carry none.
            timeout: The longest wait to connect, to write or to read, in seconds.
            max_connections: The largest number of connections at a time.
            deadline: The longest time of a whole request, in seconds. With a user's
                client it holds from the response's body on. Defaults to 60.
            compression: ``auto`` compresses large bodies if the server accepts them
                and is not on this machine. ``always`` compresses all large bodies.
                Defaults to ``never``.
            client: An ``httpx.Client`` or ``httpx2.Client`` to post through, or a
                function that makes one. The transport closes only a client that the
                function made. If None, the transport has its own connections.

        Raises:
            ConfigError: ``client`` is neither of these. Or a variable names a proxy or
                certificates that cannot be used.
        """
        headers = [
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
        ]
        if client is None:  # a user's client has its own user agent
            headers.append((b"user-agent", _user_agent().encode()))
        if api_key is not None:
            headers.append((b"authorization", b"Bearer " + api_key.encode()))
        self._headers: Final = headers
        # The counts and the failures are all that we read of a batch (RFC 7240). The
        # documented path gets only documented headers.
        self._batch_headers: Final = [*headers, (b"prefer", b"return=minimal")]
        self._compressor: Final = BodyCompressor(
            compression, loopback=is_loopback(base_url)
        )
        limits = RequestLimits(wait_timeout=timeout, deadline=deadline)
        self._connections: ConnectionPool | UserClientTransport
        if client is None:
            self._connections = ConnectionPool(
                base_url,
                limits,
                max_connections=max_connections,
                monotonic=SystemClock.monotonic,
            )
        else:
            if not isinstance(client, UserClientTransport):
                client = UserClientTransport(client)
            client.open(base_url, limits, monotonic=SystemClock.monotonic)
            self._connections = client

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        client: HttpClientSource | UserClientTransport | None = None,
    ) -> Self:
        """Return the transport that ``settings`` describe.

        Args:
            settings: The client's settings.
            client: As in the constructor. Defaults to None.
        """
        key = settings.api_key
        return cls(
            settings.base_url,
            api_key=key.get_secret_value() if key else None,
            timeout=settings.timeout,
            max_connections=settings.max_senders,
            deadline=settings.deadline,
            compression=settings.compression,
            client=client,
        )

    @classmethod
    def maker(
        cls, settings: Settings, client: HttpClientSource | None = None
    ) -> Callable[[], Self]:
        """Return a function that makes the transport in each process that ships.

        Args:
            settings: The client's settings.
            client: As in the constructor. A ready client serves only the process that
                calls this method. Defaults to None.

        Raises:
            ConfigError: ``client`` is neither a client nor a function.
        """
        lent = None if client is None else UserClientTransport(client)
        return partial(cls.from_settings, settings, lent)

    def post(self, path: str, body: bytes) -> TransportResponse:
        """Post a JSON body and return the response. See `Transport`."""
        headers = self._headers if path == EVENTS_PATH else self._batch_headers
        compressed = self._compressor.compress(body)
        if compressed is None:
            response = self._connections.send(path, headers, body)
        else:
            response = self._post_compressed(path, headers, compressed, body)
        self._compressor.update_from(response.headers)
        return response

    def _post_compressed(
        self, path: str, headers: Headers, compressed: bytes, body: bytes
    ) -> TransportResponse:
        """Post in gzip, and again as plain JSON if the refusal may be of the gzip.

        Behind one address there may be servers of several versions. An event must not
        become a dead letter because one of them cannot read gzip. A hop on the way may
        respond 502 or 403, or close the connection.
        """
        gzip_headers = [*headers, (b"content-encoding", b"gzip")]
        try:
            response = self._connections.send(path, gzip_headers, compressed)
        except UnavailableError as error:
            if _was_closed(error) and self._compressor.suspects_hop():
                return self._post_plain(path, headers, body, error)
            raise
        if response.status < 300:
            self._compressor.record_taken()
        if response.status in HOP_STATUSES:
            ambiguous = self._compressor.suspects_hop()
        else:
            ambiguous = response.status in AMBIGUOUS_STATUSES
        if not ambiguous:
            return response
        plain = self._connections.send(path, headers, body)
        if plain.status != response.status:
            self._compressor.disable()
        return plain

    def _post_plain(
        self, path: str, headers: Headers, body: bytes, error: UnavailableError
    ) -> TransportResponse:
        """Post plain JSON, and return the response if the server took it.

        Otherwise the outcome stays unknown: the server may have taken the gzip.
        """
        plain = self._connections.send(path, headers, body)
        if plain.status >= 300:
            raise error
        self._compressor.disable()
        return plain

    def close(self) -> None:
        """Close all connections. A ready client that the user passed stays open."""
        self._connections.close()


def _was_closed(error: UnavailableError) -> bool:
    """Return whether the connection was closed, which a hop does at once if at all."""
    return error.sent and not type(error.__cause__).__name__.endswith("Timeout")


def _user_agent() -> str:
    """Return the client's name and version, for the server's log.

    Source: RFC 9110, section 10.1.5.
    """
    python = f"python/{platform.python_version()}"
    try:
        return f"outlay/{importlib.metadata.version('outlay')} {python}"
    except importlib.metadata.PackageNotFoundError:  # frozen into a program
        return f"outlay {python}"
