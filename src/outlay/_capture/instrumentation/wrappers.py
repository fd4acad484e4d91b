"""Hooks: wrappers that see what a library's method returned, and give it back as it is.

What they call gets the answer first, then what the method was called with. It runs
guarded, after the method returned; it never sees what the method raised.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from outlay._capture.guard import guarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    Observer = Callable[..., object]
    Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def returning(what: str, seen: Observer) -> Wrapper:
    """Return the wrap of a function whose answers ``seen`` looks at.

    Args:
        what: is being captured; for the log line of a failure.
        seen: gets the answer, and the arguments of the call.
    """

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            answer = original(*args, **kwargs)
            guarded(what, seen, answer, *args, **kwargs)
            return answer

        return function

    return wrap


def awaiting(what: str, seen: Observer) -> Wrapper:
    """Return the wrap of a coroutine function; as `returning`."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def function(*args: Any, **kwargs: Any) -> Any:
            answer = await original(*args, **kwargs)
            guarded(what, seen, answer, *args, **kwargs)
            return answer

        return function

    return wrap


def replacing(what: str, replaced: Callable[..., Any]) -> Wrapper:
    """Return the wrap of a function whose answer ``replaced`` may wrap, too.

    What it returns is returned, unless that is None.
    """

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            answer = original(*args, **kwargs)
            other = guarded(what, replaced, answer, *args, **kwargs)
            return answer if other is None else other

        return function

    return wrap


def replacing_awaited(what: str, replaced: Callable[..., Any]) -> Wrapper:
    """Return the wrap of a coroutine function; as `replacing`."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def function(*args: Any, **kwargs: Any) -> Any:
            answer = await original(*args, **kwargs)
            other = guarded(what, replaced, answer, *args, **kwargs)
            return answer if other is None else other

        return function

    return wrap


def entering(what: str, seen: Observer) -> Wrapper:
    """Return the wrap of a context manager; ``seen`` gets what ``with`` gets."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        @contextlib.contextmanager
        def function(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with original(*args, **kwargs) as answer:
                guarded(what, seen, answer, *args, **kwargs)
                yield answer

        return function

    return wrap


def entering_async(what: str, seen: Observer) -> Wrapper:
    """Return the wrap of an asynchronous context manager; as `entering`."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        @contextlib.asynccontextmanager
        async def function(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with original(*args, **kwargs) as answer:
                guarded(what, seen, answer, *args, **kwargs)
                yield answer

        return function

    return wrap
