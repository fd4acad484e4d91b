"""Run functions with the attribution of the code that bound them."""

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
    """Return ``function``, bound to the attribution of the running code.

    New threads, and gevent's greenlets, begin with an empty context. Costs that they
    track would have no customer. A bound function has the attribution of the code that
    bound it, in any thread. It leaves that thread unchanged. asyncio tasks and
    ``asyncio.to_thread`` need no `bind`. For other processes, use
    `outlay.propagation.inject`.

    Bind where the work is handed over. As a decorator it would bind to the attribution
    of the code that imports the module, which is empty.

    Thread safety: a bound function may be called any number of times, by many threads
    at the same time.

    Args:
        function: A plain function, an asynchronous one, or a generator of either kind.
            Its signature remains.

    Raises:
        ConfigError: The argument is not a function.

    Example:
        >>> with outlay.attribute(customer_id="cus_123"):
        ...     executor.submit(outlay.bind(summarise), document)
    """
    if not callable(function):
        raise ConfigError(
            f"bind({shorten(function)}): pass the function itself, as in bind(work), "
            "and call what is returned"
        )
    context = capture()
    return wrap_function(function, lambda args, kwargs: ContextRun(context))  # noqa: ARG005 - the same for any call


class ContextRun:
    """A run of a function with its own propagated context. See `FunctionRun`."""

    __slots__ = ("_context", "_saved")

    def __init__(self, context: PropagatedContext) -> None:
        self._context = context
        self._saved: PropagatedContext = {}

    def __enter__(self) -> None:
        self._saved = swap(self._context)

    def __exit__(self, *exc_info: object) -> None:
        # The body may be inside of a scope of its own, and continues in it next time.
        self._context = swap(self._saved)

    def finish(self, result: object, error: BaseException | None) -> None:
        """Do nothing. The run ends with its last piece."""
