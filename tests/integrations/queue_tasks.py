"""The work of a task, whichever queue brings it.

The task says neither the customer nor the operation: its message does. Some tasks run
twice: one fails the first time, and one is killed right after it has tracked.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import outlay
from tests.integrations.customers import customer_of
from tests.support.events import EVENT_TYPE, amount_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

FOLDER_VARIABLE: Final = "TEST_TASKS_FOLDER"
SOCKET_VARIABLE: Final = "TEST_REDIS_SOCKET"

TASKS: Final = range(1, 26)
FAILING: Final = 12
DEADLY: Final = 7


class TryAgainError(Exception):
    """The task failed, and should run again."""


def folder() -> Path:
    """Return a folder that all processes of a test share."""
    return Path(os.environ[FOLDER_VARIABLE])


def work(number: int) -> None:
    """Track cost ``number``, and fail or die if it is the first time."""
    outlay.current_operation().add(
        amount_of(number), event_type=EVENT_TYPE, provider="anthropic"
    )
    if number in (FAILING, DEADLY):
        marker = folder() / f"began-{number}"
        if not marker.exists():
            marker.touch()
            if number == DEADLY:
                os.kill(os.getpid(), signal.SIGKILL)
            raise TryAgainError


def belonging(number: int) -> AbstractContextManager[object]:
    """Return the scope that a task is sent in."""
    return outlay.attribute(customer_id=customer_of(number))
