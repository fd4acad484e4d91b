"""The door to functions whose calls cost: `track_call`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from outlay._capture.context.function_wrapper import wrap_function
from outlay._capture.operations.arguments import (
    Arguments,
    qualified_name,
    unwrap_method,
)
from outlay._capture.operations.state import OperationLabels
from outlay._capture.operations.tracked_calls import CostTerms, TrackedFunction
from outlay._model.events import validate_text
from outlay._model.money import to_exact_decimal
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay._capture.operations.tracked_calls import Extract, ValueOrCallback
    from outlay._client import Client
    from outlay._model.events import OperationId

P = ParamSpec("P")
R = TypeVar("R")


def track_call(
    event_type: str,
    *,
    amount: ValueOrCallback = None,
    provider: str | None = None,
    operation_id: str | Callable[..., OperationId | None] | None = None,
    customer_id: str | Callable[..., str | None] | None = None,
    operation: str | None = None,
    region: str | None = None,
    line: str | None = None,
    quantity: ValueOrCallback = None,
    unit: str | None = None,
    extract: Extract | None = None,
    charged_on_error: bool | Callable[[BaseException], bool] = False,
    client: Client | None = None,
) -> TrackCallDecorator:
    """Track what each call of a function costs, when it has returned.

    The decorated function takes, returns and raises what it did before. It may be
    synchronous or not, a generator of either kind, or a method; a generator is one
    call, which ends when it is exhausted, closed, or fails.

    The cost is, by what is said here: ``amount``; or what ``extract`` reads off the
    result; or ``quantity`` in ``unit``, by your price book. If none of these is said,
    the costs are those that are added inside, with ``current_operation().add``, or
    that are captured there; if there are none, the result itself is looked at, which
    may be an answer of openai, anthropic, groq or together.

    **Nothing is counted twice**: if a cost of the same provider and line was counted
    inside (captured, added, or tracked by another ``track_call``), this one is about
    the same money, and is passed over, with a warning, once. Without a ``provider``,
    the event type decides. Another cost of the same provider needs a ``line``.

    Args:
        event_type: such as ``cost.enrichment``.
        amount: actual cost of a call; or a function of what it returned, where None
            means that it cost nothing.
        provider: who charges; part of the idempotency key.
        operation_id: the name of the argument that holds the operation's own stable
            id; or a function, called with arguments by their names, and with what the
            call returned if it asks for ``result``. None: the provider's id of its
            answer, or the call's place in the enclosing operation.
        customer_id: who the cost is attributed to: the name of an argument, a function
            of arguments, or else the customer. None: whom `attribute` says.
        operation: what is done, such as ``address-lookup``. None: as around.
        region: where. None: as around.
        line: which of several costs of the same operation.
        quantity: how much was consumed; or a function of what the call returned.
        unit: of the quantity.
        extract: reads observations off what the call returned; None: it cost nothing.
        charged_on_error: whether a call that raises is charged; or a function of what
            was raised. The amount of such a call is known if it is a constant.
        client: tracks the costs; None: the default client, whichever it is then.

    For a generator, functions get the last item that it yielded.

    Raises:
        InvalidEventError: a fact breaks a rule of events, such as a negative amount.
        ConfigError: the arguments contradict each other; or, from the decorator, the
            function has no argument of a name that was given.

    Example:
        >>> @outlay.track_call("cost.geocoding", amount="0.005", provider="google",
        ...                    operation_id="request_id")
        ... def locate(address, request_id): ...
    """
    spec = OperationLabels(event_type, provider, operation, region, client)
    validate_text("event_type", event_type)
    spec.check()
    if isinstance(customer_id, str):
        validate_text("customer_id", customer_id)
    terms = CostTerms(amount, line, quantity, unit, extract, charged_on_error)
    return TrackCallDecorator(spec, _check(terms), operation_id, customer_id)


def _check(terms: CostTerms) -> CostTerms:
    """Return terms with exact numbers.

    Raises:
        InvalidEventError: a fact breaks a rule of events.
        ConfigError: the terms contradict each other.
    """
    for name in ("line", "unit"):
        if getattr(terms, name) is not None:
            validate_text(name, getattr(terms, name))
    for name in ("amount", "quantity", "extract", "charged_on_error"):
        if inspect.iscoroutinefunction(getattr(terms, name)):
            raise ConfigError(f"{name} must be a plain function, not an async one")
    if terms.extract is not None:
        _raise_if(terms.amount is not None, "pass amount= or extract=, not both")
        _raise_if(terms.quantity is not None, "extract= tells the quantity, too")
    elif terms.amount is None:
        _raise_if((terms.quantity is None) != (terms.unit is None), _NO_UNIT)
    return terms._replace(
        amount=_number("amount", terms.amount),
        quantity=_number("quantity", terms.quantity),
    )


def _number(field: str, told: ValueOrCallback) -> ValueOrCallback:
    return (
        told if told is None or callable(told) else to_exact_decimal(told, field=field)
    )


def _raise_if(wrong: bool, message: str) -> None:  # noqa: FBT001 - a condition
    if wrong:
        raise ConfigError(message)


_NO_UNIT: Final = (
    "without an amount, pass quantity= and unit=, for a price book to price"
)


class TrackCallDecorator:
    """Decorates functions: what `track_call` returns."""

    def __init__(
        self,
        spec: OperationLabels,
        terms: CostTerms,
        operation_id: str | Callable[..., OperationId | None] | None,
        customer_id: str | Callable[..., str | None] | None,
    ) -> None:
        self._spec = spec
        self._terms = terms
        self._operation_id = operation_id
        self._customer_id = customer_id

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``function``.

        Raises:
            ConfigError: it has no argument of a name that was given.
        """
        arguments = Arguments(unwrap_method(function))
        tracked = TrackedFunction(
            qualified_name(unwrap_method(function)),
            self._spec,
            self._terms,
            arguments.id_callback("operation_id", self._operation_id, late=True),
            arguments.customer_callback(self._customer_id),
        )
        return wrap_function(function, tracked.begin)
