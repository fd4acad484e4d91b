"""Sessions of requests, for providers without a package of their own.

Every request of a session goes through its ``send``, and so does each of a call that
is redirected: it sends itself what it is told to, and returns the last response.
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
    RestoresMethods,
    StreamObserver,
    observe_iter,
)
from outlay._capture.instrumentation.wrappers import returning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from outlay._capture.instrumentation.streams import StreamSink


def _patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    def on_response(response: Any, session: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_for(session)
        if options is None or response.history:  # the last of them was seen already
            return
        if getattr(response, "from_cache", False):  # as CacheControl marks it
            return
        host = urlsplit(response.request.url).hostname
        provider = options.provider or provider_of(host or "")
        if provider is not None:
            observe_exchange("requests", options, provider, _Exchange(response))

    yield Patch(module.Session, "send", returning("requests", on_response))


class _Exchange:
    """As requests has it."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.method: str = response.request.method
        url = urlsplit(response.request.url)
        self.path: str = url.path
        self.query: Mapping[str, str] = query_of(url.query)
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    @property
    def request_json(self) -> Mapping[str, Any]:
        request = self._response.request
        body = request.body
        content = body.encode() if isinstance(body, str) else body
        # What is sent in parts is not there to be read.
        return RequestJson(
            request.headers, content if isinstance(content, bytes) else b""
        )

    @property
    def body(self) -> bytes | None:
        response = self._response
        is_read = response._content_consumed  # noqa: SLF001 - nothing public tells
        return response.content if is_read else None

    def observe_body(self, what: str, reader: StreamSink[bytes]) -> None:
        """Let ``reader`` see the body: every way to read it leads through two methods.

        Who reads ``response.raw`` instead is not seen, and its cost is incomplete.
        """
        response = self._response
        kind = type(response)
        names = ("iter_content", "close")
        watch: StreamObserver[Any] = StreamObserver(
            what, RestoresMethods(response, names, _Bytes(reader))
        )

        def iter_content(*args: Any, **kwargs: Any) -> Iterator[Any]:
            return observe_iter(kind.iter_content(response, *args, **kwargs), watch)

        def close() -> None:
            try:
                kind.close(response)
            finally:
                watch.on_close()

        vars(response).update(zip(names, (iter_content, close), strict=True))


class _Bytes:
    """Reads on as bytes what requests may have decoded already."""

    def __init__(self, reader: StreamSink[bytes]) -> None:
        self._reader = reader
        self.finish = reader.finish

    def feed(self, item: bytes | str) -> None:
        self._reader.feed(item.encode() if isinstance(item, str) else item)


LIBRARY: Final = Library("requests", _patches, by_client_only=True)
