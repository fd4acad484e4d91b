"""Warn once about calls of an instrumented client whose costs are not captured."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from outlay._capture.guard import guarded
from outlay._capture.instrumentation.library import Patch
from outlay._model.clock import SystemClock
from outlay._model.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

    from outlay._capture.instrumentation.library import (
        InstrumentedClients,
        PatchProvider,
    )
    from outlay._capture.instrumentation.wrappers import Wrapper

_log: Final = RateLimitedLog(SystemClock())


def uncaptured(
    subject: str, method: str, client_of: Callable[[Any], object]
) -> PatchProvider:
    """Return patches of every class in a module that defines a method.

    Args:
        subject: The calls, in the plural, such as "OpenAI's realtime sessions".
        method: The name of the method whose costs are not captured.
        client_of: A function that returns the client behind a method's object, as the
            other patches of the library get it. None, if the object does not know it.
    """

    def patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
        warning = warn_uncaptured(subject, scope, client_of)
        for kind in tuple(vars(module).values()):
            is_own = isinstance(kind, type) and kind.__module__ == module.__name__
            if is_own and method in vars(kind):
                yield Patch(kind, method, warning)

    return patches


def warn_uncaptured(
    subject: str, scope: InstrumentedClients, client_of: Callable[[Any], object]
) -> Wrapper:
    """Return a wrapper of methods of any kind, also of context managers."""

    def warn(owner: object) -> None:
        if scope.options_for(client_of(owner)) is not None:
            _log.warn_once(subject, _MESSAGE, subject)

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def method(owner: object, *args: Any, **kwargs: Any) -> Any:
            guarded(subject, warn, owner)
            return original(owner, *args, **kwargs)

        return method

    return wrap


_MESSAGE: Final = (
    "the costs of %s are not captured; track them with outlay.track_cost (logged once)"
)
