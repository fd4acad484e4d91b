"""Track the costs of LlamaIndex: `OutlayEventHandler`.

from llama_index.core.instrumentation import get_dispatcher

get_dispatcher().add_event_handler(OutlayEventHandler())

with instrument_tags({"outlay_customer_id": "cus_123"}):
    index.as_query_engine().query("...")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from pydantic import PrivateAttr

from outlay._capture.extraction.fields import read_fields
from outlay._capture.operations.returned_responses import observations_in
from outlay.integrations._calls import (
    CUSTOMER_KEY,
    FrameworkCalls,
    observation_from_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from llama_index.core.instrumentation.events import BaseEvent

    from outlay._capture.observation import Observation

__all__ = ("OutlayEventHandler",)

_STARTS: Final = frozenset({"LLMChatStartEvent", "LLMCompletionStartEvent"})
_ENDS: Final = frozenset({"LLMChatEndEvent", "LLMCompletionEndEvent"})
_FAILURE: Final = "ExceptionEvent"


class OutlayEventHandler(BaseEventHandler):  # type: ignore[misc, unused-ignore]  # not installed everywhere
    """Attributes and tracks the calls of language models.

    A customer in the tags of ``instrument_tags`` is the customer of the calls inside.
    Other calls belong to the customer of the running code. A call is counted once, also
    if the provider's client is captured by `outlay.instrument`, or traced.

    Without a captured client, responses in the shapes of OpenAI and Anthropic are
    tracked. Other responses, and embeddings, need a captured client.

    Thread safety: any thread.
    """

    _calls: FrameworkCalls = PrivateAttr()

    def __init__(self, *, customer_key: str | None = CUSTOMER_KEY) -> None:
        """Create a handler.

        Args:
            customer_key: The name of the customer in the tags. Defaults to
                ``outlay_customer_id``. Pass None if your program makes tags of what
                strangers send.
        """
        super().__init__()
        self._calls = FrameworkCalls("llama-index", customer_key)

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the handler, as LlamaIndex has it."""
        return "OutlayEventHandler"

    def handle(self, event: BaseEvent, **_: Any) -> None:  # noqa: ANN401 - as LlamaIndex has it
        """Begin or end a call, if the event announces that."""
        name = event.class_name()
        key: Hashable = event.span_id
        if name in _STARTS:
            self._calls.begin(key, event.tags)
        elif name in _ENDS:
            response: Any = event.response  # type: ignore[attr-defined, unused-ignore]
            self._calls.end(key, lambda: _observations(response))
        elif name == _FAILURE:
            self._calls.end(key)


def _observations(response: Any) -> Observation | Iterable[Observation] | None:  # noqa: ANN401 - any model's
    """Return what the provider's own response says, or None if it is not known."""
    raw = getattr(response, "raw", None)
    return None if raw is None else observations_in(raw, None) or _in_chunk(raw)


def _in_chunk(raw: Any) -> Observation | None:  # noqa: ANN401 - any model's
    """Return what the last part of a stream says, if it is OpenAI's."""
    names = ("id", "model", "object", "usage", "service_tier")
    chunk = read_fields(raw, names)
    if chunk.get("object") != "chat.completion.chunk":
        return None
    usage = chunk.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    attributes = {
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": chunk.get("model"),
        "gen_ai.response.id": chunk.get("id"),
        "gen_ai.usage.input_tokens": usage.get("prompt_tokens"),
        "gen_ai.usage.output_tokens": usage.get("completion_tokens"),
        "gen_ai.usage.cache_read.input_tokens": details.get("cached_tokens"),
        "openai.response.service_tier": chunk.get("service_tier"),
    }
    return observation_from_attributes("LlamaIndex", attributes)
