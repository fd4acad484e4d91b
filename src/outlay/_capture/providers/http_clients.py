"""Capture single clients of httpx, httpx2 and requests.

They serve providers that have no package of their own. Every request of such a client
goes through its ``send``, and so does each request that a redirect adds. Host and path
tell which provider was called, and the registry tells how to read the response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from outlay._capture.extraction.registry import provider_of
from outlay._capture.instrumentation.http_exchange import (
    RequestJson,
    observe_exchange,
    observe_httpx_response,
    query_of,
)
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.observed_call import ObservedCall
from outlay._capture.instrumentation.streams import (
    RestoresMethods,
    StreamObserver,
    observe_iter,
)
from outlay._capture.instrumentation.wrappers import observe_result

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from outlay._capture.instrumentation.streams import StreamSink

_CACHED: Final = ("from_cache", "hishel_from_cache")
"""Extensions by which caching transports, such as hishel's, mark a free response."""


def _httpx_patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    def on_response(response: Any, client: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_for(client)
        if options is None or ObservedCall.current() is not None:
            return
        if any(map(response.extensions.get, _CACHED)):
            return
        provider = options.provider or provider_of(response.request.url.host)
        if provider is not None:
            observe_httpx_response("httpx", options, provider, response)

    yield Patch(module.Client, "send", observe_result("httpx", on_response))
    yield Patch(module.AsyncClient, "send", observe_result("httpx", on_response))


def _requests_patches(
    module: ModuleType, scope: InstrumentedClients
) -> Iterable[Patch]:
    def on_response(response: Any, session: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_for(session)
        if options is None or ObservedCall.current() is not None:
            return
        if response.history:
            return  # after redirects, ``send`` returns a response that it sent itself
        if getattr(response, "from_cache", False):  # CacheControl's mark
            return
        host = urlsplit(response.request.url).hostname
        provider = options.provider or provider_of(host or "")
        if provider is not None:
            observe_exchange("requests", options, provider, _Exchange(response))

    yield Patch(module.Session, "send", observe_result("requests", on_response))


class _Exchange:
    """A request and its response, as requests represents them."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.method: str = response.request.method
        url = urlsplit(response.request.url)
        self.host: str = url.hostname or ""
        self.path: str = url.path
        self.query: Mapping[str, str] = query_of(url.query)
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    @property
    def request_json(self) -> Mapping[str, Any]:
        request = self._response.request
        body = request.body
        content = body.encode() if isinstance(body, str) else body
        # A body that was sent in parts is gone.
        return RequestJson(
            request.headers, content if isinstance(content, bytes) else b""
        )

    @property
    def body(self) -> bytes | None:
        response = self._response
        is_read = response._content_consumed  # noqa: SLF001 - nothing public says so
        return response.content if is_read else None

    def observe_body(self, what: str, reader: StreamSink[bytes]) -> None:
        """Pass the body to ``reader`` while the caller reads it.

        All public ways to read go through ``iter_content`` and ``close``. A caller
        that reads ``response.raw`` is not observed, and its cost is incomplete.
        """
        response = self._response
        kind = type(response)
        names = ("iter_content", "close")
        observer: StreamObserver[Any] = StreamObserver(
            what, RestoresMethods(response, names, _BytesSink(reader))
        )

        def iter_content(*args: Any, **kwargs: Any) -> Iterator[Any]:
            return observe_iter(kind.iter_content(response, *args, **kwargs), observer)

        def close() -> None:
            try:
                kind.close(response)
            finally:
                observer.on_close()

        vars(response).update(zip(names, (iter_content, close), strict=True))


class _BytesSink:
    """Passes on as bytes what requests may have decoded already."""

    def __init__(self, reader: StreamSink[bytes]) -> None:
        self._reader = reader
        self.finish = reader.finish

    def feed(self, item: bytes | str) -> None:
        self._reader.feed(item.encode() if isinstance(item, str) else item)


HTTPX: Final = Library("httpx", _httpx_patches, clients_only=True)
HTTPX2: Final = Library("httpx2", _httpx_patches, clients_only=True)
REQUESTS: Final = Library("requests", _requests_patches, clients_only=True)
