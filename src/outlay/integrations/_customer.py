"""Ask the program whose request it is, without ever failing the request."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from outlay._capture.context.attribution import AttributionScope
from outlay._capture.guard import report_failure
from outlay._model.attribution import UNATTRIBUTED, Attribution
from outlay._model.event_rules import validate_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R = TypeVar("R")

Customer: TypeAlias = "str | AttributionScope | None"
"""The customer's id. Or ``outlay.attribute(...)``, which also sets other fields."""

CustomerOf: TypeAlias = "Callable[[R], Customer | Awaitable[Customer]]"
"""Returns the customer of a request, synchronously or not. None if there is none."""


class CustomerCallback(Generic[R]):
    """The program's function that returns the customer of a request.

    An error in it is counted in ``stats().capture_errors``, and logged once for each
    kind. The request goes on, and its costs have no customer from here.

    Thread safety: any thread.
    """

    __slots__ = ("_function", "_name")

    def __init__(self, integration: str, function: CustomerOf[R] | None) -> None:
        """Create a callback.

        Args:
            integration: The name of the integration, for the log.
            function: The program's function. If None, requests have no customer until
                their code calls `outlay.set_customer`.
        """
        self._name = f"{integration} customer"
        self._function = function

    def ask(self, request: R) -> Attribution:
        """Return the attribution of a request. Not for code in an event loop."""
        if self._function is None:
            return UNATTRIBUTED
        try:
            returned = self._function(request)
            if type(returned) is not str and inspect.isawaitable(returned):
                returned = asyncio.run(_result(returned))
            return _attribution(returned)
        except Exception as error:  # noqa: BLE001 - no error may reach the request
            return self._failed(error)

    def begin(self, request: R) -> Attribution | Awaitable[Attribution]:
        """Return the attribution of a request, in an event loop.

        If the function is asynchronous, return an awaitable of it. Most functions are
        not, and a coroutine for each request would take longer than all else here.
        """
        if self._function is None:
            return UNATTRIBUTED
        try:
            returned = self._function(request)
            if type(returned) is not str and inspect.isawaitable(returned):
                return self._finish(returned)
            return _attribution(returned)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(error)

    async def _finish(self, returned: Awaitable[Customer]) -> Attribution:
        try:
            return _attribution(await returned)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(error)

    def _failed(self, error: Exception) -> Attribution:
        report_failure(self._name, error, _CONSEQUENCE)
        return UNATTRIBUTED


_CONSEQUENCE: Final = (
    "the function given as customer= failed, so costs of the request have no customer"
)


async def _result(returned: Awaitable[Any]) -> Any:  # noqa: ANN401 - checked later
    return await returned


def _attribution(returned: Customer) -> Attribution:
    """Return the attribution that a callback has returned.

    Raises:
        InvalidEventError: It is not a valid customer id.
    """
    if type(returned) is str:
        return Attribution(validate_text("customer_id", returned))
    if returned is None:
        return UNATTRIBUTED
    if isinstance(returned, AttributionScope):
        return returned.resolve()
    return Attribution(validate_text("customer_id", returned))
