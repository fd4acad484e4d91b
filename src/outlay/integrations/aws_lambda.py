"""Track the costs of AWS Lambda's invocations: `handler`.

    @outlay.integrations.aws_lambda.handler(customer=lambda event: event["team"])
    def handle(event, context): ...

Lambda freezes the process when the function has returned, and may never wake it. So the
events are shipped before.
"""

from __future__ import annotations

import functools
import inspect
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar

from outlay._capture.context.attribution import RequestAttribution
from outlay._capture.context.bind import ContextRun
from outlay._capture.guard import report_failure
from outlay._default_client import default_client
from outlay._model.attribution import current_attribution
from outlay._model.propagated_context import capture
from outlay.errors import ConfigError, shorten
from outlay.integrations._customer import CustomerCallback
from outlay.integrations._tasks import task_scope
from outlay.integrations._termination import exit_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.integrations._customer import CustomerOf

__all__ = ("handler",)

_NAME: Final = "aws-lambda"
_ON_LAMBDA: Final = "AWS_LAMBDA_FUNCTION_NAME"
"""The variable that Lambda sets. Source: AWS Lambda's guide, "Defined runtime
environment variables", read in November 2026."""

_RESERVE: Final = 0.2
"""The seconds before Lambda's time limit at which the wait for the server ends."""

Event = TypeVar("Event")
Result = TypeVar("Result")
P = ParamSpec("P")


class LambdaContext(Protocol):
    """The parts of Lambda's context object that are used."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return the time until Lambda ends the invocation."""
        ...


def handler(
    *,
    customer: CustomerOf[Any] | None = None,
    flush_timeout: float = 2.0,
) -> Callable[[Callable[[Any, Any], Result]], Callable[[Any, Any], Result]]:
    """Decorate a Lambda handler, so that its costs are attributed and shipped.

    Each invocation runs with the attribution of its customer, as an operation with the
    id of the request. Lambda keeps that id when it repeats an invocation. When the
    handler has returned or raised, the pending events are shipped. If the server does
    not respond in time, they stay in the journal, for the next invocation.

    On Lambda, the journal is in the scratch folder ``/tmp``, unless
    ``OUTLAY_JOURNAL_DIR`` names another. SIGTERM, which Lambda sends to functions with
    extensions, ships what is left.

    Args:
        customer: A function, asynchronous or not, that returns the customer of an
            event: an id, ``outlay.attribute(...)``, or None. Take it from what your API
            gateway has authenticated. Its errors are counted and logged, and never fail
            the invocation.
        flush_timeout: The longest wait for the server at the end of an invocation, in
            seconds. Defaults to 2. It never exceeds the time that Lambda has left.

    Raises:
        ConfigError: When it decorates: the handler is asynchronous, which Lambda does
            not support.
    """
    callback: CustomerCallback[Any] = CustomerCallback(_NAME, customer)

    def decorate(
        function: Callable[[Any, Any], Result],
    ) -> Callable[[Any, Any], Result]:
        if inspect.iscoroutinefunction(function):
            raise ConfigError(
                f"{shorten(function)} is asynchronous, and Lambda calls handlers "
                "synchronously: call asyncio.run(...) inside of a plain function"
            )
        _use_scratch_folder()
        exit_on_sigterm()

        @functools.wraps(function)
        def invoke(event: Any, context: LambdaContext) -> Result:  # noqa: ANN401 - of any trigger
            request = RequestAttribution.begin(callback.ask(event))
            request_id = getattr(context, "aws_request_id", None)
            try:
                with (
                    ContextRun({**capture(), current_attribution: request}),
                    task_scope(_NAME, None, request_id),
                ):
                    return function(event, context)
            finally:
                _flush(context, flush_timeout)

        return invoke

    return decorate


def _use_scratch_folder() -> None:
    # The home folder is read-only there, so the client would move and warn.
    if _ON_LAMBDA in os.environ:
        scratch = Path(tempfile.gettempdir(), "outlay")
        os.environ.setdefault("OUTLAY_JOURNAL_DIR", str(scratch))


def _flush(context: LambdaContext, timeout: float) -> None:
    try:
        left = context.get_remaining_time_in_millis() / 1000 - _RESERVE
        default_client().flush(max(0.0, min(timeout, left)))
    except Exception as error:  # noqa: BLE001 - no error may reach the invocation
        report_failure(_NAME, error, "the events of an invocation were not shipped")
