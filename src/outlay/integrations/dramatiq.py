"""Send the customer along with Dramatiq's messages: `OutlayMiddleware`.

    from outlay.integrations.dramatiq import OutlayMiddleware

    broker.add_middleware(OutlayMiddleware())

Programs that send messages and workers both create the broker.
"""

from __future__ import annotations

import multiprocessing
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from dramatiq import Middleware

from outlay.integrations._tasks import (
    HEADER,
    flush_before_exit,
    message_headers,
    task_scope,
)

if TYPE_CHECKING:
    from dramatiq import Broker, Message, MessageProxy, Worker

__all__ = ("OutlayMiddleware",)

_NAME: Final = "dramatiq"


class OutlayMiddleware(Middleware):
    """Sends the attribution along with each message, and runs actors with it.

    It travels in the message's options. Retries keep it, and so do all actors of a
    pipeline and the callbacks of a group. The id of a message is the operation id of
    its costs. A worker ships its events before it ends.

    Thread safety: any thread.
    """

    def __init__(self) -> None:
        self._running = threading.local()

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int) -> None:
        """Add the attribution of the running code to a message."""
        del broker, delay
        headers = message_headers(_NAME)
        if headers:
            _add(message.options, headers[HEADER])

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begin to run a message's actor."""
        del broker
        self._end()
        stack = self._running.stack = ExitStack()
        stack.enter_context(task_scope(_NAME, message.options, message.message_id))

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        """End the run of a message's actor."""
        del broker, message, result, exception
        self._end()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """End a run that another middleware has skipped."""
        del broker, message
        self._end()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Ship what is pending. Dramatiq's processes end without exit hooks."""
        del broker, worker
        # Tests run workers on threads of a process that goes on.
        if multiprocessing.parent_process() is not None:
            flush_before_exit()

    def _end(self) -> None:
        stack = getattr(self._running, "stack", None)
        if stack is not None:
            self._running.stack = None
            stack.close()


def _add(options: dict[str, Any], value: str) -> None:
    """Add a header, also to the messages that will be sent after this one.

    A middleware sends those when this message's actor is done, and knows no customer.
    A message that is sent again has the header, and keeps it.
    """
    options.setdefault(HEADER, value)
    following = [*(options.get("group_completion_callbacks") or ())]
    if options.get("pipe_target"):
        following.append(options["pipe_target"])
    for message in following:
        _add(message["options"], value)
