"""Requests over connections of our own: httpx's engine, without its client.

httpx is made for programs that talk to the whole world: each request is merged with
parameters, cookies, credentials and hooks, and looked up among proxies. Ours all go to
one address with the same headers, and there are many. So they are handed to the layer
below, httpcore, which keeps the connections and speaks HTTP for httpx as well; that
takes little more than half of the CPU (`bench/requests.py`). What addresses, proxies
and certificates mean remains httpx's business.

Each request has a pool of one connection to itself. A pool that threads share can close
a connection under a request: it looks whether an idle one has been closed by the
server, and takes the answer to a request that began meanwhile for that (httpcore 1.0.9,
https://github.com/encode/httpcore/issues/1110).
"""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import zlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from outlay._model.settings import is_loopback
from outlay._shipping.connections_deadlines import DeadlineBackend
from outlay._shipping.connections_limits import (
    MAX_ANSWER_BYTES,
    mapped_errors,
    read_body,
    response_too_large,
)
from outlay._shipping.transport import TransportResponse
from outlay.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from outlay._shipping.connections_limits import Headers, RequestLimits

KEEP_ALIVE_SECONDS: Final = 5.0
"""For how long an idle connection is kept; httpx's own choice."""

_UNSENT: Final = (
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


class ConnectionPool:
    """Moves requests over connections that are kept alive between them.

    Obeys ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``,
    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``; but no proxy is asked for a server on this
    machine: it would look for it on its own.

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
        """Prepare; connections are made when needed.

        Raises:
            ConfigError: the environment names a proxy that cannot be used.
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
            "ssl_context": _ssl_context(url),
            "max_connections": 1,
            "keepalive_expiry": KEEP_ALIVE_SECONDS,
            "network_backend": DeadlineBackend(limits.wait_timeout, monotonic),
        }
        proxy = _proxy_for(url)
        self._pools: Final = [_pool(proxy, options) for _ in range(max_connections)]
        # The one used last goes first: its connection is the likeliest to be alive.
        self._idle: Final[queue.LifoQueue[httpcore.ConnectionPool]] = queue.LifoQueue()
        for pool in self._pools:
            self._idle.put(pool)

    def send(self, path: str, headers: Headers, body: bytes) -> TransportResponse:
        """Post ``body`` to ``path``; see `Carrier`."""
        request = self._request(path, headers, body)
        with self._exclusive_connection() as pool, mapped_errors(_UNSENT, _FAILED):
            response = pool.handle_request(request)
            try:
                raw = read_body(response.iter_stream())
            finally:
                response.close()
        answered = httpx.Headers(response.headers)
        if answered.get("content-encoding", "").lower() == "gzip":
            raw = _gunzip(raw)
        return TransportResponse(response.status, answered, raw)

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
        # Moments, and not seconds: see `deadlines`.
        moment = self._monotonic() + self._limits.deadline
        timeout = {"connect": moment, "read": moment, "write": moment}
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


def _proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy that the environment, or the system, names for ``url``.

    Raises:
        ConfigError: it is none.
    """
    if is_loopback(str(url)) or proxy_bypass(url.netloc.decode()):
        return None
    named = getproxies()
    address = named.get(url.scheme) or named.get("all")
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


def _ssl_context(url: httpx.URL) -> ssl.SSLContext | None:
    # It takes long to read all the certificates: only where they are needed.
    return httpx.create_ssl_context() if url.scheme == "https" else None


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
    """Return gzip'd bytes as they were before."""
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        body = inflater.decompress(raw, MAX_ANSWER_BYTES)
    except zlib.error as error:
        raise UnavailableError(f"the answer is no gzip: {error}", sent=True) from error
    if inflater.unconsumed_tail:
        raise response_too_large()
    return body
