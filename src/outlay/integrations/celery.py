"""Send the customer along with Celery's tasks: ``outlay.instrument("celery")``.

Call it in the module that creates the Celery application. The workers and the programs
that send tasks both import it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from celery import signals  # type: ignore[import-untyped]

from outlay.integrations._tasks import (
    HEADER,
    flush_before_exit,
    message_headers,
    task_scope,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("instrument", "uninstrument")

_NAME: Final = "celery"
_SCOPE: Final = "_outlay_scope"


def instrument() -> None:
    """Send the attribution along with each task, and run each task with it.

    Tasks in groups, chains and chords, and retries, keep the customer that they were
    sent for. The id of a task is the operation id of its costs. A process of the pool
    ships its events before it ends. A second call changes nothing.

    Thread safety: any thread.
    """
    for signal, receiver in _RECEIVERS:
        signal.connect(receiver, weak=False, dispatch_uid=_uid(receiver))


def uninstrument() -> None:
    """Undo `instrument`. Tasks that run already keep their customer."""
    for signal, receiver in _RECEIVERS:
        signal.disconnect(receiver, dispatch_uid=_uid(receiver))


def _uid(receiver: Any) -> str:  # noqa: ANN401 - Celery has no types
    return f"outlay.{receiver.__name__}"


def _publish(headers: dict[str, Any] | None = None, **_: object) -> None:
    if headers is not None:
        headers.update(message_headers(_NAME))


def _begin(task: Any, task_id: str, **_: object) -> None:  # noqa: ANN401 - as above
    stack = ExitStack()
    stack.enter_context(task_scope(_NAME, _headers(task.request), task_id))
    setattr(task.request, _SCOPE, stack)


def _end(task: Any, **_: object) -> None:  # noqa: ANN401 - as above
    stack = vars(task.request).pop(_SCOPE, None)
    if stack is not None:
        stack.close()


def _headers(request: Any) -> Mapping[str, object] | None:  # noqa: ANN401 - as above
    """Return the mapping that holds outlay's header.

    Celery copies the message's headers into the request. If the message has a header
    ``headers``, as Sentry and other packages write, that becomes ``request.headers``,
    without the others.
    """
    found: Mapping[str, object] = vars(request)
    return found if HEADER in found else request.headers


def _flush(**_: object) -> None:
    flush_before_exit()


_RECEIVERS: Final = (
    (signals.before_task_publish, _publish),
    (signals.task_prerun, _begin),
    (signals.task_postrun, _end),
    (signals.worker_process_shutdown, _flush),
)
