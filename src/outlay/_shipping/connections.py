"""Keep connections, and bound the time of each request.

The engine is httpcore, the layer below httpx. httpx merges each request with
parameters, cookies, credentials and hooks, and looks it up among proxies. All of our
requests go to one address with the same headers, and there are many. httpcore alone
takes little more than half of the CPU time (`bench/transport.py`). httpx still decides
about addresses, proxies and certificates.

Each request has a pool of one connection to itself. A pool that threads share can close
a connection under a request. It checks whether the server closed an idle connection. It
mistakes the response to a new request for that (httpcore 1.0.9,
https://github.com/encode/httpcore/issues/1110).
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import queue
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from outlay._model.settings import is_loopback
from outlay._shipping.client_options import authorities
from outlay._shipping.transport import TransportResponse
from outlay.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator, Mapping

KEEP_ALIVE_SECONDS: Final = 5.0
"""The time for which an idle connection is kept. httpx has the same default."""

MAX_RESPONSE_BYTES: Final = 8 * 1024 * 1024
"""The largest body of a response, decoded. One to a thousand events has some 300 KB."""

SLICE_BYTES: Final = 256 * 1024
"""The bytes of a body that are written between two checks of the deadline."""

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Errors: TypeAlias = tuple[type[Exception], ...]

_NOT_SENT: Final = (
    httpcore.ConnectError,
    httpcore.ConnectTimeout,
    httpcore.PoolTimeout,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
_FAILED: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
)


class RequestLimits(NamedTuple):
    """The time that a request may take.

    Attributes:
        wait_timeout: The longest single wait for the network, in seconds.
        deadline: The longest time to the response's last byte, in seconds.
    """

    wait_timeout: float
    deadline: float


class ConnectionPool:
    """Sends requests to one address over connections that stay open between them.

    It obeys ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``,
    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``. It asks no proxy for a server on this
    machine. The proxy would look for the server on its own machine.

    Thread safety: any thread.
    """

    def __init__(
        self,
        base_url: str,
        limits: RequestLimits,
        *,
        max_connections: int,
        monotonic: Callable[[], float],
    ) -> None:
        """Prepare. Connections are made when they are needed.

        Args:
            base_url: The prefix of all paths.
            limits: The limits of time.
            max_connections: The largest number of connections at a time.
            monotonic: A function that returns monotonic seconds.

        Raises:
            ConfigError: The environment names a proxy or certificates that cannot be
                used.
        """
        url = httpx.URL(base_url)
        self._url: Final = url
        self._prefix: Final = url.raw_path.rstrip(b"/")
        self._fixed_headers: Final = [
            (b"host", url.netloc),
            (b"accept-encoding", b"gzip"),
        ]
        self._limits: Final = limits
        self._monotonic: Final = monotonic
        options = {
            # Reading all certificates takes long, and only TLS needs them.
            "ssl_context": authorities() if url.scheme == "https" else None,
            "max_connections": 1,
            "keepalive_expiry": KEEP_ALIVE_SECONDS,
            "network_backend": DeadlineBackend(limits.wait_timeout, monotonic),
        }
        proxy = _proxy_for(url)
        self._pools: Final = [_pool(proxy, options) for _ in range(max_connections)]
        # Last in, first out: the connection of the latest request is most likely open.
        self._idle: Final[queue.LifoQueue[httpcore.ConnectionPool]] = queue.LifoQueue()
        for pool in self._pools:
            self._idle.put(pool)

    def send(self, path: str, headers: Headers, body: bytes) -> TransportResponse:
        """Post ``body`` to ``path`` and return the response, whatever its status.

        Raises:
            UnavailableError: There was no response, or it was too large.
        """
        request = self._request(path, headers, body)
        with self._exclusive_connection() as pool, mapped_errors(_NOT_SENT, _FAILED):
            response = pool.handle_request(request)
            try:
                raw = read_body(response.iter_stream())
            finally:
                response.close()
        response_headers = httpx.Headers(response.headers)
        if response_headers.get("content-encoding", "").lower() == "gzip":
            raw = _gunzip(raw)
        return TransportResponse(response.status, response_headers, raw)

    @contextlib.contextmanager
    def _exclusive_connection(self) -> Iterator[httpcore.ConnectionPool]:
        try:
            pool = self._idle.get(timeout=min(self._limits))
        except queue.Empty:
            raise UnavailableError(
                f"PoolTimeout: all {len(self._pools)} connections are in use",
                sent=False,
            ) from None
        try:
            yield pool
        finally:
            self._idle.put(pool)

    def _request(self, path: str, headers: Headers, body: bytes) -> httpcore.Request:
        # Instants, where httpcore expects seconds. See `DeadlineBackend`.
        deadline_at = self._monotonic() + self._limits.deadline
        timeout = {"connect": deadline_at, "read": deadline_at, "write": deadline_at}
        return httpcore.Request(
            b"POST",
            httpcore.URL(
                scheme=self._url.raw_scheme,
                host=self._url.raw_host,
                port=self._url.port,
                target=self._prefix + path.encode(),
            ),
            headers=[
                *self._fixed_headers,
                *headers,
                (b"content-length", b"%d" % len(body)),
            ],
            content=body,
            extensions={"timeout": timeout},
        )

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools:
            pool.close()


class DeadlineBackend(httpcore.SyncBackend):
    """Makes connections on which a whole request has a deadline.

    A socket's timeout bounds one wait. A server that sends a byte now and then keeps
    each wait short, and the sender busy without end. So the "timeout" that httpcore
    passes on is the instant at which the request must be over. Each wait gets the time
    that remains.

    Thread safety: any thread.
    """

    def __init__(self, wait_timeout: float, monotonic: Callable[[], float]) -> None:
        """Prepare.

        Args:
            wait_timeout: The longest single wait, in seconds.
            monotonic: A function that returns monotonic seconds.
        """
        self._wait_timeout = wait_timeout
        self._monotonic = monotonic

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect before the instant ``timeout``."""
        remaining = self.remaining(timeout, httpcore.ConnectTimeout)
        stream = super().connect_tcp(
            host, port, remaining, local_address, socket_options
        )
        return _DeadlineStream(stream, self.remaining)

    def remaining(self, deadline_at: float | None, error: type[Exception]) -> float:
        """Return the seconds that a wait may take, or raise ``error``."""
        if deadline_at is None:
            return self._wait_timeout
        seconds = deadline_at - self._monotonic()
        if seconds <= 0:
            raise error("the deadline of the request has passed")
        return min(seconds, self._wait_timeout)


class _DeadlineStream(httpcore.NetworkStream):
    """A connection whose waits end at the instant passed as ``timeout``."""

    def __init__(
        self,
        stream: httpcore.NetworkStream,
        remaining: Callable[[float | None, type[Exception]], float],
    ) -> None:
        self._stream = stream
        self._remaining = remaining

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        remaining = self._remaining(timeout, httpcore.ReadTimeout)
        return self._stream.read(max_bytes, remaining)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # The stream below restarts its wait with each byte that the server takes.
        for start in range(0, len(buffer), SLICE_BYTES):
            remaining = self._remaining(timeout, httpcore.WriteTimeout)
            self._stream.write(buffer[start : start + SLICE_BYTES], remaining)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        remaining = self._remaining(timeout, httpcore.ConnectTimeout)
        stream = self._stream.start_tls(ssl_context, server_hostname, remaining)
        return _DeadlineStream(stream, self._remaining)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def read_body(parts: Iterable[bytes]) -> bytes:
    """Return a response's body.

    Raises:
        UnavailableError: The body is larger than `MAX_RESPONSE_BYTES`.
    """
    received, size = [], 0
    for part in parts:
        size += len(part)
        if size > MAX_RESPONSE_BYTES:
            raise response_too_large()
        received.append(part)
    return b"".join(received)


def response_too_large() -> UnavailableError:
    """Return the error for a response that is too large."""
    return UnavailableError(
        f"the response is larger than {MAX_RESPONSE_BYTES} bytes", sent=True
    )


@contextlib.contextmanager
def mapped_errors(not_sent: Errors, failed: Errors) -> Iterator[None]:
    """Map a library's errors to `UnavailableError`.

    Args:
        not_sent: The errors after which no byte of the request has left.
        failed: All other errors. The request may have arrived.
    """
    try:
        yield
    except not_sent as error:
        raise UnavailableError(_description(error), sent=False) from error
    except failed as error:
        raise UnavailableError(_description(error), sent=True) from error


def _description(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy that the environment or the system names for ``url``.

    Raises:
        ConfigError: The proxy's address is malformed.
    """
    if is_loopback(str(url)) or proxy_bypass(url.netloc.decode()):
        return None
    proxies = getproxies()
    if _is_in_network(url.host, proxies.get("no", "")):
        return None
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address:
        return None
    try:
        urlsplit(address)  # stricter about brackets
        return httpx.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL):
        # Without the address: it may have a password in it.
        raise ConfigError(
            f"the proxy for {url.scheme} addresses is malformed: correct "
            f"{url.scheme.upper()}_PROXY or ALL_PROXY, such as http://proxy:3128"
        ) from None


def _is_in_network(host: str, networks: str) -> bool:
    """Return whether an address is in one of the networks of ``NO_PROXY``.

    Python's own check knows only names: 10.0.0.0/8 exempts nothing there.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in networks.split(","):
        with contextlib.suppress(ValueError):
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    return False


def _pool(
    proxy: httpx.Proxy | None, options: Mapping[str, Any]
) -> httpcore.ConnectionPool:
    if proxy is None:
        return httpcore.ConnectionPool(**options)
    address = httpcore.URL(
        scheme=proxy.url.raw_scheme,
        host=proxy.url.raw_host,
        port=proxy.url.port,
        target=proxy.url.raw_path,
    )
    if proxy.url.scheme in {"http", "https"}:
        return httpcore.HTTPProxy(address, proxy_auth=proxy.raw_auth, **options)
    if importlib.util.find_spec("socksio") is None:
        raise ConfigError(
            "a SOCKS proxy needs one more package: pip install 'httpx[socks]'"
        )
    return httpcore.SOCKSProxy(address, proxy_auth=proxy.raw_auth, **options)


def _gunzip(raw: bytes) -> bytes:
    """Return the bytes that ``raw`` has in gzip.

    Raises:
        UnavailableError: ``raw`` is no gzip, or too large when it is decoded.
    """
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = inflater.decompress(raw, MAX_RESPONSE_BYTES)
    except zlib.error as error:
        raise UnavailableError(
            f"the response is no gzip: {error}", sent=True
        ) from error
    if inflater.unconsumed_tail:
        raise response_too_large()
    return body
