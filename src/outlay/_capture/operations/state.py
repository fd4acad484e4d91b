"""Hold the state of the operation that the running code is in."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._capture.operations.ids import DerivedIds
from outlay._model.attribution import Attribution, current_attribution
from outlay._model.event_rules import validate_text
from outlay._model.propagated_context import register

if TYPE_CHECKING:
    from outlay._capture.observation import Observation
    from outlay._client import Client


class CostIdentity(NamedTuple):
    """The labels by which two costs inside of one operation may be the same money."""

    provider: str | None
    event_type: str
    line: str | None

    @classmethod
    def from_observation(cls, observation: Observation) -> CostIdentity:
        """Return the identity of an observed cost."""
        return cls(observation.provider, observation.event_type, observation.line)


class OperationLabels(NamedTuple):
    """The labels of an operation. The fields are arguments of `operation`."""

    event_type: str | None
    provider: str | None = None
    operation: str | None = None
    region: str | None = None
    client: Client | None = None

    def check(self) -> None:
        """Check the labels as `track_cost` does.

        Raises:
            InvalidEventError: A label breaks a rule of events.
        """
        for name, value in zip(self._fields[:4], self[:4], strict=True):
            if value is not None:
                validate_text(name, value)


class OperationState:
    """The state of one running operation.

    Thread safety: any thread. Concurrent changes are single operations of a dict, a
    set, and attributes.

    Attributes:
        labels: The labels that the operation began with.
        attribution: The attribution of its costs.
        operation_id: The operation's own id. None, until the user gives one.
        derived_ids: The ids for calls inside, from the nearest operation with an id.
        added_costs: The costs added to the operation, each by the fields of its key.
        parent: The enclosing operation. None, if there is none, or after the end.
    """

    def __init__(
        self, labels: OperationLabels, operation_id: str | None, customer_id: str | None
    ) -> None:
        """Begin an operation.

        Args:
            labels: The labels, checked.
            operation_id: The operation's own id, checked. If None, it may come later.
            customer_id: The customer, checked. If None, as in the running code.
        """
        self.labels = labels
        self.attribution: Attribution = Attribution(
            customer_id, labels.operation, labels.region
        ).merged_over(current_attribution.get())
        self.operation_id = operation_id
        parent = current_operation_state.get()
        self.parent: OperationState | None = parent
        self.derived_ids: DerivedIds | None = (
            None if parent is None else parent.derived_ids
        )
        if operation_id is not None:
            self.derived_ids = DerivedIds.acquire(
                operation_id, self.attribution.customer_id
            )
        self.added_costs: dict[tuple[object, ...], object] = {}
        self._counted: set[CostIdentity] = set()

    def set_id(self, operation_id: str) -> None:
        """Give the operation an id, or another one."""
        if operation_id != self.operation_id:
            self._release_ids()
            self.derived_ids = DerivedIds.acquire(
                operation_id, self.attribution.customer_id
            )
            self.operation_id = operation_id

    def count(self, cost: CostIdentity) -> None:
        """Note that a cost was counted here, or in an operation inside."""
        self._counted.add(cost)
        parent = self.parent  # read once: another thread may end the operation
        if parent is not None:
            parent.count(cost)

    @property
    def counted_costs(self) -> frozenset[CostIdentity]:
        """The costs counted so far, here and in operations inside."""
        return frozenset(self._counted)

    def end(self) -> None:
        """End the operation, and forget the enclosing one.

        Later costs of a task that goes on are not counted in the enclosing one. So an
        endless task does not keep all operations alive that it was ever in.
        """
        self.parent = None
        self._release_ids()

    def _release_ids(self) -> None:
        if self.operation_id is not None and self.derived_ids is not None:
            self.derived_ids.release(self.operation_id, self.attribution.customer_id)


current_operation_state: Final[ContextVar[OperationState | None]] = register(
    ContextVar("outlay_operation", default=None)
)
"""The innermost operation of the running code."""


def current_derived_ids() -> DerivedIds | None:
    """Return the ids for calls in the innermost operation; None if it has no id."""
    state = current_operation_state.get()
    return None if state is None else state.derived_ids


def count_in_operation(cost: CostIdentity) -> None:
    """Note in the innermost operation, if there is one, that a cost was counted."""
    state = current_operation_state.get()
    if state is not None:
        state.count(cost)


def count_observed(observation: Observation) -> None:
    """Note in the innermost operation, if there is one, that a cost was observed."""
    state = current_operation_state.get()
    if state is not None:
        state.count(CostIdentity.from_observation(observation))
