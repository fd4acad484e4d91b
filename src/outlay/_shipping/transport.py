"""The seam to the network: a protocol, and its implementation on httpx."""

from __future__ import annotations

# Python imports it when the first connection is made. Here it comes with this module,
# for which forks wait: a child forked during an import could never finish that import.
import encodings.idna  # noqa: F401
import importlib.metadata
import platform
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self

from outlay._model.clock import SystemClock
from outlay._model.settings import is_loopback
from outlay._shipping.compression import AMBIGUOUS_STATUSES, BodyCompressor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outlay._model.settings import Settings
    from outlay._shipping.compression import Compression
    from outlay._shipping.connections_limits import Carrier, Headers
    from outlay._shipping.user_client import HttpClientSource, Loan


EVENTS_PATH: Final = "/v0/events"


class TransportResponse(NamedTuple):
    """A server's answer.

    Attributes:
        status: HTTP status code.
        headers: looked up without regard to case.
        body: as received, decoded from any content encoding.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """What carries requests to the server. Implement it to bring your own.

    Thread safety: `post` is called by several threads at once.
    """

    def post(self, path: str, body: bytes) -> TransportResponse:
        """Post JSON ``body`` to ``path`` and return the answer, whatever its status.

        Must not retry, and must not follow redirects.

        Raises:
            UnavailableError: there was no answer; its ``sent`` says whether the
                request may have arrived.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class HttpTransport:
    """Posts over pooled connections of httpx's engine, or through a client of yours.

    Obeys the usual proxy and certificate variables, but for a server on this machine:
    a proxy would look for it on its own. A client of yours is used as it is.

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
        client: HttpClientSource | Loan | None = None,
    ) -> None:
        """Prepare; connections are made when needed.

        Args:
            base_url: prefix of all paths, without a trailing slash.
            api_key: credential, or None for requests without one.
            timeout: most seconds of each wait: to connect, write or read.
            max_connections: most connections at once.
            deadline: most seconds of a whole request. With a client of yours it holds
                from the answer's body on.
            compression: ``auto``: of large bodies, where the server takes them, unless
                it is on this machine. ``always``: of large bodies.
            client: an ``httpx.Client`` or ``httpx2.Client`` to post through, or a
                function that makes one, which then is closed with this transport.

        Raises:
            ConfigError: the client is none, or a proxy variable is malformed.
        """
        headers = [
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
        ]
        if client is None:  # yours says who it is
            headers.append((b"user-agent", _user_agent().encode()))
        if api_key is not None:
            headers.append((b"authorization", b"Bearer " + api_key.encode()))
        self._headers: Final = headers
        # To a batch, the counts and the failures say all (RFC 7240). The documented
        # path gets nothing but what is documented.
        self._batch_headers: Final = [*headers, (b"prefer", b"return=minimal")]
        self._coding: Final = BodyCompressor(compression, nearby=is_loopback(base_url))
        self._carrier: Final = _carrier(
            base_url, timeout, deadline, max_connections, client
        )

    @classmethod
    def of(
        cls, settings: Settings, client: HttpClientSource | Loan | None = None
    ) -> Self:
        """Return the transport that ``settings`` describe; see the constructor."""
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

    def post(self, path: str, body: bytes) -> TransportResponse:
        """Post JSON ``body`` to ``path``; see `Transport`."""
        headers = self._headers if path == EVENTS_PATH else self._batch_headers
        packed = self._coding.compress(body)
        if packed is None:
            answer = self._carrier.send(path, headers, body)
        else:
            answer = self._post_compressed(path, headers, packed, body)
        self._coding.update_from(answer.headers)
        return answer

    def _post_compressed(
        self, path: str, headers: Headers, packed: bytes, body: bytes
    ) -> TransportResponse:
        """Post in gzip; what is refused so is judged by what is said to it plain.

        Behind one address there may be servers of several versions, and an event must
        not be a dead letter because one of them could not read its wrapping.
        """
        in_gzip = [*headers, (b"content-encoding", b"gzip")]
        answer = self._carrier.send(path, in_gzip, packed)
        if answer.status not in AMBIGUOUS_STATUSES:
            return answer
        plain = self._carrier.send(path, headers, body)
        if plain.status != answer.status:
            self._coding.disable()
        return plain

    def close(self) -> None:
        """Close all connections; a client that was lent stays open."""
        self._carrier.close()


def _user_agent() -> str:
    """Return who sends (RFC 9110, section 10.1.5), for the server's log."""
    python = f"python/{platform.python_version()}"
    try:
        return f"outlay/{importlib.metadata.version('outlay')} {python}"
    except importlib.metadata.PackageNotFoundError:  # frozen into a program
        return f"outlay {python}"


def _carrier(
    base_url: str,
    timeout: float,
    deadline: float,
    max_connections: int,
    client: HttpClientSource | Loan | None,
) -> Carrier:
    from outlay._shipping.connections_limits import RequestLimits

    limits = RequestLimits(wait_timeout=timeout, deadline=deadline)
    monotonic = SystemClock.monotonic
    if client is not None:
        from outlay._shipping.user_client import Loan

        loan = client if isinstance(client, Loan) else Loan(client)
        return loan.carrier(base_url, limits, monotonic=monotonic)
    from outlay._shipping.connections import ConnectionPool

    return ConnectionPool(
        base_url, limits, max_connections=max_connections, monotonic=monotonic
    )
