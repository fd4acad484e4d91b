"""Count the calls of providers that an AI framework announces.

A framework announces the start and the end of a call, around the provider's client. If
that client is captured, or a span inside is counted, it counts the call. The innermost
source knows most. If nothing was counted inside, the framework's own data of the
response are recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay._capture import event_types
from outlay._capture.context.attribution import AttributionScope, attribute
from outlay._capture.extraction.registry import has_unique_ids
from outlay._capture.guard import guarded
from outlay._capture.observation import Observation
from outlay._capture.operations.operation import OperationScope, operation
from outlay._capture.operations.state import OperationState, current_operation_state
from outlay._capture.pricing.configured_lists import load_price_lists
from outlay._capture.recorder import Recorder
from outlay._capture.spans.dialects import SEMCONV, observation_from_span
from outlay._model.bounded import BoundedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from outlay._capture.spans.dialects import Attributes

CUSTOMER_KEY: Final = "outlay_customer_id"
"""The name of the customer in a framework's metadata."""

_MAX_OPEN: Final = 16_384
"""The largest number of open calls in memory. Some never end, as a lost stream."""


class _OpenCall(NamedTuple):
    """A call that has started, and the scopes that end with it."""

    attribution: AttributionScope | None
    operation: OperationScope
    state: OperationState


class FrameworkCalls:
    """The calls that one framework announces.

    Nothing here fails the framework: errors are counted, and logged once for each kind.

    Thread safety: any thread.
    """

    def __init__(self, name: str, customer_key: str | None) -> None:
        """Create it, without calls.

        Args:
            name: The framework's name, for the log.
            customer_key: The name of the customer in the framework's metadata. If None,
                metadata are not read.
        """
        load_price_lists()  # here, not in a call
        self._name = name
        self._customer_key = customer_key
        self._open: BoundedDict[Hashable, _OpenCall] = BoundedDict(_MAX_OPEN)

    def begin(self, key: Hashable, metadata: Mapping[str, Any] | None) -> None:
        """Begin a call in the running code.

        Args:
            key: The framework's id of the call.
            metadata: The metadata that the program gave to the framework.
        """
        guarded(self._name, self._begin, key, metadata or {})

    def end(
        self,
        key: Hashable,
        observe: Callable[[], Observation | Iterable[Observation] | None] | None = None,
    ) -> None:
        """End a call, and record it unless it was counted inside.

        Args:
            key: The framework's id of the call.
            observe: A function that returns the framework's data of the response. If
                None, the call failed or costs nothing.
        """
        guarded(self._name, self._end, key, observe)

    def _begin(self, key: Hashable, metadata: Mapping[str, Any]) -> None:
        scope = guarded(self._name, self._attribution_in, metadata)
        if scope is not None:
            scope.__enter__()
        call = operation()
        call.__enter__()
        state = current_operation_state.get()
        if state is not None:
            self._open[key] = _OpenCall(scope, call, state)

    def _attribution_in(self, metadata: Mapping[str, Any]) -> AttributionScope | None:
        customer = None
        if self._customer_key is not None:
            customer = metadata.get(self._customer_key)
        return None if customer is None else attribute(customer_id=customer)

    def _end(
        self,
        key: Hashable,
        observe: Callable[[], Observation | Iterable[Observation] | None] | None,
    ) -> None:
        call = self._open.pop(key, None)
        if call is None:
            return
        # Each undoes only its own change, and nothing in another context.
        call.operation.__exit__()
        if call.attribution is not None:
            call.attribution.__exit__()
        counted = call.state.counted_costs
        call.state.end()
        if observe is None or counted:
            return
        observed = observe()
        if observed is None:
            return
        for each in (observed,) if isinstance(observed, Observation) else observed:
            observation = _with_id(each, f"{self._name}-{key}")
            Recorder.for_client().record(observation, call.state.attribution)


def _with_id(observation: Observation, call_id: str) -> Observation:
    """Return an observation with the provider's id, or else with that of the call."""
    if observation.operation_id is not None and has_unique_ids(observation.provider):
        return observation
    return msgspec.structs.replace(observation, operation_id=call_id)


def observation_from_attributes(
    framework: str, attributes: Attributes
) -> Observation | None:
    """Return the cost of a call, or None if nothing is known of it.

    Args:
        framework: The framework, as the source of the usage.
        attributes: The call in the names of OpenTelemetry's GenAI conventions.
    """
    convention = SEMCONV._replace(name=framework)
    found = observation_from_span(attributes, convention, event_types.INFERENCE)
    if found is None or "input_tokens" in found.usage:
        return found
    # Every call has input. A price without it would be too low.
    return msgspec.structs.replace(found, is_complete=False)
