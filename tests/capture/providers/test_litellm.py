"""LiteLLM, by its callback: each call once, whatever else observes it.

LiteLLM calls back on threads of its own; here, a callback after ours tells when.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import time
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx2
import openai
import pytest

import outlay
from outlay._capture.extraction.registry import Call
from outlay._capture.instrumentation.library import CaptureOptions
from outlay._capture.providers.litellm import (
    LIBRARY,
    _Callbacks,
    _provider,
    _reported_fields,
    observe,
)
from outlay.testing import recording
from tests.capture.spans.fakes import PROMPT, REPLY, answer
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from tests.capture.providers.conftest import Capture

# It imports parts of itself when they are needed, and pydantic frowns on these.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

MESSAGES: Final = [{"role": "user", "content": PROMPT}]
DEADLINE: Final = 20.0  # seconds


@pytest.fixture(scope="module")
def litellm() -> ModuleType:
    """Return the package, which takes long to import, and must not ask for prices."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies' deprecations are not ours
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm  # noqa: PLC0415 - see above

    return litellm


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """Have an event loop: LiteLLM would make one, and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


class Told:
    """Waits for LiteLLM's callbacks."""

    def __init__(self) -> None:
        self._calls: queue.Queue[str] = queue.Queue()
        self.tell = self._calls.put

    def wait(self) -> str:
        """Return the type of the call that LiteLLM told of, once it has."""
        return self._calls.get(timeout=DEADLINE)


@pytest.fixture
def told(litellm: ModuleType) -> Iterator[Callable[[], Told]]:
    """Return what makes a callback that comes after those that there are."""
    made: list[Any] = []

    def make() -> Told:
        told = Told()

        class Logger(litellm.integrations.custom_logger.CustomLogger):  # type: ignore[misc,name-defined]
            def log_success_event(
                self,
                kwargs: Any,
                response_obj: Any,
                start_time: Any,
                end_time: Any,
            ) -> None:
                del response_obj, start_time, end_time
                told.tell(kwargs["call_type"])

            async def async_log_success_event(
                self,
                kwargs: Any,
                response_obj: Any,
                start_time: Any,
                end_time: Any,
            ) -> None:
                self.log_success_event(kwargs, response_obj, start_time, end_time)

        made.append(Logger())
        litellm.callbacks.append(made[-1])
        return told

    yield make
    for each in vars(litellm).values():
        if isinstance(each, list):
            each[:] = [one for one in each if one not in made]


def client() -> openai.OpenAI:
    """Return a client of openai for LiteLLM to use."""
    return openai.OpenAI(
        api_key="sk-test",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


def async_client() -> openai.AsyncOpenAI:
    """Return its asynchronous twin."""
    return openai.AsyncOpenAI(
        api_key="sk-test",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)),
    )


def complete(litellm: Any, told: Told, **more: Any) -> None:
    """Ask."""
    litellm.completion(model="gpt-4o", messages=MESSAGES, client=client(), **more)
    told.wait()


def stream(litellm: Any, told: Told) -> None:
    """Ask for an answer in parts."""
    parts = litellm.completion(
        model="gpt-4o", messages=MESSAGES, client=client(), stream=True
    )
    reader = threading.Thread(target=list, args=(parts,))
    reader.start()
    reader.join()
    told.wait()


def embed(litellm: Any, told: Told) -> None:
    """Ask for embeddings."""
    litellm.embedding(model="text-embedding-3-small", input=[PROMPT], client=client())
    told.wait()


def complete_async(litellm: Any, told: Told) -> None:
    """Ask in asynchronous code."""

    async def ask() -> None:
        await litellm.acompletion(
            model="gpt-4o", messages=MESSAGES, client=async_client()
        )
        await asyncio.to_thread(told.wait)

    asyncio.run(ask())


def stream_async(litellm: Any, told: Told) -> None:
    """Ask for an answer in parts, in asynchronous code."""

    async def ask() -> None:
        parts = await litellm.acompletion(
            model="gpt-4o", messages=MESSAGES, client=async_client(), stream=True
        )
        async for _ in parts:
            pass
        await asyncio.to_thread(told.wait)

    asyncio.run(ask())


WAYS: Final = [complete, stream, complete_async, stream_async]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_call_is_observed_once(
    way: Callable[[Any, Told], None],
    litellm: Any,
    told: Callable[[], Told],
    capture: Capture,
) -> None:
    """By the model that answered, in units of price lists, with LiteLLM's amount."""
    with capture(LIBRARY) as seen:
        way(litellm, told())

    [one] = seen
    assert (one.provider, one.event_type) == ("openai", "cost.ai.inference")
    assert (one.operation_id or "").startswith("chatcmpl-")
    assert one.model == "gpt-4o-2024-08-06"
    assert one.usage == {
        "input_tokens": 1000,
        "cache_read_tokens": 200,
        "output_tokens": 100,
    }
    assert one.amount is not None
    assert abs(one.amount - Decimal("0.00325")) < Decimal("1e-15")
    assert (one.provenance, one.is_complete) == ("priced", True)


def test_embeddings_are_observed(
    litellm: Any, told: Callable[[], Told], capture: Capture
) -> None:
    """Without an id of the provider's, by LiteLLM's own."""
    with capture(LIBRARY) as seen:
        embed(litellm, told())

    [one] = seen
    assert (one.event_type, one.usage) == ("cost.ai.embeddings", {"input_tokens": 8})
    assert one.operation_id


@pytest.fixture
def tracked() -> Iterator[Recorded]:
    """Return a client that tells what it tracked; afterwards nothing is captured."""
    with Recorded() as recorded:
        yield recorded
        outlay.uninstrument()


BOTH: Final = [("litellm", "openai"), ("openai", "litellm")]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("names", BOTH, ids="+".join)
def test_a_call_that_the_library_below_tells_of_too_is_counted_once(
    names: tuple[str, str],
    way: Callable[[Any, Told], None],
    litellm: Any,
    told: Callable[[], Told],
    tracked: Recorded,
) -> None:
    """In whatever order they were instrumented."""
    for name in names:
        outlay.instrument(name, client=tracked.client)
    with outlay.attribute(customer_id="cus_7"):
        way(litellm, told())

    event = tracked.only()
    assert (event.subject, event.type) == ("cus_7", "cost.ai.inference")
    assert event.data["amount"] == Decimal("0.00325")


@pytest.mark.parametrize("way", [*WAYS, embed], ids=lambda way: way.__name__)
def test_both_doors_give_a_call_the_same_name(
    way: Callable[[Any, Told], None],
    litellm: Any,
    told: Callable[[], Told],
    capture: Capture,
) -> None:
    """So that their keys are one wherever they meet."""
    from outlay._capture.providers import library  # noqa: PLC0415 - beside its use

    with capture(LIBRARY) as theirs, capture(library("openai")) as below:
        way(litellm, told())

    names = [
        (one.provider, one.event_type, one.operation_id or one.request_id, one.line)
        for one in (*theirs, *below)
    ]
    assert len(names) == 2
    if way is not embed:  # whose answer has no id, and here no request has one
        assert names[0] == names[1]


def test_the_cost_belongs_to_whoever_asked(
    litellm: Any, told: Callable[[], Told], tracked: Recorded
) -> None:
    """Whichever thread reads the stream, and calls back."""
    outlay.instrument("litellm", client=tracked.client)
    with outlay.attribute(customer_id="cus_7"):
        stream(litellm, told())

    assert tracked.only().subject == "cus_7"


def test_a_public_list_goes_before_litellms(
    litellm: Any, told: Callable[[], Told], tracked: Recorded
) -> None:
    """It is exact, and dated."""
    outlay.instrument("litellm", client=tracked.client)
    complete(litellm, told())

    event = tracked.only()
    assert event.data["amount"] == Decimal("0.00325")
    assert event.data["price"]["list"] == "genai-prices"


def test_prices_that_litellm_was_told_hold(
    litellm: Any, told: Callable[[], Told], tracked: Recorded
) -> None:
    """No public list knows of them; the event says who priced it."""
    outlay.instrument("litellm", client=tracked.client)
    complete(litellm, told(), input_cost_per_token=0.001, output_cost_per_token=0.002)

    data = tracked.only().data
    assert data["amount"] == Decimal("1.00025")
    assert data["provenance"] == "priced"
    assert data["price"]["list"] == "litellm"
    assert data["price"]["version"].startswith("1.")


@pytest.mark.parametrize(
    ("parameters", "amount"),
    [({}, None), ({"input_cost_per_token": 0.0}, Decimal("0.0"))],
    ids=["not known", "free"],
)
def test_zero_is_an_amount_only_if_the_user_told_the_price(
    parameters: dict[str, Any], amount: Decimal | None
) -> None:
    """LiteLLM says it of models that it has no price of, too."""
    kwargs = {
        "response_cost": 0.0,
        "litellm_params": parameters,
        "litellm_call_id": "1",
    }

    assert _reported_fields(kwargs, object()).get("amount") == amount


def test_a_call_that_is_told_of_twice_is_settled_once(capture: Capture) -> None:
    """Where a program has both of LiteLLM's ways to call back."""
    callbacks = _Callbacks(LIBRARY.scope)
    kwargs = {"litellm_call_id": "1", "call_type": "completion"}
    with capture(LIBRARY) as seen:
        callbacks.on_start(kwargs)
        for _ in range(2):
            callbacks.on_success(kwargs, object())

    assert len(seen) == 1


def collect_until(done: Callable[[], object]) -> None:
    """Collect garbage: LiteLLM's threads hold a stream for some more moments.

    A collection holds the interpreter's lock. Between two of them, the threads go on.
    """
    deadline = time.monotonic() + 3 * DEADLINE
    while not done() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)  # noqa: TID251 - the end of a reference is no event


@pytest.mark.parametrize("parts", [0, 1], ids=["unread", "begun"])
def test_a_stream_that_is_left_has_no_price(
    parts: int, litellm: Any, capture: Capture
) -> None:
    """LiteLLM runs no callback for it. The cost is visible, and never zero."""
    with capture(LIBRARY) as seen:
        stream = litellm.completion(
            model="gpt-4o", messages=MESSAGES, client=client(), stream=True
        )
        for _ in range(parts):
            next(stream)
        del stream
        collect_until(lambda: seen)

    [one] = seen
    assert (one.provider, one.model, one.is_complete) == ("openai", "gpt-4o", False)
    assert one.operation_id is not None
    assert PROMPT not in repr(one)


def test_a_stream_that_is_left_in_asynchronous_code_has_no_price(
    litellm: Any, capture: Capture
) -> None:
    """As in other code."""

    async def ask() -> None:
        stream = await litellm.acompletion(
            model="gpt-4o", messages=MESSAGES, client=async_client(), stream=True
        )
        async for _ in stream:
            break
        await stream.aclose()

    with capture(LIBRARY) as seen:
        asyncio.run(ask())
        collect_until(lambda: seen)

    assert [one.is_complete for one in seen] == [False]


HELPERS: Final[dict[str, dict[str, Any]]] = {
    "batch_completion": {"model": "gpt-4o", "messages": [MESSAGES] * 2},
    "batch_completion_models": {"models": ["gpt-4o"] * 2, "messages": MESSAGES},
    "batch_completion_models_all_responses": {
        "models": ["gpt-4o"] * 2,
        "messages": MESSAGES,
    },
}


@pytest.mark.parametrize("name", HELPERS)
def test_helpers_with_threads_keep_the_customer(
    name: str, litellm: Any, told: Callable[[], Told]
) -> None:
    """Their pools begin with empty contexts."""
    with recording() as costs, outlay.attribute(customer_id="cus_7"):
        outlay.instrument("litellm")
        waiting = told()
        getattr(litellm, name)(client=client(), **HELPERS[name])
        waiting.wait()
        waiting.wait()
        outlay.uninstrument("litellm")

    assert {
        each.data.get("externalCustomerId") or each.subject for each in costs.events
    } == {"cus_7"}
    assert costs.events


def test_a_failure_costs_nothing(
    litellm: Any, told: Callable[[], Told], capture: Capture
) -> None:
    """The call after it does."""
    refusing = httpx2.MockTransport(lambda _: httpx2.Response(400, json={}))
    other = openai.OpenAI(
        api_key="sk-test", http_client=httpx2.Client(transport=refusing)
    )
    with capture(LIBRARY) as seen:
        waiting = told()
        with pytest.raises(litellm.BadRequestError):
            litellm.completion(model="gpt-4o", messages=MESSAGES, client=other)
        complete(litellm, waiting)

    assert len(seen) == 1


def test_a_hit_of_litellms_own_cache_costs_nothing() -> None:
    """No provider was asked. The package itself hits only with its proxy installed."""
    call = Call(provider="openai", path="completion")
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    facts = {"id": "chatcmpl-1", "usage": usage, "adjusted": False}

    assert observe({**facts, "cache_hit": True}, call) is None
    assert observe({**facts, "cache_hit": False}, call) is not None


def test_usage_that_is_not_all_known_is_litellms_to_price() -> None:
    """A list would price the rest as nothing."""
    call = Call(provider="google", path="acompletion")
    details = {"web_search_requests": 2}
    usage = {"prompt_tokens": 10, "prompt_tokens_details": details}
    facts = {"id": "1", "usage": usage, "adjusted": False, "amount": Decimal("0.07")}

    one = observe(facts, call)
    assert one is not None
    assert (one.usage, one.amount, one.is_complete) == ({}, Decimal("0.07"), True)


@pytest.mark.parametrize("kind", ["file_content", "aretrieve_batch", "amoderation"])
def test_calls_of_no_cost_of_their_own_are_passed_over(kind: str) -> None:
    """Files, batches and moderations."""
    assert observe({"adjusted": False}, Call(provider="openai", path=kind)) is None


@pytest.mark.parametrize(
    ("name", "address", "provider"),
    [
        ("openai", "https://api.openai.com/v1/", "openai"),
        ("openai", None, "openai"),
        ("openai", "http://127.0.0.1:8000/v1", "unknown"),
        ("openai", "https://api.x.ai/v1", "x-ai"),
        ("azure", "https://us.openai.azure.com", "azure"),
        ("azure", "https://gateway.example", "azure"),
        ("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", "aws"),
        ("vertex_ai", None, "google"),
        ("together_ai", None, "together"),
        ("anthropic", "https://api.anthropic.com", "anthropic"),
        ("some_new_one", None, "some_new_one"),
        (None, None, "unknown"),
    ],
)
def test_a_provider_has_its_canonical_name(
    name: str | None, address: str | None, provider: str
) -> None:
    """The same that other doors give it."""
    kwargs = {"custom_llm_provider": name, "litellm_params": {"api_base": address}}

    assert _provider(kwargs) == provider


def lists_of(litellm: ModuleType) -> dict[str, list[Any]]:
    """Return all lists of callbacks."""
    return {
        name: list(value)
        for name, value in vars(litellm).items()
        if isinstance(value, list) and "callback" in name
    }


def test_it_leaves_no_trace(litellm: Any, told: Callable[[], Told]) -> None:
    """Instrumented twice, it is told once; and uninstrumented, no more."""
    waiting = told()
    complete(litellm, waiting)  # so that LiteLLM has filled its lists
    before = lists_of(litellm)
    seen: queue.Queue[outlay.extractors.Observation] = queue.Queue()

    for _ in range(2):
        LIBRARY.instrument_all(CaptureOptions(record=seen.put))
    complete(litellm, waiting)
    seen.get(timeout=DEADLINE)
    LIBRARY.uninstrument()
    complete(litellm, waiting)

    after = lists_of(litellm)
    assert seen.empty()
    assert after == before
    assert "OutlayLogger" not in repr(after)


@pytest.mark.parametrize("name", ["callbacks", "success_callback"])
def test_it_stays_when_a_program_puts_in_a_list_of_its_own(
    name: str, litellm: Any, told: Callable[[], Told], capture: Capture
) -> None:
    """Which is how LiteLLM's documentation has it."""
    before = getattr(litellm, name)
    with capture(LIBRARY) as seen:
        setattr(litellm, name, [])
        try:
            complete(litellm, told())
        finally:
            setattr(litellm, name, before)

    assert len(seen) == 1


def test_a_router_is_refused(litellm: Any) -> None:
    """Its calls are LiteLLM's, which are all captured or none."""
    with pytest.raises(outlay.ConfigError, match=r'instrument\("litellm"\)'):
        outlay.instrument(object.__new__(litellm.Router))


def test_nothing_that_was_said_is_observed(
    litellm: Any, told: Callable[[], Told], capture: Capture
) -> None:
    """Though LiteLLM hands over all of it."""
    waiting = told()
    with capture(LIBRARY) as seen:
        for way in (*WAYS, embed):
            way(litellm, waiting)

    assert len(seen) == 5
    assert PROMPT not in repr(seen)
    assert REPLY not in repr(seen)
