"""Operations and tracked functions around calls of the real provider packages."""

from __future__ import annotations

import asyncio
import functools
import itertools
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import groq.types.chat
import httpx
import httpx2
import openai
import pytest
from anthropic.types import Message
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

import outlay
from outlay._capture.operations.returned_responses import observations_in
from outlay._model.error_counts import capture_errors
from outlay.testing import recording
from tests.capture.test_openai_chat import (
    ASKED,
    COMPLETION,
    ID,
    USAGE,
    async_client,
    client,
)
from tests.support.responses import recorded
from tests.support.stainless import answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from outlay.testing import Costs

PRICE: Final = Decimal("0.00325")  # of COMPLETION
IMAGES: Final = {"created": 1, "data": [{"url": "https://images.test/1"}]}


@pytest.fixture
def costs() -> Iterator[Costs]:
    """Return what the default client tracks; nothing stays instrumented."""
    before = capture_errors.snapshot()
    with recording() as recorded_costs:
        yield recorded_costs
    outlay.uninstrument()
    assert before == capture_errors.snapshot()


def answering(*answers: httpx2.Response) -> Callable[[httpx2.Request], httpx2.Response]:
    """Return what answers one request after the other."""
    left = iter(answers)
    return lambda _: next(left)


# Retries inside of a provider's library.


def test_a_retry_inside_of_the_library_is_one_event(costs: Costs) -> None:
    """An attempt that ended in an error is not charged; its request id was another."""
    failed = httpx2.Response(
        500, headers={"x-request-id": "req_1", "retry-after-ms": "1"}
    )
    done = answer(COMPLETION, **{"x-request-id": "req_2"})
    chat = outlay.instrument(client(answering(failed, done), max_retries=2))

    with outlay.operation(operation_id="job", customer_id="cus_1"):
        chat.chat.completions.create(**ASKED)

    (event,) = costs.events
    assert event.data["operationId"] == ID
    assert event.data["amount"] == PRICE


def test_a_retry_of_a_call_without_an_id_is_one_event_by_its_request(
    costs: Costs,
) -> None:
    """The request that was answered."""
    failed = httpx2.Response(
        503, headers={"x-request-id": "req_1", "retry-after-ms": "1"}
    )
    done = answer(IMAGES, **{"x-request-id": "req_2"})
    images = outlay.instrument(client(answering(failed, done), max_retries=2))

    with outlay.operation(operation_id="job"):
        images.images.generate(prompt="a cat", model="dall-e-3")

    assert costs.client.stats().unpriced == 1
    assert costs.client.stats().random_keys == 0


def test_two_answers_that_were_charged_are_two_events(costs: Costs) -> None:
    """Two request ids are two bills, also in a re-run; the same one twice is one."""
    ids = ("req_1", "req_2", "req_2")
    reported = {**COMPLETION, "id": None, "usage": {"cost": 0.25}}
    answers = [answer(reported, **{"x-request-id": each}) for each in ids]
    chat = outlay.instrument(
        client(answering(*answers), base_url="https://openrouter.ai/api/v1")
    )

    for _ in ids:
        with outlay.operation(operation_id="job", customer_id="cus_1"):
            chat.chat.completions.create(**ASKED)

    assert [event.data["operationId"] for event in costs.events] == ["req_1", "req_2"]
    costs.assert_total("0.5")


# Calls without any id.


@outlay.extractors.extractor("acme-geo", "GET /v1/geocode", host="geo.acme.test")
def geocode(
    _answer: Any, _call: outlay.extractors.Call
) -> outlay.extractors.Observation:
    """Say that each costs the same."""
    return outlay.extractors.Observation(
        provider="acme-geo", event_type="cost.geocoding", amount=Decimal("0.005")
    )


def test_captured_calls_without_an_id_are_named_by_their_operation(
    costs: Costs,
) -> None:
    """A job that is run again looks up the same two addresses."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    http = outlay.instrument(
        httpx.Client(transport=transport, base_url="https://geo.acme.test")
    )

    for _ in range(2):
        with outlay.operation(operation_id="job-42", customer_id="cus_1"):
            for _ in range(2):
                http.get("/v1/geocode")

    costs.assert_total("0.01", customer="cus_1")
    names = [event.data["operationId"] for event in costs.events]
    assert [name.startswith("job-42/") for name in names] == [True, True]


# Functions around captured calls.


@pytest.mark.parametrize(
    "terms",
    [
        pytest.param({}, id="no amount"),
        pytest.param({"provider": "openai"}, id="provider"),
        pytest.param({"amount": 9, "provider": "openai"}, id="amount"),
        pytest.param({"extract": observations_in, "provider": "openai"}, id="extract"),
    ],
)
@pytest.mark.parametrize("instrumented", [True, False], ids=["captured", "alone"])
def test_a_function_around_a_call_counts_it_once(
    costs: Costs,
    terms: dict[str, Any],
    *,
    instrumented: bool,
) -> None:
    """By the library's hook where there is one, else by what the function returned."""
    if "extract" in terms:
        terms = {**terms, "extract": lambda result: observations_in(result, None)}
    chat = client()
    if instrumented:
        outlay.instrument(chat)

    @outlay.track_call("cost.ai.inference", **terms, customer_id="who")
    def ask(who: str) -> object:
        del who
        return chat.chat.completions.create(**ASKED)

    assert isinstance(ask("cus_1"), ChatCompletion)

    alone = terms.get("amount", PRICE)
    costs.assert_total(PRICE if instrumented else alone, customer="cus_1")
    assert len(costs.events) == 1


def test_the_id_of_an_argument_goes_before_the_provider_s(costs: Costs) -> None:
    """A job that asks again for the same thing then counts once."""
    chat = client()

    @outlay.track_call("cost.summaries", operation_id="job")
    def ask(job: str) -> object:
        return chat.with_options(default_headers={"x-job": job}).chat.completions.parse(
            **ASKED
        )

    ask("job-7")

    (event,) = costs.events
    assert (event.type, event.data["operationId"]) == ("cost.summaries", "job-7")
    assert event.data["model"] == COMPLETION["model"]


def built(model: Any, body: Any) -> Callable[[], Any]:
    """Return what makes an answer as the library does."""
    return functools.partial(model.construct, **body)


ROWS: Final = {row.name: row for row in recorded()}
MODELS: Final[dict[str, Any]] = {
    "openai-chat-gpt-4o-2024-08-06": ChatCompletion,
    "openai-responses-gpt-4o-2024-08-06": Response,
    "openai-embeddings-text-embedding-3-small": CreateEmbeddingResponse,
    "anthropic-sonnet-4-5": Message,
    "groq-llama-3.1-8b-instant": groq.types.chat.ChatCompletion,
}


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_that_a_function_returns_tells_its_cost(
    costs: Costs, name: str
) -> None:
    """Of each library that tells it in the answer alone."""
    row = ROWS[name]

    @outlay.track_call("cost.ai.inference")
    def ask() -> object:
        return built(MODELS[name], row.response)()

    ask()

    costs.assert_total(row.expected["amount"])
    (event,) = costs.events
    assert event.data.get("operationId") == row.response.get("id")
    assert event.data["provider"] == name.partition("-")[0]


def test_an_answer_without_an_id_has_that_of_its_request(costs: Costs) -> None:
    """Which the package leaves on it."""
    vectors = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
    }
    plain = client(answering(answer(vectors, **{"x-request-id": "req_7"})))

    @outlay.track_call("cost.ai.embeddings")
    def embed(text: str) -> object:
        return plain.embeddings.create(
            input=text, model="text-embedding-3-small", encoding_format="float"
        )

    embed("words")

    assert [event.data["operationId"] for event in costs.events] == ["req_7"]


def test_an_answer_is_read_as_its_provider_s(costs: Costs) -> None:
    """Who reports the amount is asked for it, whosever package was used."""
    body = {**COMPLETION, "usage": {**USAGE, "cost": 0.25}}

    @outlay.track_call("cost.ai.inference", provider="openrouter")
    def ask() -> object:
        return built(ChatCompletion, body)()

    ask()

    (event,) = costs.events
    assert (event.data["provenance"], event.data["amount"]) == ("reported", 0.25)


@pytest.mark.parametrize(
    "nothing",
    [None, "text", 7, openai, object()],
    ids=["none", "text", "number", "module", "object"],
)
def test_what_is_no_answer_tells_nothing(nothing: object) -> None:
    """Whatever a function returns."""
    assert observations_in(nothing, None) is None


def test_the_provider_of_an_answer_is_whom_the_decorator_names(costs: Costs) -> None:
    """An answer does not tell which address it came from."""

    @outlay.track_call("cost.ai.inference", provider="azure")
    def ask() -> object:
        return ChatCompletion.model_validate(COMPLETION)

    ask()

    assert [event.data["provider"] for event in costs.events] == ["azure"]


# Functions around streams.


def streaming(chat: openai.OpenAI) -> Callable[[], Generator[str | None]]:
    """Return a tracked generator function that passes a stream on."""

    @outlay.track_call("cost.chat", amount=9, provider="openai")
    def words() -> Generator[str | None]:
        with chat.chat.completions.create(stream=True, **ASKED) as stream:
            for part in stream:
                yield part.choices[0].delta.content if part.choices else None

    return words


def test_a_generator_around_a_stream_counts_it_once(costs: Costs) -> None:
    """The stream ends inside of the generator's body."""
    words = streaming(outlay.instrument(client()))

    assert len([*words()]) == 4

    costs.assert_total(PRICE)


def test_a_generator_that_is_closed_early_leaves_the_stream_unpriced(
    costs: Costs,
) -> None:
    """What the stream cost is not known, and no guess is put beside it."""
    stream = streaming(outlay.instrument(client()))()
    next(stream)
    stream.close()

    costs.assert_total(0)
    assert costs.client.stats().unpriced == 1


def test_an_asynchronous_generator_around_a_stream_counts_it_once(costs: Costs) -> None:
    """Alike."""
    chat = outlay.instrument(async_client())

    @outlay.track_call("cost.chat", amount=9, provider="openai")
    async def words() -> AsyncGenerator[object]:
        stream = await chat.chat.completions.create(stream=True, **ASKED)
        async for part in stream:
            yield part

    async def main() -> int:
        return len([part async for part in words()])

    assert asyncio.run(main()) == 4

    costs.assert_total(PRICE)


def test_many_tasks_of_one_operation_count_each_call_once(costs: Costs) -> None:
    """Each tracked, each captured, all at once, for the customer of each."""
    chat = outlay.instrument(async_client(answer_with_new_ids()))

    @outlay.track_call("cost.chat", provider="openai", customer_id="who")
    async def ask(who: str) -> object:
        await asyncio.sleep(0)
        answered = await chat.chat.completions.create(**ASKED, user=who)
        return answered.usage

    async def main() -> None:
        async with outlay.operation(operation_id="job"):
            await asyncio.gather(*(ask(f"cus_{n % 3}") for n in range(30)))

    asyncio.run(main())

    costs.assert_total(30 * PRICE)
    costs.assert_total(10 * PRICE, customer="cus_1")


def answer_with_new_ids() -> Callable[[httpx2.Request], httpx2.Response]:
    """Return what gives every answer an id of its own."""
    numbers = itertools.count()
    return lambda _: answer({**COMPLETION, "id": f"chatcmpl-{next(numbers)}"})
