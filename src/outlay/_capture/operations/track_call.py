"""Track the cost of each call of a function: `track_call`."""

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
from outlay._capture.pricing.configured_lists import load_price_lists
from outlay._model.event_rules import validate_text
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
    """Track the cost of each call of a function, when it has returned.

    The decorated function takes, returns and raises the same as before. It may be
    synchronous or not, a generator of either kind, or a method. A generator is one
    call, which ends when it is exhausted, closed, or fails.

    The cost is the first of these that is given: ``amount``; the observations of
    ``extract``; ``quantity`` in ``unit``, priced by your price book. If none is given,
    the costs are those that are added inside with ``current_operation().add``, or
    captured there. If there are none, the returned object is read, which may be a
    response of openai, anthropic, groq or together.

    **Nothing is counted twice**: if a cost of the same provider and line was counted
    inside, it is the same money. It may have been captured, added, or tracked by
    another ``track_call``. Then this cost is skipped, and a warning is logged once.
    Without a ``provider``, the event type decides. Another cost of the same provider
    needs a ``line``.

    For a generator, callbacks get the last item that it yielded.

    Args:
        event_type: The event type, such as ``cost.enrichment``.
        amount: The actual cost of a call. Or a function of the returned object, which
            returns None if the call cost nothing.
        provider: The provider that charges. Part of the idempotency key.
        operation_id: The name of the argument that holds the operation's own stable
            id. Or a function of arguments, by their names, and of the returned object,
            by the name ``result``. Defaults to the provider's id of its response, or
            an id that is derived from the enclosing operation.
        customer_id: The customer: the name of an argument, a function of arguments, or
            else the customer itself. Defaults to the one of `attribute`.
        operation: The kind of work, such as ``address-lookup``. Defaults to the
            enclosing one.
        region: The region. Defaults to the enclosing one.
        line: The name of one of several costs of the same operation.
        quantity: The quantity that was consumed, or a function of the returned object.
        unit: The unit of the quantity.
        extract: A function that makes observations from the returned object. It
            returns None if the call cost nothing.
        charged_on_error: Whether a call that raises is charged, or a function of the
            exception. The amount of such a call is known if it is a constant.
        client: The client that tracks the costs. Defaults to the default client at the
            time of the cost.

    Raises:
        InvalidEventError: An argument breaks a rule of events, such as a negative
            amount.
        ConfigError: The arguments contradict each other. Or, from the decorator, the
            function has no argument of a name that was given.

    Example:
        >>> @outlay.track_call("cost.geocoding", amount="0.005", provider="google",
        ...                    operation_id="request_id")
        ... def locate(address, request_id): ...
    """
    labels = OperationLabels(event_type, provider, operation, region, client)
    validate_text("event_type", event_type)
    labels.check()
    if isinstance(customer_id, str):
        validate_text("customer_id", customer_id)
    terms = CostTerms(amount, line, quantity, unit, extract, charged_on_error)
    if amount is None:
        load_price_lists()  # here, not in a tracked call
    return TrackCallDecorator(labels, _check(terms), operation_id, customer_id)


def _check(terms: CostTerms) -> CostTerms:
    """Return ``terms`` with exact numbers.

    Raises:
        InvalidEventError: A term breaks a rule of events.
        ConfigError: The terms contradict each other.
    """
    for name in ("line", "unit"):
        if getattr(terms, name) is not None:
            validate_text(name, getattr(terms, name))
    for name in ("amount", "quantity", "extract", "charged_on_error"):
        if inspect.iscoroutinefunction(getattr(terms, name)):
            raise ConfigError(f"{name} must be a plain function, not an async one")
    if terms.extract is not None:
        _raise_if(terms.amount is not None, "pass amount= or extract=, not both")
        _raise_if(terms.quantity is not None, "pass quantity= or extract=, not both")
    elif terms.amount is None:
        _raise_if((terms.quantity is None) != (terms.unit is None), _NO_UNIT)
    return terms._replace(
        amount=_number("amount", terms.amount),
        quantity=_number("quantity", terms.quantity),
    )


def _number(field: str, given: ValueOrCallback) -> ValueOrCallback:
    if given is None or callable(given):
        return given
    return to_exact_decimal(given, field=field)


def _raise_if(wrong: bool, message: str) -> None:  # noqa: FBT001 - a condition
    if wrong:
        raise ConfigError(message)


_NO_UNIT: Final = (
    "without an amount, pass quantity= and unit=, so that a price book can price it"
)


class TrackCallDecorator:
    """Decorates functions. `track_call` returns it."""

    def __init__(
        self,
        labels: OperationLabels,
        terms: CostTerms,
        operation_id: str | Callable[..., OperationId | None] | None,
        customer_id: str | Callable[..., str | None] | None,
    ) -> None:
        self._labels = labels
        self._terms = terms
        self._operation_id = operation_id
        self._customer_id = customer_id

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``function``.

        Raises:
            ConfigError: The function has no argument of a name that was given.
        """
        arguments = Arguments(unwrap_method(function))
        tracked = TrackedFunction(
            qualified_name(unwrap_method(function)),
            self._labels,
            self._terms,
            arguments.id_callback(
                "operation_id", self._operation_id, may_need_result=True
            ),
            arguments.customer_callback(self._customer_id),
        )
        return wrap_function(function, tracked.begin)
