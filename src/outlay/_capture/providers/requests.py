"""Sessions of requests, for providers without a package of their own.

Every request of a session goes through its ``send``, and so does each of a call that
is redirected: it sends itself what it is told to, and returns the last response.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from outlay._capture.exchanges import Sent, query_of, settle
from outlay._capture.hooks import returning
from outlay._capture.instrumenting import Library, Scope, Seam
from outlay._capture.registry import provider_of
from outlay._capture.streams import Unshadowing, Watch, watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from outlay._capture.streams import Reader


def _seams(module: ModuleType, scope: Scope) -> Iterable[Seam]:
    def answered(response: Any, session: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_of(session)
        if options is None or response.history:  # the last of them was seen already
            return
        if getattr(response, "from_cache", False):  # as CacheControl marks it
            return
        host = urlsplit(response.request.url).hostname
        provider = options.provider or provider_of(host or "")
        if provider is not None:
            settle("requests", options, provider, _Exchange(response))

    yield Seam(module.Session, "send", returning("requests", answered))


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
    def sent(self) -> Mapping[str, Any]:
        request = self._response.request
        body = request.body
        content = body.encode() if isinstance(body, str) else body
        # What is sent in parts is not there to be read.
        return Sent(request.headers, content if isinstance(content, bytes) else b"")

    @property
    def body(self) -> bytes | None:
        response = self._response
        is_read = response._content_consumed  # noqa: SLF001 - nothing public tells
        return response.content if is_read else None

    def watch(self, what: str, reader: Reader[bytes]) -> None:
        """Let ``reader`` see the body: every way to read it leads through two methods.

        Who reads ``response.raw`` instead is not seen, and its cost is incomplete.
        """
        response = self._response
        kind = type(response)
        names = ("iter_content", "close")
        watch: Watch[Any] = Watch(what, Unshadowing(response, names, _Bytes(reader)))

        def iter_content(*args: Any, **kwargs: Any) -> Iterator[Any]:
            return watched(kind.iter_content(response, *args, **kwargs), watch)

        def close() -> None:
            try:
                kind.close(response)
            finally:
                watch.closed()

        vars(response).update(zip(names, (iter_content, close), strict=True))


class _Bytes:
    """Reads on as bytes what requests may have decoded already."""

    def __init__(self, reader: Reader[bytes]) -> None:
        self._reader = reader
        self.end = reader.end

    def see(self, item: bytes | str) -> None:
        self._reader.see(item.encode() if isinstance(item, str) else item)


LIBRARY: Final = Library("requests", _seams, by_client_only=True)
