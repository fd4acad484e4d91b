"""Track the costs of openai-agents: `OutlayTracingProcessor`.

from agents import RunConfig, add_trace_processor

add_trace_processor(OutlayTracingProcessor())
await Runner.run(agent, question, run_config=RunConfig(
    trace_metadata={"outlay_customer_id": "cus_123"}
))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agents import Span, Trace, TracingProcessor

from outlay._capture.operations.returned_responses import observations_in
from outlay.integrations._calls import (
    CUSTOMER_KEY,
    FrameworkCalls,
    observation_from_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outlay._capture.observation import Observation

__all__ = ("OutlayTracingProcessor",)

_CALLS: Final = frozenset({"generation", "response"})
_TOOL: Final = "function"


class OutlayTracingProcessor(TracingProcessor):
    """Attributes and tracks the calls of models that agents make.

    A customer in the trace's metadata is the customer of its calls and tools. Other
    calls belong to the customer of the running code. A call is counted once, also if
    the provider's client is captured by `outlay.instrument`, or traced.

    Thread safety: any thread.
    """

    def __init__(
        self, *, customer_key: str | None = CUSTOMER_KEY, provider: str = "openai"
    ) -> None:
        """Create a processor.

        Args:
            customer_key: The name of the customer in the metadata. Defaults to
                ``outlay_customer_id``. Pass None if your program passes on metadata
                that strangers send.
            provider: The provider of models that are called through chat completions.
                Their spans do not name it. Defaults to ``openai``.
        """
        self._calls = FrameworkCalls("openai-agents", customer_key)
        self._provider = provider

    def on_span_start(self, span: Span[Any]) -> None:
        """Begin a call of a model, or a tool."""
        if span.span_data.type in _CALLS or span.span_data.type == _TOOL:
            self._calls.begin(span.span_id, span.trace_metadata)

    def on_span_end(self, span: Span[Any]) -> None:
        """End a call, and track it unless it was counted inside."""
        data = span.span_data
        if data.type == "response":
            self._calls.end(span.span_id, lambda: self._response(data))
        elif data.type == "generation":
            self._calls.end(span.span_id, lambda: self._generation(data))
        elif data.type == _TOOL:
            self._calls.end(span.span_id)

    def on_trace_start(self, trace: Trace) -> None:
        """Do nothing. Spans know the metadata of their trace."""

    def on_trace_end(self, trace: Trace) -> None:
        """Do nothing."""

    def shutdown(self) -> None:
        """Do nothing. The client is closed at exit."""

    def force_flush(self) -> None:
        """Do nothing. Events are in the journal already."""

    def _response(self, data: Any) -> Observation | Iterable[Observation] | None:  # noqa: ANN401 - span data of several versions
        if data.response is None:
            return None
        return observations_in(data.response, None)

    def _generation(self, data: Any) -> Observation | None:  # noqa: ANN401 - as above
        usage = data.usage or {}
        details = usage.get("input_tokens_details") or {}
        attributes = {
            "gen_ai.provider.name": self._provider,
            "gen_ai.response.model": data.model,
            "gen_ai.usage.input_tokens": usage.get("input_tokens"),
            "gen_ai.usage.output_tokens": usage.get("output_tokens"),
            "gen_ai.usage.cache_read.input_tokens": details.get("cached_tokens"),
        }
        return observation_from_attributes("openai-agents", attributes)
