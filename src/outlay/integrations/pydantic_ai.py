"""Track the costs of pydantic-ai's agents: `OutlayCapability`.

agent = Agent("openai-chat:gpt-4o", capabilities=[OutlayCapability()])
await agent.run(question, metadata={"outlay_customer_id": "cus_123"})
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from pydantic_ai.capabilities import AbstractCapability

from outlay._capture.extraction.registry import has_unique_ids
from outlay.integrations._calls import (
    CUSTOMER_KEY,
    FrameworkCalls,
    observation_from_attributes,
)

if TYPE_CHECKING:
    from outlay._capture.observation import Observation

__all__ = ("OutlayCapability",)


class OutlayCapability(AbstractCapability[Any]):
    """Attributes and tracks the calls of models that an agent makes.

    A customer in the metadata of a run is the customer of its calls and tools. Other
    runs, and the calls of ``run_stream``, belong to the customer of the running code. A
    call is counted once, also if the provider's client is captured by
    `outlay.instrument`, or traced.

    Thread safety: any thread. One capability serves any number of agents.
    """

    def __init__(self, *, customer_key: str | None = CUSTOMER_KEY) -> None:
        """Create a capability.

        Args:
            customer_key: The name of the customer in the metadata. Defaults to
                ``outlay_customer_id``. Pass None if your program passes on metadata
                that strangers send.
        """
        self._calls = FrameworkCalls("pydantic-ai", customer_key)

    async def wrap_model_request(
        self,
        ctx: Any,  # noqa: ANN401 - pydantic-ai is not installed everywhere
        *,
        request_context: Any,  # noqa: ANN401 - as above
        handler: Any,  # noqa: ANN401 - as above
    ) -> Any:  # noqa: ANN401 - as above
        """Call a model, and track the call unless it was counted inside."""
        key = uuid.uuid4()
        # The reader of a stream makes its call, in a context of its own. There a
        # captured client does not see the metadata. Both must agree on the customer to
        # count the call once.
        streaming = getattr(request_context, "streaming", False)
        self._calls.begin(key, None if streaming else ctx.metadata)
        response = None
        try:
            response = await handler(request_context)
        finally:
            self._calls.end(key, lambda: _observation(response, streaming=streaming))
        return response

    async def wrap_tool_execute(
        self,
        ctx: Any,  # noqa: ANN401 - as above
        *,
        call: Any,  # noqa: ANN401 - as above
        tool_def: Any,  # noqa: ANN401 - as above
        args: Any,  # noqa: ANN401 - as above
        handler: Any,  # noqa: ANN401 - as above
    ) -> Any:  # noqa: ANN401 - as above
        """Run a tool, whose costs belong to the customer of the run."""
        del call, tool_def
        key = uuid.uuid4()
        self._calls.begin(key, ctx.metadata)
        try:
            return await handler(args)
        finally:
            self._calls.end(key)


def _observation(response: Any, *, streaming: bool) -> Observation | None:  # noqa: ANN401 - as above
    """Return what a response says about its call.

    None, if the call failed. None also for a stream whose provider promises no unique
    ids. A captured client may count that call, and nothing could recognise it.
    """
    if response is None:
        return None
    usage = response.usage
    attributes = {
        "gen_ai.provider.name": response.provider_name,
        "gen_ai.response.model": response.model_name,
        "gen_ai.response.id": response.provider_response_id,
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
    }
    found = observation_from_attributes("pydantic-ai", attributes)
    if found is None or not streaming:
        return found
    is_known = found.operation_id is not None and has_unique_ids(found.provider)
    return found if is_known else None
