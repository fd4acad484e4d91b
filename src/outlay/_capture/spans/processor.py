"""Turn each billable GenAI span into one cost event.

A call may be observed several times: by a framework's span around a library's span
around a captured client. The innermost source counts it. Outer spans are skipped: by
the id of the response where both know it, or else because an inner span was counted.
"""

from __future__ import annotations

import weakref
from contextvars import Context
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec
from opentelemetry.sdk.trace import SpanProcessor

from outlay._capture.extraction.registry import has_unique_ids
from outlay._capture.guard import guarded, report_failure
from outlay._capture.instrumentation.observed_call import ObservedCall
from outlay._capture.operations.state import current_operation_state
from outlay._capture.pricing.configured_lists import load_price_lists
from outlay._capture.recorder import Recorder
from outlay._capture.span_attributes import ATTR_STATUS
from outlay._capture.spans.dialects import (
    CONVENTIONS,
    convention_of,
    observation_from_span,
)
from outlay._model.attribution import current_attribution
from outlay._model.bounded import BoundedDict
from outlay._model.clock import NS_PER_MS, from_ms
from outlay._model.event_rules import validate_text
from outlay.errors import ConfigError, InvalidEventError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry import context as otel
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import SpanContext

    from outlay._capture.observation import Observation
    from outlay._capture.operations.state import OperationState
    from outlay._capture.spans.dialects import Attributes
    from outlay._client import Client
    from outlay._model.attribution import Attribution

ATTR_CUSTOMER_ID: Final = "outlay.customer_id"
"""The attribute in which an application names the customer of a span."""

_MARKER_ATTRIBUTES: Final = frozenset(
    {ATTR_STATUS, *(convention.marker for convention in CONVENTIONS)}
)
"""Spans without any of these are skipped after one look."""

_MAX_OPEN: Final = 65_536
"""The largest number of open spans in memory, about 10 MB. Some spans never end."""


class CostSpanProcessor(SpanProcessor):
    """Tracks the costs of the calls in GenAI spans.

    Add it to the application's tracer provider. It reads the spans of every
    instrumentation that follows a known convention (see docs/opentelemetry.md).

    Spans that are not sampled do not get here, and their costs are not tracked. Keep
    the sampler at ``ALWAYS_ON``, or capture the provider's client instead.

    Thread safety: any thread.

    Example:
        >>> from opentelemetry import trace
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> provider = TracerProvider()
        >>> provider.add_span_processor(CostSpanProcessor())
        >>> trace.set_tracer_provider(provider)
    """

    def __init__(
        self, client: Client | None = None, *, customer_attributes: Sequence[str] = ()
    ) -> None:
        """Create a processor.

        Args:
            client: The client that tracks the costs. If None, the default client.
            customer_attributes: More attributes that contain the customer of a span,
                such as ``user.id``, which Langfuse's ``propagate_attributes`` sets. The
                first one that a span has is used, after ``outlay.customer_id``. Name
                only attributes that your own program sets from what it has
                authenticated. Defaults to none.

        Raises:
            ConfigError: ``customer_attributes`` is not a sequence of names.
        """
        self._customer_attributes = (
            ATTR_CUSTOMER_ID,
            *_attribute_names(customer_attributes),
        )
        load_price_lists()  # here, not in a call
        self._client = client
        self._spans = _OpenSpans(client)
        self._shut = False

    def on_start(self, span: Span, parent_context: otel.Context | None = None) -> None:
        """Remember the span's attribution. The span may end in another context."""
        del parent_context  # the span contains its parent
        if self._shut:
            return
        # A plain tuple and little work: every span of the application gets here.
        self._spans.started[span.context.span_id] = (
            current_attribution.get(),
            current_operation_state.get(),
            span.parent,
        )
        if ObservedCall.current() is not None:
            # A captured client around the span counts its call.
            self._spans.with_counted_child[span.context.span_id] = True

    def on_end(self, span: ReadableSpan) -> None:
        """Track the cost in the span."""
        context = span.context
        if context is None:
            return
        span_id = context.span_id
        entry = self._spans.started.pop(span_id, None)
        if entry is None:
            return  # started before this processor existed, or forgotten
        owner, around, parent = entry
        counted = self._spans.with_counted_child.pop(span_id, False)
        if not counted:
            attributes = span.attributes
            if not attributes or _MARKER_ATTRIBUTES.isdisjoint(attributes):
                return
            counted = bool(
                guarded("spans", self._process, span, attributes, owner, around)
            )
        if counted and parent is not None:
            self._spans.mark_counted_inside(parent.span_id)

    def shutdown(self) -> None:
        """Stop tracking. The client is closed by the code that created it, or at exit.

        Instrumentations that cannot be removed go on with their spans.
        """
        self._shut = True
        self._spans.started.clear()
        self._spans.with_counted_child.clear()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing. Events are in the journal already; see `Client.flush`."""
        del timeout_millis
        return True

    def _process(
        self,
        span: ReadableSpan,
        attributes: Attributes,
        owner: Attribution,
        around: OperationState | None,
    ) -> bool:
        """Return whether the span's call is counted, by this or by another source."""
        if ATTR_STATUS in attributes:
            return True
        found = convention_of(attributes)
        observation = (
            None if found is None else observation_from_span(attributes, *found)
        )
        if observation is None:
            return False
        # In an empty context: the current span is the parent already, which must not
        # be stamped.
        Context().run(
            self._record,
            _with_span_id(observation, span),
            self._owner(attributes, owner),
            around,
            span,
        )
        return True

    def _record(
        self,
        observation: Observation,
        owner: Attribution,
        around: OperationState | None,
        span: ReadableSpan,
    ) -> None:
        # In a context of its own, which ends with this method.
        current_operation_state.set(around)
        ended = span.end_time
        at = None if ended is None else from_ms(ended // NS_PER_MS)
        Recorder.for_client(self._client).record(observation, owner, at)

    def _owner(self, attributes: Attributes, owner: Attribution) -> Attribution:
        """Return the attribution of a span. ``owner`` is that of its code."""
        for name in self._customer_attributes:
            customer = attributes.get(name)
            if isinstance(customer, str) and customer:
                try:
                    valid = validate_text("customer_id", customer)
                except InvalidEventError as error:
                    report_failure("spans", error, f"{name} is no customer's id")
                else:
                    return owner._replace(customer_id=valid)
        return owner


class _OpenSpans:
    """The open spans of a processor, by their ids.

    Single operations of a dictionary need no lock.

    Attributes:
        client: The client of the processor.
        started: The attribution, the operation and the parent of each open span.
        with_counted_child: The spans with a counted call inside.
    """

    _all: ClassVar[list[weakref.ref[_OpenSpans]]] = []

    def __init__(self, client: Client | None) -> None:
        self.client = client
        self.started: BoundedDict[
            int, tuple[Attribution, OperationState | None, SpanContext | None]
        ] = BoundedDict(_MAX_OPEN)
        self.with_counted_child: BoundedDict[int, bool] = BoundedDict(_MAX_OPEN)
        self._all.append(weakref.ref(self, self._all.remove))

    def mark_counted_inside(self, span_id: int) -> None:
        """Note that a call inside a span is counted, if the span is open.

        The span may be another provider's, such as Langfuse's around Traceloop's. Its
        processor may read another customer from it, and so make another key.
        """
        for reference in tuple(self._all):
            spans = reference()
            if (
                spans is not None
                and spans.client is self.client
                and span_id in spans.started
            ):
                spans.with_counted_child[span_id] = True


def _attribute_names(names: Sequence[str]) -> Sequence[str]:
    """Return ``names``.

    Raises:
        ConfigError: They are not a sequence of names.
    """
    if isinstance(names, str) or not all(
        isinstance(name, str) and name for name in names
    ):
        raise ConfigError(
            "customer_attributes must be a sequence of names, such as ['user.id']"
        )
    return names


def _with_span_id(observation: Observation, span: ReadableSpan) -> Observation:
    """Return ``observation`` with an operation id: the provider's, or else the span's.

    The span's id stays the same, however often the span is processed. A server that
    outlay does not know may repeat its ids, so there the span's id is used.
    """
    context = span.context
    has_id = observation.operation_id is not None
    if context is None or (has_id and has_unique_ids(observation.provider)):
        return observation
    name = f"{context.trace_id:032x}-{context.span_id:016x}"
    return msgspec.structs.replace(observation, operation_id=name)
