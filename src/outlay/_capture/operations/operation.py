"""Operations: several costs of one billable thing, under one id.

Every cost is tracked when it is added, so a kill between two of them loses nothing; and
since the keys of all are made of the operation's id, a re-run counts none twice.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from outlay._capture.context.bind import ContextRun
from outlay._capture.context.function_wrapper import wrap_function
from outlay._capture.operations.arguments import Arguments, unwrap_method
from outlay._capture.operations.ids_resolve import operation_id_text
from outlay._capture.operations.state import (
    CostIdentity,
    OperationLabels,
    OperationState,
    current_operation_state,
)
from outlay._default_client import default_client
from outlay._model.attribution import current_attribution
from outlay._model.events import validate_text
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
    """One billable operation that is under way: what ``with outlay.operation`` gives.

    Thread safety: any thread may call any method, also after the operation has ended.
    """

    __slots__ = ("_state",)

    def __init__(self, inside: OperationState) -> None:
        """Handle an operation; `operation` and `current_operation` do that for you."""
        self._state = inside

    def __eq__(self, other: object) -> bool:
        """Whether ``other`` is a handle of the same operation."""
        return isinstance(other, Operation) and other._state is self._state

    def __hash__(self) -> int:
        return hash(self._state)

    @property
    def operation_id(self) -> str | None:
        """The operation's own id; None: nobody has said it yet.

        It may be set until the first cost is added: the costs are tracked at once, so
        the keys of those before could not be made of it.

        Raises:
            InvalidEventError: when set to what is no id, or too late.
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
        """Track one of the operation's costs, now.

        When it returns, the cost is in the journal, whatever becomes of the operation.

        Args:
            amount: actual cost in the metric's currency, exact; see `track_cost`.
            line: which of the operation's costs it is. Only one can be without.
            quantity: how much was consumed.
            unit: of the quantity.
            provider: who charges for it. None: who charges for the operation.
            event_type: None: the operation's.
            data: anything else worth knowing or grouping by; JSON.

        Returns:
            The event's idempotency key, and whether the event is on disk.

        Raises:
            InvalidEventError: an argument breaks a rule; or the operation has such a
                cost already, with which this one would share its key, and only one of
                them would count. Nothing was tracked.
            ClosedError: the client is closed; nothing was tracked.
        """
        inside = self._state
        event_type = inside.spec.event_type if event_type is None else event_type
        if event_type is None:
            raise InvalidEventError("event_type", None, _NO_TYPE)
        provider = inside.spec.provider if provider is None else provider
        cost = CostIdentity(provider, event_type, line)
        # Inside, the running code's scopes hold; elsewhere, what held at the beginning.
        owner = (
            current_attribution.get()
            if current_operation_state.get() is inside
            else inside.owner
        )
        taken = _reserve_key(inside, cost, owner.customer_id)
        running = current_attribution.set(owner)
        try:
            operation_id = inside.operation_id
            if operation_id is None and inside.derived_ids is not None:
                operation_id = inside.derived_ids.next_id(
                    *cost, str(amount), str(quantity), unit
                )
            receipt = (inside.spec.client or default_client()).track_cost(
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
                inside.added_costs.pop(taken, None)
            raise
        finally:
            current_attribution.reset(running)
        inside.count(cost)
        return receipt


def _reserve_key(
    inside: OperationState, cost: CostIdentity, customer_id: str | None
) -> tuple[object, ...]:
    """Take what will be an event's key, so that no other cost gets it.

    Raises:
        InvalidEventError: it is taken.
    """
    key, mine = (*cost, customer_id), object()
    try:
        taken = inside.added_costs.setdefault(key, mine)  # atomic, unlike `in`
    except TypeError:  # what cannot be hashed is no label: `track_cost` says so
        return key
    if taken is not mine:
        raise InvalidEventError("line", cost.line, _TAKEN)
    return key


_NO_TYPE: Final = "name it here, or in outlay.operation(...)"
_TOO_LATE: Final = (
    "costs were added before, and are tracked: set it before the first one is added"
)
_TAKEN: Final = (
    "this operation has such a cost already: name another line, or add the amounts up"
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
    """Begin an operation, whose costs are added while it goes on.

    Each cost is tracked when it is added, under the operation's id and a line of its
    own. What captured calls inside cost is attributed alike; a call whose provider
    gives it no id is named by the operation. Exceptions pass through, and what was
    added by then has cost what it has cost.

    Use it as a context manager, synchronous or not, or as a decorator of functions of
    all kinds, where every call is an operation of its own. Operations nest; the costs
    of one without an id are named by the next one around that has one. They follow
    asyncio tasks, ``asyncio.to_thread`` and `bind`, as `attribute` does.

    Thread safety: any thread; one scope may be used any number of times.

    Args:
        event_type: of the costs, such as ``cost.documents.ocr``; each may say another.
        operation_id: the operation's own stable id, by which a re-run is known. None:
            it is said later, by ``op.operation_id = ...``, before the first cost is
            added; else, without an operation around, a re-run counts again. Of a
            decorator: the name of the argument that holds it, or a function of the
            arguments, called by their names.
        customer_id: who the costs are attributed to. None: whom `attribute` says. Of a
            decorator: the name of an argument, a function of arguments, or else the
            customer.
        provider: who charges; each cost may say another.
        operation: what is done, such as ``document-extraction``. None: as around.
        region: where. None: as around.
        client: tracks the costs; None: the default client, whichever it is then.

    Raises:
        InvalidEventError: an argument breaks a rule of events.
        ConfigError: where it is used, if it does not fit: a function without the
            argument that is named, or a block with a function for an id.

    Example:
        >>> with outlay.operation("cost.meeting", operation_id="meeting-7") as op:
        ...     op.add("0.288", line="transcription", quantity=48, unit="minute")
        ...     op.add("0.0907", line="summary", provider="anthropic")
    """
    spec = OperationLabels(event_type, provider, operation, region, client)
    spec.check()
    if operation_id is not None and not callable(operation_id):
        operation_id_text(operation_id)
    if customer_id is not None and not callable(customer_id):
        validate_text("customer_id", customer_id)
    return OperationScope(spec, operation_id, customer_id)


def current_operation() -> Operation:
    """Return the operation that the running code is in: the innermost.

    Raises:
        NoCurrentOperationError: it is in none.
    """
    found = current_operation_state.get()
    if found is None:
        raise NoCurrentOperationError(
            "no operation is under way here: run the code inside of "
            "`with outlay.operation(...)`, or call outlay.track_cost"
        )
    return Operation(found)


class OperationScope:
    """Begins operations: what `operation` returns.

    A context manager, synchronous or not, and a decorator.
    """

    def __init__(
        self,
        spec: OperationLabels,
        operation_id: OperationId | Callable[..., OperationId | None] | None,
        customer_id: str | Callable[..., str | None] | None,
    ) -> None:
        self._spec = spec
        self._operation_id = operation_id
        self._customer_id = customer_id
        # What was around each operation that was entered and not left. So the scope
        # can be entered any number of times, and leaving restores only what it had set.
        self._entered: dict[int, _EnteredOperation] = {}

    def __enter__(self) -> Operation:
        if callable(self._operation_id) or callable(self._customer_id):
            raise ConfigError(
                "a function that tells operation_id or customer_id is for decorators; "
                "in `with outlay.operation(...)` pass what it would return"
            )
        told = self._operation_id
        operation_id = None if told is None else operation_id_text(told)
        begun = OperationState(self._spec, operation_id, self._customer_id)
        # Kept with its id, so that the id is not reused.
        self._entered[id(begun)] = _EnteredOperation(
            begun, current_attribution.get(), current_operation_state.get()
        )
        current_attribution.set(begun.owner)
        current_operation_state.set(begun)
        return Operation(begun)

    def __exit__(self, *exc_info: object) -> None:
        entered = self._entered.pop(id(current_operation_state.get()), None)
        if entered is not None:
            current_attribution.set(entered.attribution)
            current_operation_state.set(entered.enclosing)
            entered.inside.end()

    async def __aenter__(self) -> Operation:
        return self.__enter__()

    async def __aexit__(self, *exc_info: object) -> None:
        self.__exit__()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate ``function``: each call of it is an operation of its own.

        Raises:
            ConfigError: it has no argument of a name that was given.
        """
        arguments = Arguments(unwrap_method(function))
        ids = arguments.id_callback("operation_id", self._operation_id)
        customers = arguments.customer_callback(self._customer_id)

        def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> OperationRun:
            told = ids and ids.value(args, kwargs)
            customer = customers and customers.value(args, kwargs)
            return OperationRun(
                OperationState(
                    self._spec,
                    None if told is None else operation_id_text(told),
                    None
                    if customer is None
                    else validate_text("customer_id", customer),
                )
            )

        return wrap_function(function, begin)


class _EnteredOperation(NamedTuple):
    """An operation that was entered, and what was around it."""

    inside: OperationState
    attribution: Attribution
    enclosing: OperationState | None


class OperationRun(ContextRun):
    """A run of a function that is an operation; see `wrapping.Run`."""

    __slots__ = ("inside",)

    def __init__(self, inside: OperationState) -> None:
        super().__init__(
            {
                **capture(),
                current_attribution: inside.owner,
                current_operation_state: inside,
            }
        )
        self.inside = inside

    def finish(self, result: object, error: BaseException | None) -> None:  # noqa: ARG002 - see Run
        """End the operation."""
        self.inside.end()
