"""Capture DSPy: the calls of its own engine, and the customer in its threads.

DSPy calls most models through its own engine, which brings an HTTP transport. Host and
path tell which provider was called. It calls other models through LiteLLM, which is
captured by itself. ``dspy.Parallel`` and evaluations run in thread pools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from outlay._capture.extraction.registry import provider_of
from outlay._capture.instrumentation.http_exchange import (
    RequestJson,
    observe_exchange,
    query_of,
)
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.streams import (
    StreamObserver,
    observe_aiter,
    observe_iter,
)
from outlay._capture.instrumentation.thread_pools import carry_customer
from outlay._capture.instrumentation.wrappers import observe_result
from outlay._model.clock import SystemClock
from outlay._model.rate_limited_log import RateLimitedLog
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from outlay._capture.instrumentation.streams import StreamSink

_TRANSPORTS: Final = "dspy._vendor.lm15.transports"
_log: Final = RateLimitedLog(SystemClock())


def _transport_patch(owner: Any, name: str, scope: InstrumentedClients) -> Patch:
    def on_response(response: Any, transport: Any, request: Any) -> None:
        options = scope.options_for(transport)
        if options is None:
            return
        exchange = _Exchange(request, response)
        provider = options.provider or provider_of(exchange.host)
        if provider is None:
            _log.warn_once(
                f"dspy {exchange.host}",
                "a call of DSPy to %s was not captured, because its provider is not "
                'known: write outlay.instrument("dspy", provider="...") (logged once)',
                exchange.host,
            )
        else:
            observe_exchange("dspy", options, provider, exchange)

    return Patch(owner, name, observe_result("dspy", on_response))


def _sync_patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    yield _transport_patch(module.StdlibTransport, "stream", scope)


def _async_patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    yield _transport_patch(module.StdlibAsyncTransport, "_do_stream", scope)


class _Exchange:
    """A request and its response, as DSPy's transport represents them."""

    body = None  # always open: the engine gets a response before its body

    def __init__(self, request: Any, response: Any) -> None:
        self._request = request
        self._response = response
        self.method: str = request.method.upper()
        url = urlsplit(request.url)
        self.host: str = url.hostname or ""
        self.path: str = url.path
        self.query: Mapping[str, str] = query_of(url.query)
        self.status: int = response.status
        self.headers: Mapping[str, str] = _by_name(response.headers)

    @property
    def request_json(self) -> Mapping[str, Any]:
        return RequestJson(_by_name(self._request.headers), self._request.body)

    def observe_body(self, what: str, sink: StreamSink[bytes]) -> None:
        """Pass the body to ``sink`` while the engine reads it.

        All ways to read a response iterate over its chunks, and end with its release.
        """
        response = self._response
        observer: StreamObserver[bytes] = StreamObserver(what, sink)
        release = response._release  # noqa: SLF001 - nothing public is passed by all
        chunks = response._chunks  # noqa: SLF001 - see above
        if hasattr(chunks, "__anext__"):
            response._chunks = observe_aiter(chunks, observer)  # noqa: SLF001

            async def arelease(body_consumed: bool) -> None:  # noqa: FBT001 - as called
                observer.on_close()
                await release(body_consumed)

            response._release = arelease  # noqa: SLF001
        else:
            response._chunks = observe_iter(chunks, observer)  # noqa: SLF001

            def release_observed(body_consumed: bool) -> None:  # noqa: FBT001 - as called
                observer.on_close()
                release(body_consumed)

            response._release = release_observed  # noqa: SLF001


def _by_name(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


def _pool_patches(module: ModuleType, _scope: InstrumentedClients) -> Iterable[Patch]:
    yield Patch(module, "ThreadPoolExecutor", carry_customer)


def _reject_single_client(client: object) -> Iterable[object]:
    raise ConfigError(
        f"a {type(client).__name__} cannot be captured alone, because DSPy's models "
        'share their transports; write outlay.instrument("dspy")'
    )


LIBRARY: Final = Library(
    "dspy",
    lambda _module, _scope: (),
    patched_objects=_reject_single_client,
    extra_modules={
        f"{_TRANSPORTS}._sync": _sync_patches,
        f"{_TRANSPORTS}._async": _async_patches,
        "dspy.utils.parallelizer": _pool_patches,
    },
)
