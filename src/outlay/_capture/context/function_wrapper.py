"""Run code around each piece of a function's body, whatever its kind.

A plain or asynchronous function runs in one piece. A generator runs in one piece for
each item, in whatever context its consumer is in at that moment. So the body's context
is entered before each piece, and left after it.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping

P = ParamSpec("P")
R = TypeVar("R")


class FunctionRun(Protocol):
    """One run of a wrapped function. It is entered and left around each piece."""

    def __enter__(self) -> object:
        """Enter the context of the body."""
        ...

    def __exit__(self, *exc_info: object) -> None:
        """Leave the context of the body. Errors pass."""
        ...

    def finish(self, result: object, error: BaseException | None) -> None:
        """End the run. Called once, outside of the body. It must not raise.

        Args:
            result: The returned object, or the last item that a generator yielded.
            error: The exception, if one was raised. An early close is not an error.
        """
        ...


StartRun: TypeAlias = "Callable[[tuple[Any, ...], Mapping[str, Any]], FunctionRun]"
"""Starts the run of a call, given its arguments."""


def wrap_function(
    function: Callable[P, R],
    begin: StartRun,
) -> Callable[P, R]:
    """Return ``function`` with a run of its own around each call.

    It keeps its name, documentation and signature, and remains asynchronous if it is.
    Its exceptions pass through. A static or class method may be wrapped below or above
    its decorator. The run of a generator starts when the generator is created.

    Args:
        function: A function of any kind.
        begin: Starts the run of a call, given its arguments.
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(wrap_function(function.__func__, begin))
    body: Callable[..., Any] = function
    wrapper: Callable[..., Any]
    if _is_kind(inspect.iscoroutinefunction, function):
        wrapper = _asynchronous(body, begin)
    elif _is_kind(inspect.isasyncgenfunction, function):

        def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            return _run_async_generator(body(*args, **kwargs), begin(args, kwargs))

    elif _is_kind(inspect.isgeneratorfunction, function):

        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            return _run_generator(body(*args, **kwargs), begin(args, kwargs))

    else:
        wrapper = _plain(body, begin)
    return functools.wraps(function)(wrapper)


def _is_kind(kind: Callable[[object], bool], function: Callable[..., object]) -> bool:
    # An object with a method `__call__` has the kind of that method.
    return kind(function) or kind(getattr(function, "__call__", None))  # noqa: B004 - its kind matters, not its presence


def _plain(function: Callable[..., Any], begin: StartRun) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        run = begin(args, kwargs)
        try:
            with run:
                result = function(*args, **kwargs)
        except BaseException as error:
            run.finish(None, error)
            raise
        run.finish(result, None)
        return result

    return wrapper


def _asynchronous(function: Callable[..., Any], begin: StartRun) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        run = begin(args, kwargs)
        try:
            with run:
                result = await function(*args, **kwargs)
        except BaseException as error:
            run.finish(None, error)
            raise
        run.finish(result, None)
        return result

    return wrapper


def _run_generator(
    body: Generator[Any, Any, Any], run: FunctionRun
) -> Generator[Any, Any, Any]:
    """Run a generator's body piece by piece, by the rules of PEP 380."""
    step, given = body.send, None
    item = None
    while True:
        try:
            with run:
                item = step(given)
        except StopIteration as end:
            run.finish(item, None)
            return end.value
        except BaseException as error:
            run.finish(None, error)
            raise
        try:
            step, given = body.send, (yield item)
        except GeneratorExit:
            _close(body, run, item)
            raise
        except BaseException as error:  # noqa: BLE001 - it was thrown in, for the body
            step, given = body.throw, error


def _close(body: Generator[Any, Any, Any], run: FunctionRun, item: object) -> None:
    try:
        with run:
            body.close()
    except BaseException as error:
        run.finish(None, error)
        raise
    run.finish(item, None)


async def _run_async_generator(
    body: AsyncGenerator[Any, Any], run: FunctionRun
) -> AsyncGenerator[Any, Any]:
    """Run an asynchronous generator's body piece by piece."""
    step, given = body.asend, None
    item = None
    while True:
        try:
            with run:
                item = await step(given)
        except StopAsyncIteration:
            run.finish(item, None)
            return
        except BaseException as error:
            run.finish(None, error)
            raise
        try:
            step, given = body.asend, (yield item)
        except GeneratorExit:
            await _aclose(body, run, item)
            raise
        except BaseException as error:  # noqa: BLE001 - it was thrown in, for the body
            step, given = body.athrow, error


async def _aclose(
    body: AsyncGenerator[Any, Any], run: FunctionRun, item: object
) -> None:
    try:
        with run:
            await body.aclose()
    except BaseException as error:
        run.finish(None, error)
        raise
    run.finish(item, None)
