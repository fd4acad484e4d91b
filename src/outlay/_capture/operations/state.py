"""Enclosures: what is known of an operation by the code that runs inside of it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._capture.operations.ids import DerivedIds
from outlay._model.attribution import Attribution, current_attribution
from outlay._model.events import validate_text
from outlay._model.propagated_context import register

if TYPE_CHECKING:
    from outlay._capture.observation import Observation
    from outlay._client import Client


class CostIdentity(NamedTuple):
    """A cost that was counted in an operation, as far as others may be the same."""

    provider: str | None
    event_type: str
    line: str | None

    @classmethod
    def of(cls, observation: Observation) -> CostIdentity:
        """Return what was observed."""
        return cls(observation.provider, observation.event_type, observation.line)


class OperationLabels(NamedTuple):
    """What an operation is begun with; the fields are the arguments of `operation`."""

    event_type: str | None
    provider: str | None = None
    operation: str | None = None
    region: str | None = None
    client: Client | None = None

    def check(self) -> None:
        """Refuse what `track_cost` would refuse.

        Raises:
            InvalidEventError: a label breaks a rule of events.
        """
        for name, value in zip(self._fields[:4], self[:4], strict=True):
            if value is not None:
                validate_text(name, value)


class OperationState:
    """The inside of one operation that is under way.

    Thread safety: any thread. What several change at once are single operations of a
    dict, a set, and attributes.

    Attributes:
        spec: what the operation was begun with.
        owner: whom its costs are attributed to.
        operation_id: its own id; None: nobody has said it yet.
        places: names the calls in here: of the nearest operation that has an id.
        added: what was added to the operation, each under what makes its key.
        outer: the enclosure around; None: there is none, or the operation has ended.
    """

    def __init__(
        self, spec: OperationLabels, operation_id: str | None, customer_id: str | None
    ) -> None:
        """Begin an operation, of labels and ids that are checked; see `operation`."""
        self.spec = spec
        self.owner = Attribution(customer_id, spec.operation, spec.region).merged_over(
            current_attribution.get()
        )
        self.operation_id = operation_id
        parent = current_operation_state.get()
        self.parent: OperationState | None = parent
        self.derived_ids: DerivedIds | None = (
            None if parent is None else parent.derived_ids
        )
        if operation_id is not None:
            self.derived_ids = DerivedIds.acquire(operation_id, self.owner.customer_id)
        self.added_costs: dict[tuple[object, ...], object] = {}
        self._counted: set[CostIdentity] = set()

    def set_id(self, operation_id: str) -> None:
        """Let the operation have an id from now on."""
        if operation_id != self.operation_id:
            self._release_ids()
            self.derived_ids = DerivedIds.acquire(operation_id, self.owner.customer_id)
            self.operation_id = operation_id

    def count(self, cost: CostIdentity) -> None:
        """Take note of a cost that was counted here, or in an operation inside."""
        self._counted.add(cost)
        outer = self.parent  # read once: another thread may end the operation
        if outer is not None:
            outer.count(cost)

    @property
    def counted_costs(self) -> frozenset[CostIdentity]:
        """What was counted here so far, and in operations inside."""
        return frozenset(self._counted)

    def end(self) -> None:
        """End the block, and let go of the enclosure around.

        It learns no more of what counts here; and a task that goes on for ever does
        not keep all that it was ever in.
        """
        self.parent = None
        self._release_ids()

    def _release_ids(self) -> None:
        if self.operation_id is not None and self.derived_ids is not None:
            self.derived_ids.release(self.operation_id, self.owner.customer_id)


current_operation_state: Final[ContextVar[OperationState | None]] = register(
    ContextVar("outlay_operation", default=None)
)
"""The inside of which operation the running code is in."""
