"""Post messages to addresses that users name, and to no address inside of a network.

A user's URL must not let the server reach services of its own network. Source: OWASP,
Server-Side Request Forgery Prevention Cheat Sheet, 2026-11. So each attempt resolves
the name once, checks every address, and connects to a checked one. No second look-up
can name another address. Redirects are not followed, and proxies are not used.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import version
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import httpcore
import httpx

from outlay.server._services.webhook_signing import signed_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from outlay.server._records import Webhook

Address: TypeAlias = IPv4Address | IPv6Address

_CONCURRENT_LOOKUPS: Final = 4
_MOST_RESPONSE_BYTES: Final = 64 * 1024
_GONE: Final = 410
_TLS_PORT: Final = 443
_PLAIN_PORT: Final = 80

# Azure's service for virtual machines has a public address
# (learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16, 2026-11).
# Some releases of Python take a part of IETF's own addresses (RFC 6890) for public.
_INTERNAL: Final = (ip_network("168.63.129.16/32"), ip_network("192.0.0.0/24"))
# These carry an IPv4 address in their last bits (RFC 6052).
_TRANSLATED: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_IPV4_MASK: Final = 2**32 - 1


class SendResult(NamedTuple):
    """The outcome of one attempt.

    Attributes:
        error: The reason of the failure, without any secret. None for a success.
        is_gone: Whether the receiver wants no more messages (status 410).
        retry_after: The value of the header ``Retry-After``, or ''.
    """

    error: str | None = None
    is_gone: bool = False
    retry_after: str = ""


class _RefusedError(Exception):
    """The address may not be reached. The message says why."""


class WebhookSender:
    """Posts signed messages. Thread safety: the event loop's thread.

    Args:
        networks: The networks that may be reached although they are not public.
        now: The source of the time, in microseconds since 1970.
        seconds: The time that an attempt may take as a whole.
        resolve: The function that looks addresses up, as `socket.getaddrinfo`. It runs
            in a thread.
    """

    def __init__(
        self,
        networks: Sequence[IPv4Network | IPv6Network],
        now: Callable[[], int],
        *,
        seconds: float,
        resolve: Callable[..., Iterable[Any]] = socket.getaddrinfo,
    ) -> None:
        self._networks = networks
        self._now = now
        self._resolve = resolve
        self._seconds = seconds
        # Threads of its own: a look-up may hang, and must not hold up other work.
        self._threads = ThreadPoolExecutor(_CONCURRENT_LOOKUPS, "outlay-lookup")
        self._agent = f"outlay/{version('outlay')}".encode()

    @cached_property
    def _ssl_context(self) -> Any:  # noqa: ANN401 - httpx decides
        # Reading all certificates takes long, and most servers have no webhook.
        return httpx.create_ssl_context()

    async def send(self, webhook: Webhook, message_id: str, body: bytes) -> SendResult:
        """Post a message once, and return the outcome. It does not raise."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._send(webhook, message_id, body)
        except TimeoutError:
            return SendResult(f"there was no response within {self._seconds:g} s")
        except _RefusedError as error:
            return SendResult(str(error))
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            # The class alone: a text could quote the URL, which may be a secret.
            return SendResult(f"the connection failed ({_reason(error)})")

    def close(self) -> None:
        """End the threads, without waiting for look-ups."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _send(self, webhook: Webhook, message_id: str, body: bytes) -> SendResult:
        parts = urlsplit(webhook.url)
        is_tls = parts.scheme == "https"
        port = parts.port or (_TLS_PORT if is_tls else _PLAIN_PORT)
        address = await self._address(parts.hostname or "", port, is_tls=is_tls)
        now = self._now()
        headers = [
            (b"host", parts.netloc.encode()),
            (b"content-type", b"application/json"),
            (b"user-agent", self._agent),
            *signed_headers(webhook.secrets_at(now), message_id, body, now),
        ]
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._ssl_context if is_tls else None,
                network_backend=_OneAddress(address),
            ) as pool,
            pool.stream("POST", webhook.url, headers=headers, content=body) as response,
        ):
            await _discard(response)
            return _result(response)

    async def _address(self, host: str, port: int, *, is_tls: bool) -> str:
        """Return the address of a host, if all of its addresses may be reached."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._look_up, host, port
            )
        except (OSError, UnicodeError):
            raise _RefusedError(
                "the name of its host has no address; check the URL"
            ) from None
        for address in found:
            self._check(address, is_tls=is_tls)
        return str(found[0])

    def _look_up(self, host: str, port: int) -> list[Address]:
        rows = self._resolve(host, port, type=socket.SOCK_STREAM)
        return [ip_address(row[4][0]) for row in rows]

    def _check(self, address: Address, *, is_tls: bool) -> None:
        if any(address in network for network in self._networks):
            return
        if not is_public(address):
            raise _RefusedError(
                f"its address {address} is not public; use a public one, or let the "
                "operator allow the network in webhook_networks"
            )
        if not is_tls:
            raise _RefusedError("a public address needs https; change the URL")


def is_public(address: Address) -> bool:
    """Return whether an address is one of the public internet.

    An IPv6 address that carries an IPv4 address is judged by that one.
    """
    carried = _carried(address)
    if carried is not None:
        return is_public(carried)
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _INTERNAL)
    )


def _carried(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if any(address in network for network in _TRANSLATED):
        return IPv4Address(int(address) & _IPV4_MASK)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo and teredo[1])


class _OneAddress(httpcore.AsyncNetworkBackend):
    """Connects to one checked address, whatever the name of the host."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the address. TLS still checks the certificate of ``host``."""
        del host
        return await self._backend.connect_tcp(
            self._address, port, timeout, local_address, socket_options
        )

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse, because no URL leads to a Unix socket."""
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._backend.sleep(seconds)


async def _discard(response: httpcore.Response) -> None:
    """Read a response to its end, or as much as a receiver should send."""
    size = 0
    async for chunk in response.aiter_stream():
        size += len(chunk)
        if size > _MOST_RESPONSE_BYTES:
            return


def _result(response: httpcore.Response) -> SendResult:
    status = response.status
    if 200 <= status < 300:
        return SendResult()
    retry_after = dict(response.headers).get(b"retry-after", b"").decode("latin-1")
    if 300 <= status < 400:
        reason = f"it responded with {status}, a redirect, which is not followed"
        return SendResult(f"{reason}; set the final URL")
    return SendResult(f"it responded with {status}", status == _GONE, retry_after)


def _reason(error: BaseException) -> str:
    """Return the system's word for an error, or its class."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
