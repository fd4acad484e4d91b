"""The customer of a span comes from Langfuse or Traceloop, if the program says so."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from langfuse import Langfuse, propagate_attributes
from openai import AsyncOpenAI
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from traceloop.sdk import Traceloop

import outlay
from outlay.otel import CostSpanProcessor
from outlay.testing import recording

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from outlay.testing import Costs

_CUSTOMERS: Final = ("cus_1", "cus_2", "cus_3", "cus_4")
_PRICE: Final = "0.0035"  # 1,000 input tokens at 2.5 USD, and 100 output tokens at 10
_USER: Final = "user.id"
_ASSOCIATION: Final = "traceloop.association.properties.customer"

_numbers: Final = itertools.count()


@pytest.fixture
def costs() -> Iterator[Costs]:
    """Return the tracked costs."""
    with recording() as recorded:
        yield recorded
    assert not recorded.unpriced


@pytest.fixture(scope="module")
def traceloop() -> Any:
    """Return the tracer provider of Traceloop. A process starts it once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACELOOP_METRICS_ENABLED", "false")
        Traceloop.init(
            exporter=InMemorySpanExporter(), disable_batch=True, telemetry_enabled=False
        )
    return trace.get_tracer_provider()


@contextmanager
def _langfuse(names: Sequence[str]) -> Iterator[None]:
    """Trace the calls of OpenAI with Langfuse, and track their costs."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(CostSpanProcessor(customer_attributes=names))
    langfuse = Langfuse(
        public_key=f"pk-{next(_numbers)}",  # Langfuse has one client for each key
        secret_key="sk-test",
        tracer_provider=provider,
        span_exporter=InMemorySpanExporter(),
    )
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()
        langfuse.shutdown()
        provider.shutdown()


@contextmanager
def _traceloop(provider: Any, names: Sequence[str]) -> Iterator[None]:
    """Track the costs in the spans of Traceloop."""
    processor = CostSpanProcessor(customer_attributes=names)
    provider.add_span_processor(processor)
    try:
        yield
    finally:
        processor.shutdown()


async def _for_langfuse(number: int, customer: str) -> None:
    with propagate_attributes(user_id=customer):
        await _ask(number)


async def _for_traceloop(number: int, customer: str) -> None:
    Traceloop.set_association_properties({"customer": customer})
    await _ask(number)


@pytest.mark.parametrize(
    ("names", "customers"),
    [([_USER], _CUSTOMERS), ((), ["unattributed"] * 4)],
    ids=["named", "not named"],
)
def test_langfuse(costs: Costs, names: Sequence[str], customers: Sequence[str]) -> None:
    """``propagate_attributes(user_id=...)`` is the customer, if it is named."""
    with _langfuse(names):
        _ask_for_all(_for_langfuse)

    _assert_paid(costs, customers)


@pytest.mark.parametrize(
    ("names", "customers"),
    [([_ASSOCIATION], _CUSTOMERS), ((), ["unattributed"] * 4)],
    ids=["named", "not named"],
)
def test_traceloop(
    costs: Costs, traceloop: Any, names: Sequence[str], customers: Sequence[str]
) -> None:
    """Association properties are the customer, if one of them is named."""
    with _traceloop(traceloop, names):
        _ask_for_all(_for_traceloop)

    _assert_paid(costs, customers)


@pytest.mark.parametrize("prefix", ["cus_", "traceloop_"], ids=["agree", "differ"])
def test_both_around_one_call(costs: Costs, traceloop: Any, prefix: str) -> None:
    """A call costs once, for the customer of the innermost span."""

    async def ask(number: int, customer: str) -> None:
        with propagate_attributes(user_id=customer):
            await _for_traceloop(number, customer.replace("cus_", prefix))

    with _traceloop(traceloop, [_ASSOCIATION]), _langfuse([_USER]):
        _ask_for_all(ask)

    _assert_paid(costs, _CUSTOMERS)


def test_beside_an_instrumented_client(costs: Costs, traceloop: Any) -> None:
    """The client counts its call, for the customer of the code around it."""

    async def ask(number: int, customer: str) -> None:
        with outlay.attribute(customer_id=customer):
            await _for_traceloop(number, "cus_of_the_span")

    outlay.instrument("openai")
    try:
        with _traceloop(traceloop, [_ASSOCIATION]):
            _ask_for_all(ask)
    finally:
        outlay.uninstrument()

    _assert_paid(costs, _CUSTOMERS)


def _ask_for_all(ask: Callable[[int, str], Awaitable[None]]) -> None:
    """Call ``ask`` for each customer in a task of its own. All tasks overlap."""

    async def run() -> None:
        await asyncio.gather(
            *(ask(number, customer) for number, customer in enumerate(_CUSTOMERS))
        )

    asyncio.run(run())


async def _ask(number: int) -> None:
    await asyncio.sleep(0)  # the tasks of all customers take turns
    async with _client() as client:
        await client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "hello"}],
            extra_headers={"x-number": str(number)},
        )


def _client() -> AsyncOpenAI:
    """Return OpenAI's client, whose network is replaced."""

    def respond(request: httpx2.Request) -> httpx2.Response:
        message = {"role": "assistant", "content": "hello"}
        document = {
            "id": f"chatcmpl-{request.headers['x-number']}",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {
                "prompt_tokens": 1000,
                "completion_tokens": 100,
                "total_tokens": 1100,
            },
        }
        return httpx2.Response(200, json=document)

    transport = httpx2.MockTransport(respond)
    return AsyncOpenAI(
        api_key="sk-test", http_client=httpx2.AsyncClient(transport=transport)
    )


def _assert_paid(costs: Costs, customers: Sequence[str]) -> None:
    """Assert that each customer paid once for each call."""
    found = sorted((event.subject, str(event.data["amount"])) for event in costs.events)
    assert found == sorted((customer, _PRICE) for customer in customers)
