"""The time that outlay and four tracers add to one call, in turns, on one transport.

None of the tracers prices a call or keeps an event on disk. outlay does both before the
call returns. The spans of the tracers end in a processor that does nothing.

Each round measures every subject, so that other programs disturb all alike. The least
median of the rounds counts. The number of function calls does not depend on the
machine.

Run it with ``python -m bench.tracers``.
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import logfire
import openai
from openai.resources import embeddings, responses
from openai.resources.chat import completions as chats
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as OpenAIV2
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import outlay
from bench._measure import quantiles, show
from bench.capture import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Subject = Callable[[openai.OpenAI], AbstractContextManager[object]]

ROUNDS: Final = 15
CALLS: Final = 40  # of each subject, in each round
COUNTED: Final = 20  # calls, whose function calls are counted

ASKED: Final[Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Is it?"}],
}
_WRAPPED: Final = (
    chats.Completions,
    chats.AsyncCompletions,
    embeddings.Embeddings,
    embeddings.AsyncEmbeddings,
    responses.Responses,
    responses.AsyncResponses,
)


def main() -> None:
    """Measure and print."""
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with ExitStack() as stack, outlay.attribute(customer_id="cus_1"):
        subjects = _subjects(stack)
        medians: dict[str, list[float]] = {name: [] for name in subjects}
        calls: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, subject in subjects.items():
                # A new one, because logfire leaves a method of its own in a client.
                client = openai.OpenAI(api_key="sk", http_client=http)
                with subject(client):
                    medians[name].append(_median(client))
        for name, subject in subjects.items():
            client = openai.OpenAI(api_key="sk", http_client=http)
            with subject(client):
                calls[name] = _function_calls(client)
    bare = min(medians["bare"])
    show(
        "What is added to one call of openai, µs of processor time "
        "(goal: less than OpenInference, OpenLLMetry and logfire, "
        "at most 1.1 x openai-v2)",
        ("subject", "adds µs", "function calls"),
        [
            (name, f"{min(each) - bare:.0f}", f"{calls[name] - calls['bare']:.0f}")
            for name, each in medians.items()
            if name != "bare"
        ],
    )


def _subjects(stack: ExitStack) -> dict[str, Subject]:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    tracker = stack.enter_context(
        outlay.Client(journal_dir=Path(folder), shipping="none")
    )
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor())
    logfire.configure(
        send_to_logfire=False,
        console=False,
        inspect_arguments=False,
        additional_span_processors=[SpanProcessor()],
    )

    @contextmanager
    def bare(_client: openai.OpenAI) -> Iterator[None]:
        yield

    @contextmanager
    def tracked(client: openai.OpenAI) -> Iterator[None]:
        outlay.instrument(client, client=tracker)
        try:
            yield
        finally:
            outlay.uninstrument(client)

    return {
        "bare": bare,
        "outlay": tracked,
        "openai-v2": lambda _: _instrumented(OpenAIV2(), provider),  # type: ignore[no-untyped-call]
        "OpenInference": lambda _: _instrumented(OpenInference(), provider),
        "OpenLLMetry": lambda _: _instrumented(OpenLLMetry(), provider),
        "logfire": logfire.instrument_openai,
    }


@contextmanager
def _instrumented(instrumentor: Any, provider: TracerProvider) -> Iterator[None]:  # noqa: ANN401 - of several packages
    before = {kind: dict(vars(kind)) for kind in _WRAPPED}
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()
        # OpenLLMetry 0.62 leaves some of them wrapped.
        for kind, names in before.items():
            for name, original in names.items():
                if vars(kind)[name] is not original:
                    setattr(kind, name, original)


def _median(client: openai.OpenAI) -> float:
    clock = time.thread_time_ns
    client.chat.completions.create(**ASKED)  # the first one fills caches
    times = []
    for _ in range(CALLS):
        start = clock()
        client.chat.completions.create(**ASKED)
        times.append(clock() - start)
    return quantiles(times).p50 / 1000


def _function_calls(client: openai.OpenAI) -> float:
    client.chat.completions.create(**ASKED)
    with cProfile.Profile() as profile:
        for _ in range(COUNTED):
            client.chat.completions.create(**ASKED)
    return pstats.Stats(profile).total_calls / COUNTED  # type: ignore[attr-defined,no-any-return]


if __name__ == "__main__":
    main()
