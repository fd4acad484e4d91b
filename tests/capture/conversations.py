"""Calls to five providers, of every form, whose texts all hold a mark.

What capture may keep of them are models, ids and numbers, and those do not.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anthropic
import cohere
import openai
from google import genai
from google.genai import types
from mistralai.client import Mistral

from tests.capture.providers.api import ProviderApi, Scripted, events

if TYPE_CHECKING:
    from collections.abc import Callable

MARK: Final = "zqx"
"""In every text that is private."""

PROMPT: Final = f"{MARK}-prompt: what does Ada Lovelace's file say?"
ANSWER: Final = f"{MARK}-answer: it says that"
SYSTEM: Final = f"{MARK}-system"
ARGUMENTS: Final = json.dumps({"name": f"{MARK}-argument"})
USER: Final = f"{MARK}-user@example.com"
KEY: Final = f"sk-{MARK}-key"
FILE: Final = f"{MARK}-file.wav"
REFUSAL: Final = f"{MARK}-refusal, for you said: {PROMPT}"

UNKNOWN: Final = "a-model-of-tomorrow"
"""Has no price: what its calls cost goes into the unpriced store."""

TOOL: Final = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": f"{MARK}-description",
        "parameters": {"type": "object", "properties": {f"{MARK}_field": {}}},
    },
}
MESSAGES: Final[Any] = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": PROMPT},
]


_numbers = itertools.count()


def fresh(prefix: str) -> str:
    """Return an id that no other answer has."""
    return f"{prefix}-{next(_numbers)}"


class Asked(NamedTuple):
    """A call, and what is answered.

    Attributes:
        answer: of the provider's API.
        ask: makes the call, and reads the answer.
        fails: whether the provider refuses.
    """

    answer: Scripted
    ask: Callable[[Any], object]
    fails: bool = False


def drained(stream: Any) -> list[Any]:
    """Read a stream to its end, and return what came."""
    return list(stream)


def dropped(stream: Any) -> Any:
    """Read a part, which is returned, and close the rest."""
    first = next(iter(stream))
    stream.close()
    return first


async def drained_async(stream: Any) -> list[Any]:
    """Read an asynchronous stream, or the promise of one, to its end."""
    if hasattr(stream, "__await__"):
        stream = await stream
    return [item async for item in stream]


# OpenAI.


def openai_chat(model: str = "gpt-4o-2024-08-06") -> Scripted:
    """Return a chat with a call of a tool."""
    call = {"id": "call_1", "type": "function"}
    function = {"name": "look_up", "arguments": ARGUMENTS}
    message = {
        "role": "assistant",
        "content": ANSWER,
        "tool_calls": [{**call, "function": function}],
    }
    return Scripted(
        {
            "id": fresh("chatcmpl"),
            "object": "chat.completion",
            "created": 1795176000,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "note": ANSWER},
            "system_fingerprint": f"{MARK}-fingerprint",
        }
    )


def openai_stream() -> Scripted:
    """Return a chat's stream."""
    chunk = {
        "id": fresh("chatcmpl"),
        "object": "chat.completion.chunk",
        "created": 1795176000,
        "model": "gpt-4o-2024-08-06",
    }
    choice = {"index": 0, "delta": {"content": ANSWER}, "finish_reason": None}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return events(
        {**chunk, "choices": [choice]},
        {**chunk, "choices": [choice]},
        {**chunk, "choices": [], "usage": usage},
        done=True,
    )


def openai_response() -> Scripted:
    """Return a response that searched the web."""
    said = {"type": "output_text", "text": ANSWER, "annotations": []}
    search = {"type": "search", "query": PROMPT}
    return Scripted(
        {
            "id": fresh("resp"),
            "object": "response",
            "created_at": 1795176000,
            "model": "gpt-4o-2024-08-06",
            "status": "completed",
            "instructions": SYSTEM,
            "metadata": {"who": USER},
            "output": [
                {"id": "ws_1", "type": "web_search_call", "action": search},
                {
                    "id": "msg_1",
                    "type": "message",
                    "role": "assistant",
                    "content": [said],
                },
            ],
            "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
        }
    )


def chat(client: Any, **more: Any) -> Any:
    """Ask OpenAI something."""
    return client.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,
        tools=[TOOL],
        user=USER,
        metadata={"who": USER},
        **more,
    )


OPENAI: Final = [
    Asked(openai_chat(), chat),
    Asked(openai_chat(UNKNOWN), chat),
    Asked(openai_chat(), lambda client: chat(client.with_raw_response).parse()),
    Asked(openai_stream(), lambda client: drained(chat(client, stream=True))),
    Asked(openai_stream(), lambda client: dropped(chat(client, stream=True))),
    Asked(
        openai_response(),
        lambda client: client.responses.create(
            model="gpt-4o", input=PROMPT, instructions=SYSTEM, user=USER
        ),
    ),
    Asked(
        Scripted(
            {
                "object": "list",
                "model": "text-embedding-3-small",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
                "usage": {"prompt_tokens": 8, "total_tokens": 8},
            }
        ),
        lambda client: client.embeddings.create(
            model="text-embedding-3-small", input=PROMPT, user=USER
        ),
    ),
    Asked(
        Scripted({"created": 1, "data": [{"b64_json": "", "revised_prompt": PROMPT}]}),
        lambda client: client.images.generate(
            model="dall-e-3", prompt=PROMPT, user=USER
        ),
    ),
    Asked(
        Scripted({"text": ANSWER, "usage": {"type": "duration", "seconds": 3}}),
        lambda client: client.audio.transcriptions.create(
            model="whisper-1", file=(FILE, PROMPT.encode()), prompt=PROMPT
        ),
    ),
    Asked(
        Scripted(ANSWER.encode(), kind="audio/mpeg"),
        lambda client: client.audio.speech.create(
            model="tts-1", voice="alloy", input=PROMPT
        ),
    ),
    Asked(
        Scripted({"error": {"message": REFUSAL, "code": REFUSAL}}, 400),
        chat,
        fails=True,
    ),
]
OPENAI_ASYNC: Final = [
    Asked(openai_chat(), lambda client: asyncio.run(chat(client))),
    Asked(
        openai_stream(),
        lambda client: asyncio.run(drained_async(chat(client, stream=True))),
    ),
]


# Anthropic.


def anthropic_message(model: str = "claude-sonnet-4-5-20250929") -> dict[str, Any]:
    """Return a message with a call of a tool."""
    return {
        "id": fresh("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [
            {"type": "text", "text": ANSWER},
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "look_up",
                "input": json.loads(ARGUMENTS),
            },
        ],
        "stop_reason": "end_turn",
        "stop_sequence": f"{MARK}-stop",
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def anthropic_stream() -> Scripted:
    """Return a message's stream."""
    begun = {**anthropic_message(), "content": []}
    delta = {"type": "text_delta", "text": ANSWER}
    ended = {"stop_reason": "end_turn", "stop_sequence": f"{MARK}-stop"}
    return events(
        {"type": "message_start", "message": begun},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    )


def message(client: Any, **more: Any) -> Any:
    """Ask Anthropic something."""
    return client.messages.create(
        model="claude-sonnet-latest",
        max_tokens=9,
        system=SYSTEM,
        messages=[{"role": "user", "content": PROMPT}],
        metadata={"user_id": USER},
        **more,
    )


ANTHROPIC: Final = [
    Asked(Scripted(anthropic_message()), message),
    Asked(Scripted(anthropic_message(UNKNOWN)), message),
    Asked(anthropic_stream(), lambda client: drained(message(client, stream=True))),
    Asked(anthropic_stream(), lambda client: dropped(message(client, stream=True))),
    Asked(
        Scripted({"type": "error", "error": {"type": "x", "message": REFUSAL}}, 400),
        message,
        fails=True,
    ),
]
ANTHROPIC_ASYNC: Final = [
    Asked(Scripted(anthropic_message()), lambda client: asyncio.run(message(client))),
    Asked(
        anthropic_stream(),
        lambda client: asyncio.run(drained_async(message(client, stream=True))),
    ),
]


# Google.


def google_content(model: str = "gemini-2.5-flash") -> dict[str, Any]:
    """Return generated content."""
    call = {"name": "look_up", "args": json.loads(ARGUMENTS)}
    return {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [{"text": ANSWER}, {"functionCall": call}],
                },
                "finishReason": "STOP",
                "groundingMetadata": {"webSearchQueries": [PROMPT]},
            }
        ],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5},
        "modelVersion": model,
        "responseId": fresh("resp"),
    }


def google_asks(models: Any, method: str = "generate_content") -> Any:
    """Ask Google something."""
    return getattr(models, method)(
        model="gemini-2.5-flash",
        contents=PROMPT,
        config=types.GenerateContentConfig(
            system_instruction=SYSTEM, labels={"who": MARK}, stop_sequences=[MARK]
        ),
    )


async def google_async(client: genai.Client, method: str) -> Any:
    """Ask in asynchronous code, and give the connection back."""
    answer = await google_asks(client.aio.models, method)
    if method.endswith("stream"):
        answer = await drained_async(answer)
    await client.aio.aclose()
    return answer


GOOGLE: Final = [
    Asked(
        Scripted(google_content()),
        lambda client: google_asks(client.models),
    ),
    Asked(
        Scripted(google_content(UNKNOWN)),
        lambda client: google_asks(client.models),
    ),
    Asked(
        events(google_content(), google_content()),
        lambda client: drained(google_asks(client.models, "generate_content_stream")),
    ),
    Asked(
        Scripted({"embeddings": [{"values": [0.5]}]}),
        lambda client: client.models.embed_content(
            model="gemini-embedding-001", contents=PROMPT
        ),
    ),
    Asked(
        Scripted({"error": {"code": 400, "message": REFUSAL}}, 400),
        lambda client: google_asks(client.models),
        fails=True,
    ),
    Asked(
        Scripted(google_content()),
        lambda client: asyncio.run(google_async(client, "generate_content")),
    ),
]


# Mistral.


def mistral_chat(model: str = "mistral-small-2603") -> dict[str, Any]:
    """Return a chat."""
    message = {"role": "assistant", "content": ANSWER}
    return {
        "id": fresh("cmpl"),
        "object": "chat.completion",
        "created": 1795176000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def mistral_stream() -> Scripted:
    """Return a chat's stream."""
    chunk = {**mistral_chat(), "object": "chat.completion.chunk"}
    delta = {"index": 0, "delta": {"content": ANSWER}, "finish_reason": "stop"}
    return events({**chunk, "choices": [delta]}, done=True)


def mistral_asks(client: Any, method: str = "complete") -> Any:
    """Ask Mistral something."""
    return getattr(client.chat, method)(
        model="mistral-small-latest", messages=MESSAGES, metadata={"who": USER}
    )


MISTRAL: Final = [
    Asked(Scripted(mistral_chat()), mistral_asks),
    Asked(Scripted(mistral_chat(UNKNOWN)), mistral_asks),
    Asked(mistral_stream(), lambda client: drained(mistral_asks(client, "stream"))),
    Asked(
        Scripted(mistral_chat()),
        lambda client: asyncio.run(mistral_asks(client, "complete_async")),
    ),
    Asked(
        mistral_stream(),
        lambda client: asyncio.run(drained_async(mistral_asks(client, "stream_async"))),
    ),
    Asked(
        Scripted(
            {
                "model": "mistral-ocr-2512",
                "document_annotation": ANSWER,
                "pages": [
                    {"index": 0, "markdown": ANSWER, "images": [], "dimensions": None}
                ],
                "usage_info": {"pages_processed": 1, "doc_size_bytes": 9},
            }
        ),
        lambda client: client.ocr.process(
            model="mistral-ocr-latest",
            document={
                "type": "document_url",
                "document_url": f"https://example.com/{FILE}",
                "document_name": FILE,
            },
        ),
    ),
    Asked(Scripted({"message": REFUSAL}, 400), mistral_asks, fails=True),
]


# Cohere.

COHERE_USAGE: Final = {"billed_units": {"input_tokens": 10, "output_tokens": 5}}


def cohere_chat() -> Scripted:
    """Return a chat."""
    said = [{"type": "text", "text": ANSWER}]
    return Scripted(
        {
            "id": fresh("c14c"),
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": said},
            "usage": COHERE_USAGE,
        }
    )


def cohere_stream() -> Scripted:
    """Return a chat's stream."""
    delta = {"message": {"content": {"text": ANSWER}}}
    ended = {"finish_reason": "COMPLETE", "usage": COHERE_USAGE}
    return events(
        {"type": "message-start", "id": fresh("c14c"), "delta": {"message": {}}},
        {"type": "content-delta", "index": 0, "delta": delta},
        {"type": "message-end", "delta": ended},
    )


def cohere_asks(
    client: Any, method: str = "chat", model: str = "command-a-03-2025"
) -> Any:
    """Ask Cohere something."""
    return getattr(client, method)(model=model, messages=MESSAGES)


COHERE: Final = [
    Asked(cohere_chat(), cohere_asks),
    Asked(cohere_chat(), lambda client: cohere_asks(client, model=UNKNOWN)),
    Asked(cohere_stream(), lambda client: drained(cohere_asks(client, "chat_stream"))),
    Asked(
        Scripted(
            {
                "id": "rank-1",
                "results": [{"index": 0, "relevance_score": 0.5}],
                "meta": {"billed_units": {"search_units": 1}, "warnings": [ANSWER]},
            }
        ),
        lambda client: client.rerank(
            model="rerank-v4.0-pro", query=PROMPT, documents=[ANSWER]
        ),
    ),
    Asked(Scripted({"message": REFUSAL}, 400), cohere_asks, fails=True),
]
COHERE_ASYNC: Final = [
    Asked(cohere_chat(), lambda client: asyncio.run(cohere_asks(client))),
    Asked(
        cohere_stream(),
        lambda client: asyncio.run(drained_async(cohere_asks(client, "chat_stream"))),
    ),
]


CLIENTS: Final[dict[str, tuple[Callable[[ProviderApi], Any], list[Asked]]]] = {
    "openai": (
        lambda api: openai.OpenAI(api_key=KEY, http_client=api.client2()),
        OPENAI,
    ),
    "openai-async": (
        lambda api: openai.AsyncOpenAI(api_key=KEY, http_client=api.async_client2()),
        OPENAI_ASYNC,
    ),
    "anthropic": (
        lambda api: anthropic.Anthropic(api_key=KEY, http_client=api.client2()),
        ANTHROPIC,
    ),
    "anthropic-async": (
        lambda api: anthropic.AsyncAnthropic(
            api_key=KEY, http_client=api.async_client2()
        ),
        ANTHROPIC_ASYNC,
    ),
    "google": (
        lambda api: genai.Client(
            api_key=KEY,
            http_options=types.HttpOptions(
                httpx_client=api.client2(), httpx_async_client=api.async_client2()
            ),
        ),
        GOOGLE,
    ),
    "mistral": (
        lambda api: Mistral(
            api_key=KEY, client=api.client2(), async_client=api.async_client2()
        ),
        MISTRAL,
    ),
    "cohere": (
        lambda api: cohere.ClientV2(KEY, httpx_client=api.client()),
        COHERE,
    ),
    "cohere-async": (
        lambda api: cohere.AsyncClientV2(KEY, httpx_client=api.async_client()),
        COHERE_ASYNC,
    ),
}
