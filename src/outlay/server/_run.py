"""Run the server in the foreground, or in a thread beside other code."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import signal
import socket
import ssl
import sys
import threading
from contextlib import contextmanager, suppress
from errno import EADDRINUSE
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import uvicorn
from starlette.middleware import Middleware

from outlay._model.clock import Clock, SystemClock
from outlay.server._app import app_for
from outlay.server._core import ServerCore
from outlay.server._dashboard.responses import STATIC_PREFIX, page_for_person
from outlay.server._errors import (
    AddressError,
    AddressInUseError,
    CertificateError,
    ServerError,
)
from outlay.server._http.connections import ConnectionLimits, Connections
from outlay.server._http.host_check import HostCheck
from outlay.server._http.limited_protocol import LimitedProtocol
from outlay.server._http.tls import TlsHandshake
from outlay.server._logs import limit_repeats
from outlay.server._storage.opening import open_store

try:
    import resource
except ImportError:  # not POSIX
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from outlay.server._services.ingest import IngestCounts
    from outlay.server._settings import ServerSettings
    from outlay.server._storage.store import Store

log = logging.getLogger("outlay.server")

_BACKLOG: Final = 2048  # connections that may wait to be accepted
_TURN_SECONDS: Final = 0.001  # Python itself has 0.005, for which each post waits
_ALLOCATIONS: Final = 50_000  # between collections; Python's own 700 cost a tenth
# Longer than any client keeps an idle connection, Go's 90 seconds included. Else a
# client sends a request into a connection that the server is about to close.
_KEEP_ALIVE_SECONDS: Final = 120
_OTHER_FILES: Final = 100  # that are open beside the connections


class ServerStarted(NamedTuple):
    """The address and the first key of a started server.

    Attributes:
        url: The server's URL.
        generated_key: The key that the first start created, to be shown once, or None.
        sign_in_path: The path that signs one browser in on the dashboard, once.
    """

    url: str
    generated_key: str | None
    sign_in_path: str = "/"


class _Server(uvicorn.Server):
    """A uvicorn server that calls a function when it is ready."""

    def __init__(
        self,
        core: ServerCore,
        middleware: Sequence[Middleware],
        ready: Callable[[], None],
    ) -> None:
        self._connections = Connections(_limits(core.settings))
        super().__init__(_config(core, middleware, self._connections))
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start up, then call the function."""
        try:
            await super().startup(sockets)
        except SystemExit:
            # Some releases of uvicorn exit, others return. In both cases the caller
            # finds that the server has not started, and raises.
            self.should_exit = True
        if self.started:
            self._connections.start(asyncio.get_running_loop())
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests in flight, and close all connections."""
        await super().shutdown(sockets)
        self._connections.stop()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGTERM and SIGINT, and then return to the caller.

        The inherited version raises the signal again afterwards. The process would
        then end with a failure after a clean stop.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    settings: ServerSettings,
    *,
    on_start: Callable[[ServerStarted], None] | None = None,
    clock: Clock | None = None,
    middleware: Sequence[Middleware] = (),
) -> None:
    """Run the server until SIGTERM or SIGINT. Call it from the main thread.

    On a signal, the server accepts no new connections, finishes the requests in
    flight, and closes the database. An event whose response was 202 is on disk in any
    case.

    Args:
        settings: The server's settings.
        on_start: A function that is called when the server listens.
        clock: The source of the time. Defaults to the machine's clock.
        middleware: The middleware around all routes. See `create_app`.

    Raises:
        AddressInUseError: Another program listens on the address.
        AddressError: The server cannot listen on the address.
        DatabaseError: The database cannot be used.
    """
    check_certificate(settings)
    core = ServerCore(settings, clock or SystemClock())
    with open_listener(settings.host, settings.port) as listener:
        core.open()
        started = ServerStarted(
            _url(listener, settings),
            core.generated_key,
            f"/sign-in?token={core.sessions.create_link_token()}",
        )

        def ready() -> None:
            log.info("listening on %s", started.url)
            _warn_if_exposed(settings, started.url)
            if on_start is not None:
                on_start(started)

        _allow_many_files()
        with rare_garbage_collection(), short_turns():
            _run_until_stopped(_Server(core, middleware, ready), listener, core)


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Collect cyclic garbage rarely, because a batch creates thousands of objects.

    None of them is cyclic. What exists before, such as modules, stays until the end.
    So no collection looks at it, which would stop all threads for some 80 ms. Only the
    server's own process changes these settings.
    """
    before = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS, *before[1:])
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@contextmanager
def short_turns() -> Iterator[None]:
    """Let a post interrupt the thread of a query sooner than Python would.

    Only the server's own process changes this setting.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class BackgroundServer:
    """A server in a thread of this process, for tests, demos and notebooks.

    Thread safety: any thread.

    Args:
        settings: The server's settings. Port 0 takes any free port.
        clock: The source of the time. Defaults to the machine's clock.
        middleware: The middleware around all routes. See `create_app`.
        open_store: The function that opens the store. Defaults to the SQLite file of
            the settings.

    Example:
        with BackgroundServer(ServerSettings(port=0, database=":memory:")) as server:
            print(server.url, server.api_key)
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        clock: Clock | None = None,
        middleware: Sequence[Middleware] = (),
        open_store: Callable[[ServerSettings], Store] = open_store,
    ) -> None:
        self._settings = settings
        self._core = ServerCore(settings, clock or SystemClock(), open_store)
        self._middleware = middleware
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="outlay-server", daemon=True
        )
        self._failure: ServerError | None = None

    def start(self) -> Self:
        """Start, and return when the server accepts requests.

        Raises:
            ServerError: The server cannot start, as in `serve`.
        """
        check_certificate(self._settings)
        self._listener = open_listener(self._settings.host, self._settings.port)
        try:
            self._core.open()
        except BaseException:
            self._listener.close()
            raise
        self._url = _url(self._listener, self._settings)
        _warn_if_exposed(self._settings, self._url)
        self._server = _Server(self._core, self._middleware, self._on_ready)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def stop(self) -> None:
        """Finish the requests in flight, close the database, end the thread."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The server's URL, such as ``http://127.0.0.1:49152``."""
        return self._url

    @property
    def api_key(self) -> str | None:
        """The fixed key, or the key that this start generated."""
        return self._settings.api_key or self._core.generated_key

    @property
    def counts(self) -> IngestCounts:
        """The counts of received events since the start."""
        return self._core.ingest.counts

    def create_key(
        self, name: str, permissions: Iterable[str], *, namespace: str | None = None
    ) -> str:
        """Create an API key with ``permissions``, and return it. It is not stored.

        Args:
            name: The name in lists of keys.
            permissions: The permissions, such as ``events:create``; ``*`` is all.
            namespace: The organization. Defaults to the server's.

        Raises:
            ValueError: A permission does not exist.
        """
        creating = self._core.create_key(name, permissions, namespace=namespace)
        return asyncio.run_coroutine_threadsafe(creating, self._loop).result()

    def revoke_key(self, key: str) -> None:
        """Revoke an API key. The next request with it is refused."""
        revoking = self._core.revoke_key(key)
        asyncio.run_coroutine_threadsafe(revoking, self._loop).result()

    def _on_ready(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()

    def _run(self) -> None:
        try:
            _run_until_stopped(self._server, self._listener, self._core)
        except ServerError as error:
            self._failure = error
        finally:
            self._ready.set()


def _run_until_stopped(
    server: _Server, listener: socket.socket, core: ServerCore
) -> None:
    try:
        with listener:
            server.run(sockets=[listener])
    finally:
        # For a server that never started. A started one has closed the core already.
        core.close()
    if not server.started:
        raise ServerError("the server did not start up; see the reason in its log")


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on ``host`` and ``port``.

    Raises:
        AddressInUseError: Another program listens on the address.
        AddressError: The server cannot listen on the address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressError(
            f"cannot listen on {host} ({error}); name another host"
        ) from error
    try:
        # A restarted server must not wait until old connections time out.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == EADDRINUSE:
            raise AddressInUseError(
                f"port {port} on {host} is taken; stop the program that listens there, "
                "or choose another port (0 takes any free one)"
            ) from error
        raise AddressError(
            f"cannot listen on port {port} of {host} ({error.strerror}); "
            "choose another host or port"
        ) from error
    return listener


def _url(listener: socket.socket, settings: ServerSettings) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _warn_if_exposed(settings: ServerSettings, url: str) -> None:
    if settings.is_exposed:
        log.warning(
            "other machines can reach %s over plain HTTP, which shows API keys to the "
            "network; set tls_cert, or put a proxy with TLS before it",
            url,
        )


def check_certificate(settings: ServerSettings) -> None:
    """Load the certificate of TLS, and raise if that fails.

    Raises:
        CertificateError: The certificate or its key cannot be used.
    """
    _tls_context(settings)


def _tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # ssl.SSLError is one
        raise CertificateError(
            f"the certificate {settings.tls_cert} cannot be used ({error}); check that "
            "both files can be read, are PEM, and belong together"
        ) from error
    return context


def _allow_many_files() -> None:
    """Raise this process's limit of open files as far as the system allows it."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # The system may have a limit of its own.
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _limits(settings: ServerSettings) -> ConnectionLimits:
    most = settings.max_connections
    if resource is not None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            most = max(min(most, soft - _OTHER_FILES), 1)
    return ConnectionLimits(
        connections=most,
        per_address=settings.max_connections_per_address,
        head_seconds=settings.head_timeout,
        body_seconds=settings.body_timeout,
        write_seconds=settings.body_timeout,
        head_bytes=settings.max_waiting_bytes,
    )


def _config(
    core: ServerCore, middleware: Sequence[Middleware], connections: Connections
) -> uvicorn.Config:
    context = _tls_context(core.settings)

    def protocol(**parts: Any) -> asyncio.Protocol:  # noqa: ANN401 - uvicorn's own
        http = LimitedProtocol(**parts, connections=connections)
        if context is None:
            return http
        ending = parts["server_state"].connections
        return TlsHandshake(http, context, connections, ending)

    limit_repeats()
    check = Middleware(
        HostCheck,
        settings=core.settings,
        page=page_for_person,
        public_prefix=STATIC_PREFIX,
    )
    return uvicorn.Config(
        app_for(core, [check, *middleware]),
        http=protocol,  # type: ignore[arg-type] # called as the class would be
        loop="auto",  # uvloop where there is one
        ws="none",
        lifespan="on",
        log_config=None,  # the program configures logging
        access_log=False,  # `RequestLog` writes it
        server_header=False,
        timeout_graceful_shutdown=math.ceil(core.settings.shutdown_timeout),
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
