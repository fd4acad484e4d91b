"""Send the attribution along with a task, and run the task with it.

The id of a task becomes the operation id. So costs count once, though a worker is
killed and the task runs again. This holds for costs that are added to
`outlay.current_operation`, and for calls whose provider gives them no id.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from outlay._capture.context.message_headers import HEADER, extract, inject
from outlay._capture.guard import report_failure
from outlay._capture.operations.operation import operation
from outlay._lifecycle import close_all_at_exit
from outlay.errors import OutlayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ("HEADER", "flush_before_exit", "message_headers", "task_scope")


def message_headers(integration: str) -> dict[str, str]:
    """Return the headers with the running code's attribution, for a task's message.

    Args:
        integration: The name of the integration, for the log.
    """
    try:
        return inject()
    except OutlayError as error:
        report_failure(integration, error, _NOT_SENT)
        return {}


@contextmanager
def task_scope(
    integration: str, headers: Mapping[str, object] | None, task_id: str | None
) -> Iterator[None]:
    """Run a task with the attribution of its message, as an operation of its own.

    Args:
        integration: The name of the integration, for the log.
        headers: The headers of the message, or another mapping that has outlay's.
        task_id: The id of the task, which stays the same when it runs again.
    """
    value = None if headers is None else headers.get(HEADER)
    with extract(None if value is None else {HEADER: value}):
        try:
            scope = operation(operation_id=task_id)
        except OutlayError as error:  # an id of the user's own that is too long
            report_failure(integration, error, _NO_OPERATION)
            scope = operation()
        with scope:
            yield


def flush_before_exit() -> None:
    """Ship what is pending, in a process that will end without its exit hooks.

    The time is limited as at any exit. What is left is on disk, for the next process.
    """
    close_all_at_exit()


_NOT_SENT: Final = "a task was sent without the customer of the running code"
_NO_OPERATION: Final = "the id of a task cannot be an operation id"
