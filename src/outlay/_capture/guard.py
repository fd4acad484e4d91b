"""The guard: a flaw of capture must not become a flaw of the call that it watches.

Everything that capture does around somebody else's call goes through `guarded`: an
error in there is counted, logged once for each kind, and the call goes on.
"""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from outlay._model.error_counts import capture_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_logger: Final = logging.getLogger("outlay")

P = ParamSpec("P")
T = TypeVar("T")


def guarded(
    what: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """Return what ``work`` returns, or None: it failed, which is counted and logged.

    Args:
        what: is being captured, such as ``openai``; for the log line.
        work: to be done.
        *args: for ``work``.
        **kwargs: for ``work``.
    """
    try:
        return work(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not the caller's
        _record(what, error)
        return None


def failures() -> Mapping[str, int]:
    """Return how often capture failed in this process, by what it was about.

    Thread safety: any thread.
    """
    return capture_errors.snapshot()


def _record(what: str, error: Exception) -> None:
    if capture_errors.add(what, error) == 1:
        with suppress(Exception):  # a log handler's own failure is not the caller's
            _logger.error(
                "a cost was not captured (%s: %s); the call itself is unharmed. "
                "Further failures of this kind are counted in stats().capture_errors, "
                "and not logged\n%s",
                what,
                type(error).__name__,
                _stack(error),
            )


def _stack(error: Exception) -> str:
    """Return the stack, without the message: it may quote what a model was asked."""
    return "".join(traceback.format_tb(error.__traceback__)).rstrip()
