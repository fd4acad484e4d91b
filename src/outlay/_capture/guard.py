"""Keep errors in capture from reaching the calls that it observes.

All work that capture does around a user's call runs through `guarded`. An error in it
is counted, and logged once for each kind. The call goes on.
"""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from outlay._model.error_counts import capture_errors

if TYPE_CHECKING:
    from collections.abc import Callable

_logger: Final = logging.getLogger("outlay")

P = ParamSpec("P")
T = TypeVar("T")


def guarded(
    what: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T | None:
    """Return the result of ``work``. If it fails, count and log that, and return None.

    Args:
        what: The subject of the work, such as ``openai``, for the log.
        work: The function to call.
        *args: Its arguments.
        **kwargs: Its arguments by name.
    """
    try:
        return work(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - no error may reach the user's call
        report_failure(what, error, "a cost was not captured")
        return None


def report_failure(what: str, error: Exception, consequence: str) -> None:
    """Count an error that reaches no caller. Log it, if it is the first of its kind.

    Args:
        what: The subject of the work, such as ``openai``, for counts and log.
        error: The error.
        consequence: The effect on the costs, for the log.
    """
    if capture_errors.add(what, error) == 1:
        with suppress(Exception):  # the application's log handler may fail, too
            _logger.error(
                "%s (%s: %s); the call itself is unharmed. "
                "Further failures of this kind are counted in stats().capture_errors, "
                "and not logged\n%s",
                consequence,
                what,
                type(error).__name__,
                _stack(error),
            )


def _stack(error: Exception) -> str:
    """Return the stack, without the message, which may quote a prompt."""
    return "".join(traceback.format_tb(error.__traceback__)).rstrip()
