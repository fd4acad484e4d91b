"""Wrap functions of a library so that an observer gets what they return.

The observer gets the response first, then the arguments of the call. It runs guarded,
after the function has returned. It never gets what the function raised.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

from outlay._capture.guard import guarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    Observer = Callable[..., object]
    Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def observe_result(what: str, observer: Observer) -> Wrapper:
    """Return a wrapper for plain and coroutine functions, which calls ``observer``.

    Args:
        what: The library, for the log line of a failure.
        observer: The function that gets the response, and the arguments of the call.
    """

    def observe(response: Any, *args: Any, **kwargs: Any) -> None:
        observer(response, *args, **kwargs)

    return replace_result(what, observe)


def replace_result(what: str, replacement: Callable[..., Any]) -> Wrapper:
    """Return a wrapper for plain and coroutine functions, which may replace the result.

    Args:
        what: The library, for the log line of a failure.
        replacement: The function that gets the response, and the arguments of the call.
            The caller gets what it returns. If that is None, the caller gets the
            response.
    """

    def replaced(response: Any, args: Any, kwargs: Any) -> Any:
        other = guarded(what, replacement, response, *args, **kwargs)
        return response if other is None else other

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            return replaced(original(*args, **kwargs), args, kwargs)

        @functools.wraps(original)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            return replaced(await original(*args, **kwargs), args, kwargs)

        is_coroutine = inspect.iscoroutinefunction(inspect.unwrap(original))
        return coroutine if is_coroutine else function

    return wrap


def observe_context(what: str, observer: Observer) -> Wrapper:
    """Return a wrapper for context managers of both kinds, made of generators.

    Args:
        what: The library, for the log line of a failure.
        observer: The function that gets the value of ``with``, and the arguments of the
            call.
    """

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        @contextlib.contextmanager
        def manager(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with original(*args, **kwargs) as response:
                guarded(what, observer, response, *args, **kwargs)
                yield response

        @functools.wraps(original)
        @contextlib.asynccontextmanager
        async def async_manager(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with original(*args, **kwargs) as response:
                guarded(what, observer, response, *args, **kwargs)
                yield response

        is_async = inspect.isasyncgenfunction(inspect.unwrap(original))
        return async_manager if is_async else manager

    return wrap
