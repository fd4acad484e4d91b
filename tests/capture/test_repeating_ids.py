"""Servers that repeat their ids, or give none: each call counts by itself, once."""

from __future__ import annotations

from decimal import Decimal
from itertools import cycle
from typing import Any, Final

import httpx2
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider

import outlay
from outlay._capture.observation import Observation
from outlay._capture.operations.ids import DerivedIds, RepeatingIds
from outlay.otel import CostSpanProcessor
from tests.support.recorded import Recorded

ASKED: Final[dict[str, Any]] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "?"}],
}
LOCAL: Final = "http://127.0.0.1:11434/v1"
CALL: Final = Observation(
    provider="ollama",
    event_type="cost.ai.inference",
    operation_id="chatcmpl-7",
    amount=Decimal(1),
)


def server(ids: list[str | None], *counts: int, **headers: str) -> httpx2.Client:
    """Return a client of a server that gives these ids in turn."""
    turns, usages = cycle(ids), iter(counts)

    def respond(_: httpx2.Request) -> httpx2.Response:
        usage = {"prompt_tokens": next(usages), "completion_tokens": 0}
        body: dict[str, Any] = {"id": next(turns), "object": "chat.completion"}
        body |= {"created": 1, "model": "gpt-4o", "choices": [], "usage": usage}
        return httpx2.Response(200, json=body, headers=headers)

    return httpx2.Client(transport=httpx2.MockTransport(respond))


@pytest.mark.parametrize(
    "options", [{}, {"provider": "ollama"}], ids=["unknown", "named"]
)
def test_calls_with_one_id_are_several(options: Any) -> None:
    """Ollama draws its ids from a thousand."""
    http = server(["chatcmpl-7"], 100, 200, 200)
    with Recorded() as recorded:
        client = outlay.instrument(
            openai.OpenAI(api_key="k", http_client=http, base_url=LOCAL),
            client=recorded.client,
            **options,
        )
        for _ in range(3):
            client.chat.completions.create(**ASKED)
        outlay.uninstrument()
        stats = recorded.client.stats()

    assert stats.tracked + stats.unpriced == 3


def test_a_known_provider_s_id_names_the_operation() -> None:
    """Its ids are unique: two sources that see the same id see the same call."""
    http = server(["chatcmpl-7"], 1000, 1000)
    with Recorded() as recorded:
        client = outlay.instrument(
            openai.OpenAI(api_key="k", http_client=http), client=recorded.client
        )
        for _ in range(2):
            client.chat.completions.create(**ASKED)
        outlay.uninstrument()
        assert recorded.only().data["operationId"] == "chatcmpl-7"


def test_a_request_id_that_repeats_is_not_trusted_either() -> None:
    """A server may return the id that it was sent."""
    http = server([None], 100, 200, **{"x-request-id": "mine"})
    with Recorded() as recorded:
        client = outlay.instrument(
            openai.OpenAI(api_key="k", http_client=http, base_url=LOCAL),
            client=recorded.client,
        )
        for _ in range(2):
            client.chat.completions.create(**ASKED)
        outlay.uninstrument()
        stats = recorded.client.stats()

    assert stats.tracked + stats.unpriced == 2


def test_two_sources_agree_on_each_call() -> None:
    """A callback sees what the client below saw, in whatever order."""
    ids = RepeatingIds()
    below = [ids.replace(CALL, "client", None).operation_id for _ in range(3)]
    above = [ids.replace(CALL, "callback", None).operation_id for _ in range(3)]

    assert below == above
    assert len({*below}) == 3


def test_an_operation_names_its_calls() -> None:
    """A re-run finds the same names, although the server draws other ids."""
    ids = RepeatingIds()
    first, again = (
        ids.replace(CALL, "client", DerivedIds("job-42")).operation_id for _ in range(2)
    )

    assert first == again
    assert str(first).startswith("job-42/")


def test_a_lookup_is_of_the_last_call() -> None:
    """Looking at an operation does not make another one of it."""
    ids = RepeatingIds()
    lookup = Observation(
        provider="ollama",
        event_type="cost.ai.inference",
        operation_id="chatcmpl-7",
        is_lookup=True,
    )
    made = ids.replace(CALL, "client", None).operation_id

    assert ids.replace(lookup, "lookup", None).operation_id == made
    assert ids.replace(lookup, "lookup", None).operation_id == made


def test_a_constant_id_fills_no_memory() -> None:
    """Some servers give one id to all calls."""
    ids = RepeatingIds()
    made = {ids.replace(CALL, "client", None).operation_id for _ in range(10_000)}

    assert len(made) == 10_000
    (calls,) = ids._calls.values()
    assert len(calls.ids) == 64


def test_spans_of_such_servers_are_told_apart() -> None:
    """The span's own id is unique; the server's is not."""
    traces = TracerProvider()
    with Recorded() as recorded:
        traces.add_span_processor(CostSpanProcessor(recorded.client))
        tracer = traces.get_tracer("test")
        for _ in range(2):
            with tracer.start_as_current_span("chat") as span:
                span.set_attributes(
                    {
                        "gen_ai.operation.name": "chat",
                        "gen_ai.provider.name": "ollama",
                        "gen_ai.system": "ollama",
                        "gen_ai.response.id": "chatcmpl-7",
                        "gen_ai.response.model": "llama3",
                        "gen_ai.usage.input_tokens": 100,
                        "gen_ai.usage.output_tokens": 10,
                    }
                )
        stats = recorded.client.stats()

    assert stats.tracked + stats.unpriced == 2
