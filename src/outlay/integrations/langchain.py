"""Track the costs of LangChain and LangGraph: `OutlayCallbackHandler`.

handler = OutlayCallbackHandler()
graph.invoke(question, config={
    "callbacks": [handler], "metadata": {"outlay_customer_id": "cus_123"}
})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import BaseCallbackHandler

from outlay.integrations._calls import (
    CUSTOMER_KEY,
    FrameworkCalls,
    observation_from_attributes,
)

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.outputs import LLMResult

    from outlay._capture.observation import Observation

__all__ = ("OutlayCallbackHandler",)


# Names of LangChain's integrations, by the names of OpenTelemetry's conventions.
_PROVIDERS: Final = {
    "amazon_bedrock": "aws.bedrock",
    "anthropic_bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "google_vertexai": "vertex_ai",
    "google_anthropic_vertex": "vertex_ai",
}


class OutlayCallbackHandler(BaseCallbackHandler):
    """Attributes and tracks the calls of chat models and language models.

    A customer in the metadata of a run is the customer of its calls and tools. Other
    runs belong to the customer of the running code. A call is counted once, also if the
    provider's client is captured by `outlay.instrument`, or traced.

    Thread safety: any thread. One handler serves any number of runs.
    """

    # In the task and the thread of the call, so that the captured client sees it.
    run_inline = True

    def __init__(self, *, customer_key: str | None = CUSTOMER_KEY) -> None:
        """Create a handler.

        Args:
            customer_key: The name of the customer in the metadata. Defaults to
                ``outlay_customer_id``. Pass None if your program passes on metadata
                that strangers send.
        """
        self._calls = FrameworkCalls("langchain", customer_key)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: Any,  # noqa: ANN401 - not read
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **_: Any,  # noqa: ANN401 - as LangChain has it
    ) -> None:
        """Begin a call of a chat model."""
        del serialized, messages
        self._calls.begin(run_id, metadata)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **_: Any,  # noqa: ANN401 - as LangChain has it
    ) -> None:
        """Begin a call of a language model."""
        del serialized, prompts
        self._calls.begin(run_id, metadata)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:  # noqa: ANN401 - as LangChain has it
        """End a call, and track it unless it was counted inside."""
        self._calls.end(run_id, lambda: _observation(response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:  # noqa: ANN401 - as LangChain has it
        """End a call that failed, or a stream that was closed."""
        del error
        self._calls.end(run_id)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **_: Any,  # noqa: ANN401 - as LangChain has it
    ) -> None:
        """Begin a tool, whose costs belong to the customer of the run."""
        del serialized, input_str
        self._calls.begin(run_id, metadata)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ANN401 - as LangChain has it
        """End a tool."""
        del output
        self._calls.end(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:  # noqa: ANN401 - as LangChain has it
        """End a tool that failed."""
        del error
        self._calls.end(run_id)


def _observation(result: LLMResult) -> Observation | None:
    """Return what the first message says about the call; all share its usage."""
    message: Any = getattr(result.generations[0][0], "message", None)
    usage = getattr(message, "usage_metadata", None) or {}
    if "total_cost" in usage:
        return None  # LangChain's own cache responded
    details = usage.get("input_token_details") or {}
    given = getattr(message, "response_metadata", None) or {}
    provider = given.get("model_provider") or "unknown"
    attributes = {
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
        "gen_ai.response.model": given.get("model_name") or given.get("model"),
        "gen_ai.response.id": given.get("id") or (result.llm_output or {}).get("id"),
        "gen_ai.usage.input_tokens": usage.get("input_tokens"),
        "gen_ai.usage.output_tokens": usage.get("output_tokens"),
        "gen_ai.usage.cache_read.input_tokens": details.get("cache_read"),
        "gen_ai.usage.cache_creation.input_tokens": details.get("cache_creation"),
        "openai.response.service_tier": given.get("service_tier"),
    }
    return observation_from_attributes("LangChain", attributes)
