"""Find the integrations of task queues, which `instrument` takes by name."""

from __future__ import annotations

from importlib import import_module
from typing import Final, Protocol, cast

from outlay._capture.instrumentation.import_hook import is_installed
from outlay.errors import ConfigError

TASK_QUEUES: Final = frozenset({"arq", "celery", "rq"})
"""The names of the packages, and of the modules of `outlay.integrations`."""


class TaskQueue(Protocol):
    """A module that makes the tasks of a queue carry their attribution."""

    def instrument(self) -> None:
        """Begin. A second call changes nothing."""
        ...

    def uninstrument(self) -> None:
        """End, and restore the library."""
        ...


def task_queue(name: str) -> TaskQueue:
    """Return the integration of a task queue, and import the queue's package.

    Raises:
        ConfigError: The package is not installed.
    """
    if not is_installed(name):
        raise ConfigError(
            f"cannot send attribution with tasks of {name!r}, because it is not "
            "installed; install it, or leave it out"
        )
    # By name, because integrations are a layer above.
    return cast("TaskQueue", import_module(f"outlay.integrations.{name}"))
