"""Mark the code that runs inside of a call which an outer source observes.

A provider's client makes its requests with an HTTP client, and tracing may open a span
around them. If several of these are captured, the outermost counts the call. It knows
the options and the requested model. The sources inside ask here.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final


class ObservedCall:
    """One call that a source observes. It is entered around the library's own code.

    Attributes:
        client: The client that makes the call.
        response: The HTTP response that the library got and began to process, if any.
    """

    __slots__ = ("_is_open", "_outer", "client", "response")

    def __init__(self, client: object) -> None:
        self._is_open = False
        self.client = client
        self.response: Any = None

    def __enter__(self) -> ObservedCall:
        self._is_open = True
        self._outer = _current.get()
        _current.set(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Tasks that the library started keep this context, but the call has ended.
        self._is_open = False
        _current.set(self._outer)  # reset() would raise in another context

    @staticmethod
    def current() -> ObservedCall | None:
        """Return the call that the running code is inside of, or None."""
        call = _current.get()
        is_open = call is not None and call._is_open  # noqa: SLF001 - its own class
        return call if is_open else None


_current: Final[ContextVar[ObservedCall | None]] = ContextVar(
    "outlay_observed_call", default=None
)
