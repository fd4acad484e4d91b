"""The span processor: each billable GenAI span becomes one cost event.

A call may be seen many times: by a framework's span around a library's span around a
wrapped client. The innermost observer counts it; what is around it is passed over, by
the response's id where both know it, and else because a span inside of it was counted.
"""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Final

import msgspec
from opentelemetry.sdk.trace import SpanProcessor

from outlay._capture.extraction.registry import has_unique_ids
from outlay._capture.guard import guarded
from outlay._capture.instrumentation.observed_call import ObservedCall
from outlay._capture.operations.state import current_operation_state
from outlay._capture.recorder import Recorder
from outlay._capture.span_attributes import ATTR_STATUS
from outlay._capture.spans.dialects import (
    DIALECTS,
    convention_of,
    observation_from_span,
)
from outlay._model.attribution import current_attribution
from outlay._model.clock import NS_PER_MS, from_ms

if TYPE_CHECKING:
    from opentelemetry import context as otel
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import SpanContext

    from outlay._capture.observation import Observation
    from outlay._capture.operations.state import OperationState
    from outlay._capture.spans.dialects import Attributes
    from outlay._client import Client
    from outlay._model.attribution import Attribution

ATTR_CUSTOMER_ID: Final = "outlay.customer_id"
"""Attribute by which an application attributes a span itself."""

_MARKER_ATTRIBUTES: Final = frozenset(
    {ATTR_STATUS, *(dialect.marker for dialect in DIALECTS)}
)
"""A span without any of these is none of ours: one look, whatever it carries."""

_MAX_OPEN: Final = 65_536
"""Open spans remembered: spans that nobody ends would fill the memory. About 10 MB."""


class CostSpanProcessor(SpanProcessor):
    """Tracks what GenAI spans say that their calls cost.

    Add it to the application's tracer provider; any instrumentation that writes one of
    the known dialects will do (see docs/opentelemetry.md).

    A span that is not sampled never gets here, and its cost is not tracked: keep the
    sampler at ``ALWAYS_ON``, or wrap the provider's client with `outlay.instrument`.

    Thread safety: any thread.

    Example:
        >>> from opentelemetry import trace
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> provider = TracerProvider()
        >>> provider.add_span_processor(CostSpanProcessor())
        >>> trace.set_tracer_provider(provider)
    """

    def __init__(self, client: Client | None = None) -> None:
        """Create a processor.

        Args:
            client: whom to track with; None: the default client.
        """
        self._client = client
        # Single operations of a dict and a set need no lock.
        self._open_spans: dict[
            int, tuple[Attribution, OperationState | None, SpanContext | None]
        ] = {}
        self._shut = False
        self._spans_with_counted_child: set[int] = (
            set()
        )  # open spans with a counted one inside

    def on_start(self, span: Span, parent_context: otel.Context | None = None) -> None:
        """Remember whom the span belongs to: it may end in another context."""
        del parent_context  # the span knows its parent
        if self._shut:
            return
        # A plain tuple and few words: every span of the application comes by.
        self._open_spans[span.context.span_id] = (
            current_attribution.get(),
            current_operation_state.get(),
            span.parent,
        )
        if ObservedCall.current() is not None:
            # A captured client around the span counts its call.
            self._spans_with_counted_child.add(span.context.span_id)
        if len(self._open_spans) > _MAX_OPEN:
            self._evict_oldest_half()

    def on_end(self, span: ReadableSpan) -> None:
        """Track what the span says."""
        context = span.context
        if context is None:
            return
        span_id = context.span_id
        entry = self._open_spans.pop(span_id, None)
        if entry is None:
            return  # begun before this processor was there, or forgotten
        owner, around, parent = entry
        counted = span_id in self._spans_with_counted_child
        if counted:
            self._spans_with_counted_child.discard(span_id)
        else:
            attributes = span.attributes
            if not attributes or _MARKER_ATTRIBUTES.isdisjoint(attributes):
                return
            counted = bool(
                guarded("spans", self._process, span, attributes, owner, around)
            )
        if counted and parent is not None and parent.span_id in self._open_spans:
            self._spans_with_counted_child.add(parent.span_id)

    def shutdown(self) -> None:
        """Track no more; the client is closed by whoever made it, or at exit.

        Instrumentations may go on with their spans: one that cannot be undone does.
        """
        self._shut = True
        self._open_spans.clear()
        self._spans_with_counted_child.clear()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: events are in the journal already. See `Client.flush`."""
        del timeout_millis
        return True

    def _process(
        self,
        span: ReadableSpan,
        attributes: Attributes,
        owner: Attribution,
        around: OperationState | None,
    ) -> bool:
        """Return whether the span's call is counted, by this or by another observer."""
        if ATTR_STATUS in attributes:
            return True
        found = convention_of(attributes)
        observation = (
            None if found is None else observation_from_span(attributes, *found)
        )
        if observation is None:
            return False
        # Of an empty context: the span that is current by now, its parent, is not the
        # one that cost this, and must not be stamped.
        Context().run(
            self._record,
            _named(observation, span),
            _owner(attributes, owner),
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
        current_operation_state.set(
            around
        )  # in a context of its own, which ends with this
        ended = span.end_time
        at = None if ended is None else from_ms(ended // NS_PER_MS)
        Recorder.for_client(self._client).record(observation, owner, at)

    def _evict_oldest_half(self) -> None:
        """Forget the older half of the open spans: the likelier never to end."""
        for span_id in list(self._open_spans)[: _MAX_OPEN // 2]:
            self._open_spans.pop(span_id, None)
            self._spans_with_counted_child.discard(span_id)


def _owner(attributes: Attributes, owner: Attribution) -> Attribution:
    customer = attributes.get(ATTR_CUSTOMER_ID)
    if isinstance(customer, str) and customer:
        return owner._replace(customer_id=customer)
    return owner


def _named(observation: Observation, span: ReadableSpan) -> Observation:
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
