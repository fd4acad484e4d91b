"""Clients of openai's package: of all kinds, made at all times, for anybody's API."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import groq
import httpx
import httpx2
import openai
import pytest
import together
from openai.providers import bedrock

import outlay
from tests.capture.test_openai_chat import (
    ASKED,
    COMPLETION,
    ID,
    USAGE,
    chatting,
    chunk,
    client,
    create,
    streaming,
)
from tests.support.observing import observing
from tests.support.recorded import Recorded
from tests.support.stainless import Events, answer, streamed

if TYPE_CHECKING:
    from collections.abc import Callable

AZURE: Final = "https://acme.openai.azure.com"


def http(
    respond: Callable[[httpx2.Request], httpx2.Response] = chatting,
) -> httpx2.Client:
    """Return what carries requests to ``respond``."""
    return httpx2.Client(transport=httpx2.MockTransport(respond))


def azure(**more: Any) -> openai.AzureOpenAI:
    """Return a client of a resource at Azure."""
    return openai.AzureOpenAI(
        api_key="k",
        azure_endpoint=AZURE,
        api_version="2025-04-01-preview",
        http_client=http(),
        **more,
    )


class Ours(openai.OpenAI):
    """A subclass, as applications have them."""

    def ask(self) -> object:
        """Ask."""
        return create(self)


class Renamed(Ours):
    """A subclass of a subclass that overrides what is hooked."""

    asked = 0

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Count, and go on."""
        self.asked += 1
        return super().request(*args, **kwargs)


def made(kind: type[Any]) -> Any:
    """Return a client of that class."""
    return kind(api_key="sk-test", http_client=http())


@pytest.mark.parametrize("kind", [openai.OpenAI, Ours, Renamed])
def test_clients_made_before_and_after_are_captured(kind: type[Any]) -> None:
    """Subclasses, too; once for each call, however many classes it passes through."""
    before = made(kind)

    with observing("openai") as seen:
        create(before)
        create(made(kind))
        create(before.with_options(max_retries=0))
    create(before)

    assert [one.operation_id for one in seen] == [ID] * 3


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(lambda chat: chat.copy(), id="copy"),
        pytest.param(lambda chat: chat.with_options(timeout=1), id="with_options"),
        pytest.param(lambda chat: chat.copy().with_options().copy(), id="of a copy"),
    ],
)
@pytest.mark.parametrize("kind", [openai.OpenAI, Ours, Renamed])
def test_copies_of_a_captured_client_are_captured_and_others_are_not(
    kind: type[Any], copied: Callable[[Any], Any]
) -> None:
    """A copy that was made before is another client."""
    chat = made(kind)
    earlier = copied(chat)

    with observing(chat) as seen:
        create(copied(chat))
        create(earlier)
        create(made(kind))

    assert [one.operation_id for one in seen] == [ID]


def test_a_client_does_not_pickle_and_an_answer_does_as_ever() -> None:
    """Whatever is hooked, their state is theirs."""
    chat = client()
    shallow = copy.copy(chat)

    with observing(chat) as seen:
        for state in (chat, shallow):
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(state)
        completion = chat.chat.completions.create(**ASKED)
        again = pickle.loads(pickle.dumps(completion))  # noqa: S301 - our own

    assert completion == again
    assert len(seen) == 1


def test_a_captured_clients_options_are_the_latest() -> None:
    """Instrumenting again changes how, not how often."""
    chat = client()

    with Recorded() as tracked, observing(chat) as seen:
        outlay.instrument(chat, client=tracked.client, event_type="cost.ours")
        create(chat)
        assert tracked.only().type == "cost.ours"

    assert seen == []


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(create, id="chat"),
        pytest.param(streaming, id="stream"),
        pytest.param(
            lambda chat: chat.with_options(timeout=2).chat.completions.create(**ASKED),
            id="with_options",
        ),
    ],
)
def test_azure_charges_for_its_deployments(ask: Callable[[Any], object]) -> None:
    """The answer names the model; the address, who charges."""
    chat = azure()

    with observing(chat) as seen:
        ask(chat)

    assert [(one.provider, one.model, one.usage) for one in seen] == [
        ("azure", "gpt-4o-2024-08-06", USAGE)
    ]


def test_a_deployment_is_priced_as_the_model_that_it_is_said_to_be() -> None:
    """By the name it was called by, or the one that the answer gives."""
    body = {**COMPLETION, "model": "our-deployment"}
    amounts = []
    for models in ({"gpt-4o": "gpt-4o-mini"}, {"our-deployment": "gpt-4o"}, {}):
        chat = openai.AzureOpenAI(
            api_key="k",
            azure_endpoint=AZURE,
            azure_deployment="ours",
            api_version="2025-04-01-preview",
            http_client=http(lambda _: answer(body)),
        )
        with Recorded() as tracked:
            outlay.instrument(chat, client=tracked.client, models=models)
            try:
                create(chat)
            finally:
                outlay.uninstrument(chat)
            amounts.append(
                [Decimal(event.data["amount"]) for event in tracked.events()]
            )

    # Of 1000 tokens, 200 are cached, and 100 come out; the last waits for a price.
    assert amounts == [[Decimal("0.000195")], [Decimal("0.00325")], []]


@pytest.mark.parametrize(
    ("address", "provider", "flavor"),
    [
        ("https://api.openai.com/v1", "openai", "chat"),
        ("https://eu.api.openai.com/v1", "openai", "chat"),
        ("https://acme.openai.azure.com/openai/v1", "azure", "chat"),
        ("https://api.mistral.ai/v1", "mistral", "default"),
        ("https://api.groq.com/openai/v1", "groq", "default"),
        ("https://api.together.xyz/v1", "together", None),
        ("https://api.fireworks.ai/inference/v1", "fireworks", "chat"),
        ("https://openrouter.ai/api/v1", "openrouter", "chat"),
        ("https://api.perplexity.ai", "perplexity", "default"),
        ("https://api.deepseek.com", "deepseek", "chat"),
        ("https://api.cerebras.ai/v1", "cerebras", "chat"),
        ("https://api.x.ai/v1", "x-ai", "chat"),
        ("https://api.moonshot.ai/v1", "moonshotai", "chat"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/",
            "google",
            "chat",
        ),
        ("https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1", "aws", None),
        ("https://bedrock-runtime.us-gov-west-1.amazonaws.com/openai/v1", "aws", None),
        ("https://bedrock-runtime.us-gov-west-1.api.aws/openai/v1", "aws", None),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn/openai/v1", "aws", None),
        ("https://bedrock-runtime.eusc-de-east-1.amazonaws.eu/openai/v1", "aws", None),
        ("http://localhost:8000/v1", "unknown", "chat"),
    ],
)
def test_the_address_tells_who_charges_and_how_the_usage_is_read(
    address: str, provider: str, flavor: str | None
) -> None:
    """Through one package, many providers."""
    chat = client(base_url=address)

    with observing(chat) as seen:
        create(chat)

    assert [(one.provider, one.flavor) for one in seen] == [(provider, flavor)]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda: openai.OpenAI(
                provider=bedrock(region="us-east-1", api_key="k"), http_client=http()
            ),
            id="provider",
        ),
        pytest.param(
            lambda: openai.BedrockOpenAI(
                aws_region="us-east-1", api_key="k", http_client=http()
            ),
            id="class",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*BedrockOpenAI.*:DeprecationWarning")
def test_models_at_amazon_are_charged_by_amazon(make: Callable[[], Any]) -> None:
    """However the client was told that they are there."""
    chat = make()

    with observing(chat) as seen:
        create(chat)

    assert [(one.provider, one.usage["input_tokens"]) for one in seen] == [
        ("aws", 1000)
    ]


REPORTED: Final = {
    "openrouter": {
        "address": "https://openrouter.ai/api/v1",
        "usage": {**USAGE, "cost": 0.00014645, "is_byok": False},
        "amount": "0.00014645",
    },
    "perplexity": {
        "address": "https://api.perplexity.ai",
        "usage": {**USAGE, "cost": {"total_cost": 0.0061, "request_cost": 0.005}},
        "amount": "0.0061",
    },
}


@pytest.mark.parametrize("provider", REPORTED)
@pytest.mark.parametrize("way", ["whole", "stream"])
def test_what_the_provider_says_it_charged_is_what_is_tracked(
    provider: str, way: str
) -> None:
    """To the last digit, also where the last chunk of a stream says it."""
    told: Any = REPORTED[provider]
    body = {**COMPLETION, "usage": told["usage"]}
    parts = [chunk("a"), chunk(usage=told["usage"])]
    chat = client(
        lambda _: answer(body) if way == "whole" else streamed(Events(parts)),
        base_url=told["address"],
    )

    with Recorded() as tracked:
        outlay.instrument(chat, client=tracked.client)
        try:
            create(chat) if way == "whole" else streaming(chat)
        finally:
            outlay.uninstrument(chat)
        event = tracked.only()

    assert event.data["provider"] == provider
    assert event.data["provenance"] == "reported"
    assert Decimal(event.data["amount"]) == Decimal(told["amount"])


@pytest.mark.parametrize("module", [groq, together], ids=lambda module: module.__name__)
@pytest.mark.parametrize("way", ["whole", "stream", "raw"])
def test_packages_of_the_same_make_are_captured_alike(module: Any, way: str) -> None:
    """Groq tells a stream's usage in a place of its own."""
    usage: dict[str, Any] = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
    }
    last: dict[str, Any] = (
        {"x_groq": {"id": "req_1", "usage": usage}} if module is groq else {}
    )
    parts = [chunk("a"), chunk(**(last or {"usage": usage}))]

    def respond(_: httpx.Request) -> httpx.Response:
        if way != "stream":
            return httpx.Response(200, json={**COMPLETION, "usage": usage})
        content = b"".join(Events(parts))
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, content=content, headers=headers)

    kind = module.Groq if module is groq else module.Together
    transport = httpx.MockTransport(respond)
    chat = kind(api_key="k", http_client=httpx.Client(transport=transport))

    with observing(chat) as seen:
        completions = chat.chat.completions
        if way == "stream":
            list(completions.create(stream=True, **ASKED))
        elif way == "raw":
            completions.with_raw_response.create(**ASKED).parse()
        else:
            completions.create(**ASKED)

    expected = (
        usage
        if module is groq
        else {"input_tokens": 10, "output_tokens": 5}  # genai-prices does not read it
    )
    assert [(one.provider, one.operation_id, one.usage) for one in seen] == [
        (module.__name__, ID, expected)
    ]
    assert all(one.is_complete for one in seen)


def test_togethers_own_endpoints_are_observed() -> None:
    """Rankings by tokens, pictures by the piece."""
    ranked = {
        "id": "rr-1",
        "object": "rerank",
        "model": "Salesforce/Llama-Rank-V1",
        "results": [],
        "usage": {"prompt_tokens": 30, "completion_tokens": 0, "total_tokens": 30},
    }
    drawn = {"id": "img-1", "object": "list", "model": "black-forest/flux", "data": []}
    bodies = iter([ranked, drawn])
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=next(bodies)))
    api = together.Together(api_key="k", http_client=httpx.Client(transport=transport))

    with observing(api) as seen:
        api.rerank.create(model="Salesforce/Llama-Rank-V1", query="q", documents=["d"])
        api.images.generate(model="black-forest/flux", prompt="p", n=4)

    assert [(one.event_type, one.model, one.usage) for one in seen] == [
        (
            "cost.ai.rerank",
            "Salesforce/Llama-Rank-V1",
            {"input_tokens": 30, "output_tokens": 0},
        ),
        ("cost.ai.images", "black-forest/flux", {"image": 4}),
    ]


def test_the_provider_that_the_user_says_goes_before_the_address() -> None:
    """For proxies, which have addresses of their own."""
    chat = client(base_url="https://proxy.acme.test/openai")

    with observing(chat, provider="openai") as seen:
        create(chat)
        streaming(chat)

    assert [one.provider for one in seen] == ["openai"] * 2
