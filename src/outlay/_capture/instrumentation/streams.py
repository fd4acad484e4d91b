"""Streams: sees what passes by, and settles the cost once, when the stream ends.

A stream ends by being read to its end, by being closed, by an error, or by being
forgotten. Whoever reads it gets every item when it comes, as it is.
"""

from __future__ import annotations

import contextvars
import weakref
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from outlay._capture.guard import guarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class StreamSink(Protocol[T_contra]):
    """What learns from a stream. Called on the thread, or task, that reads it."""

    def feed(self, item: T_contra) -> None:
        """Learn from an item, before the stream's reader gets it."""
        ...

    def finish(self, *, exhausted: bool) -> None:
        """Settle: nothing more will come. ``exhausted``: for all was read."""
        ...


class StreamObserver(Generic[T]):
    """Tells a reader of a stream's items, and of its end exactly once.

    The end is told in the context that the watch was made in, so that a cost belongs
    to whoever made the call, not to whoever reads the stream. As a context manager it
    tells of the end of a block, which read all there was unless something is raised.

    Thread safety: as the stream that is watched; the end may come from any thread.

    Attributes:
        reading: whether somebody waits for an item just now.
    """

    def __init__(self, what: str, reader: StreamSink[T]) -> None:
        self._what = what
        self._context = contextvars.copy_context()
        # Popping is atomic: of a close and a finaliser at once, one gets the reader.
        self._reader = [reader]
        self._see = reader.feed
        self.in_progress = False

    def __enter__(self) -> None:
        self.in_progress = True

    def __exit__(self, _kind: object, error: BaseException | None, _: object) -> None:
        self.in_progress = False
        self.finish(exhausted=error is None)

    def feed(self, item: T) -> None:
        """Tell the reader of an item."""
        guarded(self._what, self._see, item)

    def finish(self, *, exhausted: bool = False) -> None:
        """Tell the reader of the end, unless it was told."""
        try:
            reader = self._reader.pop()
        except IndexError:
            return
        guarded(self._what, self._context.run, reader.finish, exhausted=exhausted)

    def on_close(self) -> None:
        """Tell of the end, for the stream was closed.

        Libraries close a response while its last bytes are being read: then whoever
        reads knows better whether that was all.
        """
        if not self.in_progress:
            self.finish()

    def __del__(self) -> None:
        self.finish()


def observe_iter(items: Iterator[T], watch: StreamObserver[T]) -> Iterator[T]:
    """Yield all items, watched. What yields is a generator, as libraries' streams are.

    One that nobody ever reads ends when it is forgotten, with its watch.
    """
    try:
        with watch:
            for item in items:
                watch.in_progress = False
                watch.feed(item)
                yield item
                watch.in_progress = True
    finally:
        if hasattr(items, "close"):
            items.close()


async def observe_aiter(
    items: AsyncIterator[T], watch: StreamObserver[T]
) -> AsyncIterator[T]:
    """Yield all items, watched: the asynchronous twin of `watched`."""
    try:
        with watch:
            async for item in items:
                watch.in_progress = False
                watch.feed(item)
                yield item
                watch.in_progress = True
    finally:
        if hasattr(items, "aclose"):
            await items.aclose()


def observe_body(what: str, response: Any, reader: StreamSink[bytes]) -> None:
    """Let ``reader`` see the body of an HTTP response while somebody else reads it.

    Args:
        what: is being captured; for the log line of a failure.
        response: of httpx or httpx2, open, read by nobody yet. Its methods
            ``iter_bytes`` and ``close``, and their asynchronous twins, are shadowed
            until the end: every way to read it goes through them.
        reader: sees the decoded bytes.
    """
    kind = type(response)
    names = ("iter_bytes", "aiter_bytes", "close", "aclose")
    watch: StreamObserver[bytes] = StreamObserver(
        what, RestoresMethods(response, names, reader)
    )

    # These hold the response, which holds them, until the end. A weak reference would
    # be dead when the collector closes a forgotten stream, and still needs to close.
    def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
        return observe_iter(kind.iter_bytes(response, chunk_size), watch)

    def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
        return observe_aiter(kind.aiter_bytes(response, chunk_size), watch)

    def close() -> None:
        try:
            kind.close(response)
        finally:
            watch.on_close()

    async def aclose() -> None:
        try:
            await kind.aclose(response)
        finally:
            watch.on_close()

    shadows = (iter_bytes, aiter_bytes, close, aclose)
    vars(response).update(zip(names, shadows, strict=True))


class RestoresMethods(Generic[T]):
    """Gives an object its own methods back at the end, so that it pickles again."""

    def __init__(
        self, shadowed: object, names: tuple[str, ...], reader: StreamSink[T]
    ) -> None:
        """Pass on to ``reader`` what is seen, until the end.

        Args:
            shadowed: has attributes of its own in the place of its class's methods.
            names: of these.
            reader: is told of the end after that.
        """
        self._shadowed = weakref.ref(shadowed)
        self._names = names
        self._reader = reader
        self.feed = reader.feed

    def finish(self, *, exhausted: bool) -> None:
        """Unshadow, and pass on the end."""
        shadowed = self._shadowed()
        if shadowed is not None:
            for name in self._names:
                vars(shadowed).pop(name, None)
        self._reader.finish(exhausted=exhausted)
