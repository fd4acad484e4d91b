"""Keep the attribution of a request while its streamed body is read.

Servers read a body after the application has returned, piece by piece, in a context of
their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from outlay._capture.context.bind import ContextRun

T = TypeVar("T")


def iterate(parts: Iterable[T], run: ContextRun) -> Iterator[T]:
    """Yield all parts. Each is made in the context of ``run``."""
    with run:
        iterator = iter(parts)
    while True:
        with run:
            try:
                part = next(iterator)
            except StopIteration:
                return
        yield part


async def iterate_async(parts: AsyncIterator[T], run: ContextRun) -> AsyncIterator[T]:
    """Yield all parts of an asynchronous iterator. See `iterate`."""
    while True:
        with run:
            try:
                part = await anext(parts)
            except StopAsyncIteration:
                return
        yield part
