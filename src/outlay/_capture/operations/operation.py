"""Track several costs of one billable operation under one id.

Every cost is tracked when it is added, so a kill between two of them loses nothing. The
keys of all costs are made of the operation's id, so a re-run counts none twice.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from outlay._capture.context.bind import ContextRun
from outlay._capture.context.function_wrapper import wrap_function
from outlay._capture.operations.arguments import Arguments, unwrap_method
from outlay._capture.operations.ids import operation_id_text
from outlay._capture.operations.state import (
    CostIdentity,
    OperationLabels,
    OperationState,
    current_operation_state,
)
from outlay._default_client import default_client
from outlay._model.attribution import current_attribution
from outlay._model.event_rules import validate_text
from outlay._model.propagated_context import capture
from outlay.errors import ConfigError, InvalidEventError, NoCurrentOperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from outlay._client import Client
    from outlay._model.attribution import Attribution
    from outlay._model.events import Json, OperationId
    from outlay._model.money import Amount
    from outlay._receipt import Receipt

P = ParamSpec("P")
R = TypeVar("R")


class Operation:
    """A handle of one running operation. ``with outlay.operation(...)`` returns it.

    Thread safety: any thread may call any method, also after the operation has ended.
    """

    __slots__ = ("_state",)

    def __init__(self, state: OperationState) -> None:
        """Create a handle. Use `operation` or `current_operation` instead."""
        self._state = state

    def __eq__(self, other: object) -> bool:
        """Return whether ``other`` is a handle of the same operation."""
        return isinstance(other, Operation) and other._state is self._state

    def __hash__(self) -> int:
        return hash(self._state)

    @property
    def operation_id(self) -> str | None:
        """The operation's own id. None, until one is set.

        Set it before the first cost is added. Each cost is tracked when it is added,
        with a key that is made of the id.

        Raises:
            InvalidEventError: When set: the value is not an id, or a cost was added
                before.
        """
        return self._state.operation_id

    @operation_id.setter
    def operation_id(self, operation_id: OperationId) -> None:
        text = operation_id_text(operation_id)
        if text != self._state.operation_id and self._state.added_costs:
            raise InvalidEventError("operation_id", operation_id, _TOO_LATE)
        self._state.set_id(text)

    def add(
        self,
        amount: Amount,
        *,
        line: str | None = None,
        quantity: Amount | None = None,
        unit: str | None = None,
        provider: str | None = None,
        event_type: str | None = None,
        data: Mapping[str, Json] | None = None,
    ) -> Receipt:
        """Track one of the operation's costs now.

        When it returns, the cost is in the journal, whatever the operation does next.

        Args:
            amount: The exact amount, in the metric's currency. See `track_cost`.
            line: The name of the cost within the operation. Only one cost can have
                none.
            quantity: The quantity that was consumed.
            unit: The unit of the quantity.
            provider: The provider that charges. Defaults to the operation's.
            event_type: The event type. Defaults to the operation's.
            data: More fields to keep or to group by, as JSON.

        Returns:
            The event's idempotency key, and whether the event is on disk.

        Raises:
            InvalidEventError: An argument breaks a rule. Or the operation has such a
                cost already: both would have one key, and only one would count.
                Nothing was tracked.
            ClosedError: The client is closed. Nothing was tracked.
        """
        state = self._state
        event_type = state.labels.event_type if event_type is None else event_type
        if event_type is None:
            raise InvalidEventError("event_type", None, _NO_TYPE)
        provider = state.labels.provider if provider is None else provider
        cost = CostIdentity(provider, event_type, line)
        # Inside of the operation, the scopes of the running code apply. Elsewhere, the
        # attribution that it began with applies.
        attribution = (
            current_attribution.get()
            if current_operation_state.get() is state
            else state.attribution
        )
        key = _reserve_key(state, cost, attribution.customer_id)
        running = current_attribution.set(attribution)
        try:
            operation_id = state.operation_id
            if operation_id is None and state.derived_ids is not None:
                operation_id = state.derived_ids.next_id(
                    *cost, str(amount), str(quantity), unit
                )
            receipt = (state.labels.client or default_client()).track_cost(
                event_type,
                amount,
                operation_id=operation_id,
                provider=provider,
                line=line,
                quantity=quantity,
                unit=unit,
                data=data,
            )
        except BaseException:
            with suppress(TypeError):
                state.added_costs.pop(key, None)
            raise
        finally:
            current_attribution.reset(running)
        state.count(cost)
        return receipt


def _reserve_key(
    state: OperationState, cost: CostIdentity, customer_id: str | None
) -> tuple[object, ...]:
    """Reserve the fields of an event's key, so that no other cost gets them.

    Raises:
        InvalidEventError: Another cost has them.
    """
    key, mine = (*cost, customer_id), object()
    try:
        owner = state.added_costs.setdefault(key, mine)  # atomic, unlike `in`
    except TypeError:  # an unhashable label is invalid: `track_cost` raises for it
        return key
    if owner is not mine:
        raise InvalidEventError("line", cost.line, _TAKEN)
    return key


_NO_TYPE: Final = "pass it here, or to outlay.operation(...)"
_TOO_LATE: Final = (
    "a cost was added and tracked already: set the id before the first one is added"
)
_TAKEN: Final = (
    "this operation has such a cost already: give another line, or add the amounts up"
)


def operation(
    event_type: str | None = None,
    *,
    operation_id: OperationId | Callable[..., OperationId | None] | None = None,
    customer_id: str | Callable[..., str | None] | None = None,
    provider: str | None = None,
    operation: str | None = None,
    region: str | None = None,
    client: Client | None = None,
) -> OperationScope:
    """Group the costs of one billable operation under one id.

    Each cost is tracked when it is added, under the operation's id and a line of its
    own. Costs of captured calls inside get the same attribution. A call whose provider
    gives it no id gets one that is derived from the operation's id. Exceptions pass
    through. Costs that were added before stay tracked.

    Use it as a context manager, synchronous or not, or as a decorator of functions of
    all kinds. A decorated function starts an operation with every call. Operations
    nest: one without an id uses the id of the nearest enclosing one. They follow
    asyncio tasks, ``asyncio.to_thread`` and `bind`, as `attribute` does.

    Thread safety: any thread; one scope may be used any number of times.

    Args:
        event_type: The event type of the costs, such as ``cost.documents.ocr``. Each
            cost may have another.
        operation_id: The operation's own stable id, by which a re-run is recognised. If
            None, set ``op.operation_id`` before the first cost. Without any id, and
            outside of another operation, a re-run counts again. For a decorator: the
            name of the argument that holds the id, or a function of the arguments,
            which gets them by their names.
        customer_id: The customer that the costs belong to. Defaults to the one of
            `attribute`. For a decorator: the name of an argument, a function of
            arguments, or else the customer.
        provider: The provider that charges. Each cost may have another.
        operation: The kind of work, such as ``document-extraction``. Defaults to the
            enclosing one.
        region: The region. Defaults to the enclosing one.
        client: The client that tracks the costs. Defaults to the default client at the
            time of the cost.

    Raises:
        InvalidEventError: An argument breaks a rule of events.
        ConfigError: When used: the function has no argument of that name, or a block
            was given a function for an id.

    Example:
        >>> with outlay.operation("cost.meeting", operation_id="meeting-7") as op:
        ...     op.add("0.288", line="transcription", quantity=48, unit="minute")
        ...     op.add("0.0907", line="summary", provider="anthropic")
    """
    labels = OperationLabels(event_type, provider, operation, region, client)
    labels.check()
    if operation_id is not None and not callable(operation_id):
        operation_id_text(operation_id)
    if customer_id is not None and not callable(customer_id):
        validate_text("customer_id", customer_id)
    return OperationScope(labels, operation_id, customer_id)


def current_operation() -> Operation:
    """Return the innermost operation that the running code is in.

    Raises:
        NoCurrentOperationError: The running code is in no operation.
    """
    state = current_operation_state.get()
    if state is None:
        raise NoCurrentOperationError(
            "no operation is active here: run the code inside of "
            "`with outlay.operation(...)`, or call outlay.track_cost"
        )
    return Operation(state)


class OperationScope:
    """Begins operations. `operation` returns it.

    A context manager, synchronous or not, and a decorator.
    """

    def __init__(
        self,
        labels: OperationLabels,
        operation_id: OperationId | Callable[..., OperationId | None] | None,
        customer_id: str | Callable[..., str | None] | None,
    ) -> None:
        self._labels = labels
        self._operation_id = operation_id
        self._customer_id = customer_id
        # The context around each operation that was entered and not left. So the scope
        # can be entered any number of times, and leaving restores only its own change.
        self._entered: dict[int, _EnteredOperation] = {}

    def __enter__(self) -> Operation:
        if callable(self._operation_id) or callable(self._customer_id):
            raise ConfigError(
                "a function for operation_id or customer_id works only in a decorator; "
                "in `with outlay.operation(...)`, pass its value"
            )
        given = self._operation_id
        operation_id = None if given is None else operation_id_text(given)
        state = OperationState(self._labels, operation_id, self._customer_id)
        # The entry holds the state, so that its id() is not reused.
        self._entered[id(state)] = _EnteredOperation(
            state, current_attribution.get(), current_operation_state.get()
        )
        current_attribution.set(state.attribution)
        current_operation_state.set(state)
        return Operation(state)

    def __exit__(self, *exc_info: object) -> None:
        entered = self._entered.pop(id(current_operation_state.get()), None)
        if entered is not None:
            current_attribution.set(entered.attribution)
            current_operation_state.set(entered.enclosing)
            entered.state.end()

    async def __aenter__(self) -> Operation:
        return self.__enter__()

    async def __aexit__(self, *exc_info: object) -> None:
        self.__exit__()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``function``, so that each call is an operation of its own.

        Raises:
            ConfigError: The function has no argument of a name that was given.
        """
        arguments = Arguments(unwrap_method(function))
        ids = arguments.id_callback("operation_id", self._operation_id)
        customers = arguments.customer_callback(self._customer_id)

        def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> OperationRun:
            operation_id = ids and ids.value(args, kwargs)
            customer = customers and customers.value(args, kwargs)
            return OperationRun(
                OperationState(
                    self._labels,
                    None if operation_id is None else operation_id_text(operation_id),
                    None
                    if customer is None
                    else validate_text("customer_id", customer),
                )
            )

        return wrap_function(function, begin)


class _EnteredOperation(NamedTuple):
    """An operation that was entered, and the context around it."""

    state: OperationState
    attribution: Attribution
    enclosing: OperationState | None


class OperationRun(ContextRun):
    """A run of a function that is an operation. See `FunctionRun`."""

    __slots__ = ("state",)

    def __init__(self, state: OperationState) -> None:
        super().__init__(
            {
                **capture(),
                current_attribution: state.attribution,
                current_operation_state: state,
            }
        )
        self.state = state

    def finish(self, result: object, error: BaseException | None) -> None:  # noqa: ARG002 - see FunctionRun
        """End the operation."""
        self.state.end()
