"""Carrying: work that belongs to whom it was handed over for, wherever it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from outlay._capture.context.function_wrapper import wrap_function
from outlay._model.propagated_context import capture, swap
from outlay.errors import ConfigError, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay._model.propagated_context import PropagatedContext

P = ParamSpec("P")
R = TypeVar("R")


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function``, bound to whom the running code works for.

    Threads, and gevent's greenlets, begin with an empty context: what they track would
    belong to nobody. A bound function takes along what `attribute` says here and now,
    whenever and in whichever thread it is called, and leaves that thread as it was.
    asyncio tasks and ``asyncio.to_thread`` need no help; for other processes there is
    `carry`.

    Bind at the place where the work is handed over. As a decorator it would bind to
    whoever is around when the module is imported, which is nobody.

    Thread safety: a bound function may be called any number of times, by many threads
    at once.

    Args:
        function: plain, asynchronous, or a generator function of either kind; its
            signature remains.

    Raises:
        ConfigError: it is no function, such as the result of one.

    Example:
        >>> with outlay.attribute(customer_id="cus_123"):
        ...     executor.submit(outlay.bind(summarise), document)
    """
    if not callable(function):
        raise ConfigError(
            f"bind({shorten(function)}): pass the function itself, as in bind(work), "
            "and call what is returned"
        )
    inside = capture()
    return wrap_function(function, lambda args, kwargs: ContextRun(inside))  # noqa: ARG005 - any call alike


class ContextRun:
    """A run of a function with carried context of its own; see `wrapping.Run`."""

    __slots__ = ("_context", "_saved")

    def __init__(self, inside: PropagatedContext) -> None:
        self._context = inside
        self._saved: PropagatedContext = {}

    def __enter__(self) -> None:
        self._saved = swap(self._context)

    def __exit__(self, *exc_info: object) -> None:
        # The body may be in the midst of a scope of its own, to go on with next time.
        self._context = swap(self._saved)

    def finish(self, result: object, error: BaseException | None) -> None:
        """Do nothing: it ends with the last piece."""
