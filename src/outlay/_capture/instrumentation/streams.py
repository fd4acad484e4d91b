"""Observe streams while their reader reads them, and finish once, at the end.

A stream ends when it is exhausted, closed, broken by an error, or garbage-collected.
Its reader gets every item unchanged, when it comes.
"""

from __future__ import annotations

import contextvars
import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from outlay._capture.guard import guarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class StreamSink(Protocol[T_contra]):
    """Gets the items of a stream, on the thread or task that reads it."""

    def feed(self, item: T_contra) -> None:
        """Take an item, before the stream's reader gets it."""
        ...

    def finish(self, *, exhausted: bool) -> None:
        """End. ``exhausted`` tells whether all items were read."""
        ...


class StreamObserver(Generic[T]):
    """Passes a stream's items to a sink, and its end exactly once.

    The end runs in the context that the observer was created in. So a cost belongs to
    the code that made the call, not to the code that reads the stream. As a context
    manager, the observer ends with the block. All was read, unless the block raised.

    Thread safety: as the stream itself; the end may come from any thread.

    Attributes:
        in_progress: Whether the reader waits for an item.
    """

    def __init__(self, what: str, sink: StreamSink[T]) -> None:
        self._what = what
        self._context = contextvars.copy_context()
        # Popping is atomic: if a close and a finaliser race, only one gets the sink.
        self._sink = [sink]
        self._feed = sink.feed
        self.in_progress = False

    def __enter__(self) -> None:
        self.in_progress = True

    def __exit__(self, _kind: object, error: BaseException | None, _: object) -> None:
        self.in_progress = False
        self.finish(exhausted=error is None)

    def feed(self, item: T) -> None:
        """Pass an item to the sink."""
        guarded(self._what, self._feed, item)

    def finish(self, *, exhausted: bool = False) -> None:
        """End the sink, unless it has ended."""
        try:
            sink = self._sink.pop()
        except IndexError:
            return
        guarded(self._what, self._context.run, sink.finish, exhausted=exhausted)

    def on_close(self) -> None:
        """End, because the stream was closed, unless the reader waits for an item.

        Libraries close a response while they read its last bytes. Then the iteration
        knows whether all was read.
        """
        if not self.in_progress:
            self.finish()

    def detach(self) -> None:
        """Forget the sink without ending it."""
        self._sink.clear()

    def __del__(self) -> None:
        self.finish()


def observe_iter(items: Iterator[T], observer: StreamObserver[T]) -> Iterator[T]:
    """Yield all items, observed. It is a generator, as the libraries' streams are.

    A generator that is never read ends with its observer, by garbage collection.
    """
    try:
        with observer:
            for item in items:
                observer.in_progress = False
                observer.feed(item)
                yield item
                observer.in_progress = True
    finally:
        if hasattr(items, "close"):
            items.close()


async def observe_aiter(
    items: AsyncIterator[T], observer: StreamObserver[T]
) -> AsyncIterator[T]:
    """Yield all items, observed: the asynchronous twin of `observe_iter`."""
    try:
        with observer:
            async for item in items:
                observer.in_progress = False
                observer.feed(item)
                yield item
                observer.in_progress = True
    finally:
        if hasattr(items, "aclose"):
            await items.aclose()


_OBSERVER: Final = "_outlay_observer"


def observe_body(what: str, response: Any, sink: StreamSink[bytes]) -> None:
    """Pass the body of an HTTP response to ``sink`` while its reader reads it.

    A response that two sources observe belongs to the later one. It is the outer one,
    such as a provider's client above an HTTP client, and knows more of the call.

    Args:
        what: The library, for the log line of a failure.
        response: A response of httpx or httpx2, open, and not read yet. Its methods
            ``iter_bytes`` and ``close``, and their asynchronous twins, are shadowed
            until the end. All ways to read it use them.
        sink: The function that gets the decoded bytes.
    """
    earlier: StreamObserver[bytes] | None = vars(response).get(_OBSERVER)
    if earlier is not None:
        earlier.detach()
    kind = type(response)
    names = ("iter_bytes", "aiter_bytes", "close", "aclose", _OBSERVER)
    observer: StreamObserver[bytes] = StreamObserver(
        what, RestoresMethods(response, names, sink)
    )

    # These hold the response, which holds them, until the end. A weak reference would
    # be dead when the collector closes a forgotten stream, which must still be closed.
    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        return observe_iter(kind.iter_bytes(response, chunk_size), observer)

    def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        return observe_aiter(kind.aiter_bytes(response, chunk_size), observer)

    def close() -> None:
        try:
            kind.close(response)
        finally:
            observer.on_close()

    async def aclose() -> None:
        try:
            await kind.aclose(response)
        finally:
            observer.on_close()

    shadows = (iter_bytes, aiter_bytes, close, aclose, observer)
    vars(response).update(zip(names, shadows, strict=True))


class RestoresMethods(Generic[T]):
    """Restores an object's own methods at the end, so that it can be pickled again."""

    def __init__(
        self, shadowed: object, names: tuple[str, ...], sink: StreamSink[T]
    ) -> None:
        """Pass items on to ``sink``, until the end.

        Args:
            shadowed: The object whose attributes shadow the methods of its class.
            names: The names of these attributes.
            sink: The sink. It ends after the methods are restored.
        """
        self._shadowed = weakref.ref(shadowed)
        self._names = names
        self._sink = sink
        self.feed = sink.feed

    def finish(self, *, exhausted: bool) -> None:
        """Restore the methods, and end the sink."""
        shadowed = self._shadowed()
        if shadowed is not None:
            for name in self._names:
                vars(shadowed).pop(name, None)
        self._sink.finish(exhausted=exhausted)
