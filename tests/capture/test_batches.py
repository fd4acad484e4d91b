"""Batches: what their requests cost, observed when the output is read."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import anthropic
import groq
import httpx
import httpx2
import openai
import pytest
import together

import outlay
from outlay._capture.extraction.registry import find_endpoint
from outlay._capture.instrumentation.body_readers import body_reader
from outlay._model.error_counts import capture_errors
from tests.support.observing import observing
from tests.support.recorded import Recorded
from tests.support.stainless import Body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from outlay.extractors import Observation

TOKENS: Final = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
SECRET: Final = "to be or not to be"
DAY: Final = "2026-11-20"


def line(number: int, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    """Return a line of OpenAI's output file."""
    return {
        "id": f"batch_req_{number}",
        "custom_id": f"job-{number}",
        "response": {"status_code": status, "request_id": f"r{number}", "body": body},
        "error": None,
    }


def chat(number: int) -> dict[str, Any]:
    """Return a chat's answer."""
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": SECRET}}],
        "usage": TOKENS,
    }


RESPONSE: Final = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-5-2025-08-07",
    "output": [
        {"type": "web_search_call", "action": {"type": "search", "query": SECRET}},
        {"type": "message", "content": [{"type": "output_text", "text": SECRET}]},
    ],
    "usage": {"input_tokens": 500, "output_tokens": 20, "total_tokens": 520},
}
EMBEDDING: Final = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1] * 100}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
REFUSED: Final = {"error": {"message": SECRET, "type": "invalid_request_error"}}
OUTPUT: Final = (
    line(1, chat(1)),
    line(2, RESPONSE),
    line(3, EMBEDDING),
    line(4, REFUSED, 400),
    line(8, chat(8), 503),
    line(5, {"id": "modr-1", "model": "omni-moderation-latest", "results": []}),
    {"id": "batch_req_6", "custom_id": "job-6", "response": None, "error": REFUSED},
    line(7, chat(7)),
)
FILE: Final = b"".join(json.dumps(each).encode() + b"\n" for each in OUTPUT)
INPUT: Final = json.dumps(
    {"custom_id": "job-1", "method": "POST", "url": "/v1/chat/completions", "body": {}}
).encode()

EXPECTED: Final = [
    ("chatcmpl-1", None, "gpt-4o-2024-08-06", TOKENS),
    ("resp_1", None, "gpt-5-2025-08-07", RESPONSE["usage"]),
    ("resp_1", "web_search", "gpt-5-2025-08-07", {"web_searches": 1}),
    ("batch_req_3", None, "text-embedding-3-small", EMBEDDING["usage"]),
    ("chatcmpl-7", None, "gpt-4o-2024-08-06", TOKENS),
]

PRICED: Final = len(EXPECTED) - 1  # the list has no batch price of that embedding


def facts(seen: list[Observation]) -> list[tuple[object, ...]]:
    """Return what matters of observations."""
    assert all(one.service_tier == "batch" for one in seen)
    assert SECRET not in repr(seen)
    return [(one.operation_id, one.line, one.model, one.usage) for one in seen]


def serving(content: bytes | Lines) -> httpx2.MockTransport:
    """Return a transport that serves one file, whatever is asked for."""

    def serve(_: httpx2.Request) -> httpx2.Response:
        body = Body(content) if isinstance(content, bytes) else content
        return httpx2.Response(200, stream=body)

    return httpx2.MockTransport(serve)


def client(content: bytes | Lines = FILE) -> openai.OpenAI:
    """Return a client that never touches the network."""
    http = httpx2.Client(transport=serving(content))
    return openai.OpenAI(api_key="sk-test", http_client=http)


def at_once(files: Any) -> bytes:
    """Read the file."""
    return bytes(files.content("file-1").content)


def by_line(files: Any) -> bytes:
    """Read the file's lines."""
    lines = files.content("file-1").iter_lines()
    return b"".join(each.encode() + b"\n" for each in lines)


def raw(files: Any) -> bytes:
    """Read the response."""
    return bytes(files.with_raw_response.content("file-1").http_response.content)


def in_parts(files: Any) -> bytes:
    """Read the file in small pieces, as it comes."""
    with files.with_streaming_response.content("file-1") as response:
        return b"".join(response.iter_bytes(11))


def as_text(files: Any) -> bytes:
    """Read the file by the method of old."""
    text: str = files.retrieve_content("file-1")
    return text.encode()


# The library says so of the method of old.
@pytest.mark.filterwarnings("ignore:.*should be used instead:DeprecationWarning")
@pytest.mark.parametrize(
    "read", [at_once, by_line, raw, in_parts, as_text], ids=lambda read: read.__name__
)
def test_the_output_of_a_batch_is_observed_while_it_is_read(
    read: Callable[[Any], bytes],
) -> None:
    """Each response by its own id; errors and what is free are not there."""
    reader = client()

    with observing(reader) as seen:
        assert read(reader.files) == FILE

    assert facts(seen) == EXPECTED


def test_asynchronous_reading_is_observed_alike() -> None:
    """By the same hook."""

    async def read() -> bytes:
        http = httpx2.AsyncClient(transport=serving(FILE))
        files = openai.AsyncOpenAI(api_key="sk-test", http_client=http).files
        async with files.with_streaming_response.content("file-1") as response:
            parts = [part async for part in response.iter_bytes(50)]
        assert (await files.content("file-1")).content == b"".join(parts)
        return b"".join(parts)

    with observing("openai") as seen:
        assert asyncio.run(read()) == FILE

    assert facts(seen) == EXPECTED * 2


def test_what_was_read_is_observed_and_what_was_not_is_not() -> None:
    """Code that reads on later will see it then."""
    reader = client(Lines(OUTPUT))

    content = reader.files.with_streaming_response.content
    with observing(reader) as seen, content("file-1") as response:
        next(response.iter_lines())

    assert facts(seen) == EXPECTED[:1]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(INPUT, id="the batch's input"),
        pytest.param(b"%PDF-1.7\n\x00\xff\n" + FILE, id="another file"),
        pytest.param(b"\0" * 70_000 + b'"custom_id"\n' + FILE, id="a long first line"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\n\n", id="empty lines"),
    ],
)
def test_other_files_cost_nothing(content: bytes) -> None:
    """Most files are no outputs of batches."""
    reader = client(content)

    with observing(reader) as seen:
        assert at_once(reader.files) == content

    assert seen == []


def test_a_line_that_cannot_be_read_does_not_hold_up_the_others() -> None:
    """It is counted."""
    first, *others = FILE.splitlines(keepends=True)
    before = sum(capture_errors.snapshot().values())

    endpoint = find_endpoint("openai", "GET", "/files/file-1/content")
    assert endpoint is not None
    seen: list[Any] = []
    reader = body_reader("", endpoint, lambda _, whole: seen.append(whole))
    reader.feed(first + b'{"custom_id": torn\n' + b"".join(others))
    reader.finish(exhausted=True)

    assert seen == [True] * len(OUTPUT)
    assert sum(capture_errors.snapshot().values()) == before + 1


@pytest.mark.parametrize("size", [1, 2, 7, 1000, len(FILE)])
def test_lines_are_found_however_the_body_is_cut(size: int) -> None:
    """With an end to the last one or without."""
    endpoint = find_endpoint("openai", "GET", "/files/file-1/content")
    assert endpoint is not None
    seen: list[Any] = []
    bodies = (FILE, FILE.rstrip(), FILE.replace(b"\n", b"\r\n"))
    for body in bodies:
        reader = body_reader("", endpoint, lambda answer, _: seen.append(answer["id"]))
        for start in range(0, len(body), size):
            reader.feed(body[start : start + size])
        reader.finish(exhausted=True)

    assert [each["id"] for each in OUTPUT] * len(bodies) == seen


RESULTS: Final = [
    {
        "custom_id": "job-1",
        "result": {
            "type": "succeeded",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-sonnet-4-5-20250929",
                "content": [{"type": "text", "text": SECRET}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 1000,
                    "output_tokens": 100,
                    "service_tier": "batch",
                },
            },
        },
    },
    {"custom_id": "job-2", "result": {"type": "errored", "error": REFUSED}},
    {"custom_id": "job-3", "result": {"type": "expired"}},
    {"custom_id": "job-4", "result": {"type": "canceled"}},
]
BATCH: Final = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "ended",
    "request_counts": dict.fromkeys(
        ("processing", "succeeded", "errored", "canceled", "expired"), 1
    ),
    "created_at": f"{DAY}T00:00:00Z",
    "expires_at": f"{DAY}T00:00:00Z",
    "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
}
MESSAGES: Final = [
    (
        "msg_1",
        None,
        "claude-sonnet-4-5-20250929",
        {"input_tokens": 1000, "output_tokens": 100},
    )
]


class Lines(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body of JSON Lines, of which each is sent when it is asked for."""

    def __init__(self, lines: Sequence[Any]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[bytes]:
        for each in self._lines:
            yield json.dumps(each).encode() + b"\n"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


def results(request: httpx2.Request) -> httpx2.Response:
    """Answer as Anthropic does."""
    if not request.url.path.endswith("/results"):
        return httpx2.Response(200, json=BATCH)

    headers = {"content-type": "application/x-jsonl"}
    return httpx2.Response(200, stream=Lines(RESULTS), headers=headers)


def reading(messages: Any) -> list[Any]:
    """Read the results."""
    return list(messages.batches.results("msgbatch_1"))


def raw_results(messages: Any) -> list[Any]:
    """Read the results from a response."""
    return list(messages.batches.with_raw_response.results("msgbatch_1").parse())


@pytest.mark.parametrize("read", [reading, raw_results], ids=lambda read: read.__name__)
@pytest.mark.parametrize("path", ["stable", "beta"])
def test_the_results_of_anthropics_batch_are_observed(
    read: Callable[[Any], list[Any]], path: str
) -> None:
    """The library decodes the lines as they come; so do we."""
    http = httpx2.Client(transport=httpx2.MockTransport(results))
    asking = anthropic.Anthropic(api_key="sk-test", http_client=http)
    messages: Any = asking.beta.messages if path == "beta" else asking.messages
    bare = read(messages)

    with observing(asking) as seen:
        captured = read(messages)

    assert bare == captured
    assert type(bare[0]) is type(captured[0])
    assert facts(seen) == MESSAGES


def test_results_that_are_not_read_are_not_observed_and_close() -> None:
    """Nothing is read ahead."""
    http = httpx2.Client(transport=httpx2.MockTransport(results))
    asking = anthropic.Anthropic(api_key="sk-test", http_client=http)

    with observing(asking) as seen:
        decoder = asking.messages.batches.results("msgbatch_1")
        assert seen == []
        next(iter(decoder))
        decoder.close()

    assert facts(seen) == MESSAGES


def test_asynchronous_results_are_observed_alike() -> None:
    """By the asynchronous twin of the decoder."""

    async def read() -> int:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(results))
        asking = anthropic.AsyncAnthropic(api_key="sk-test", http_client=http)
        decoder = await asking.messages.batches.results("msgbatch_1")
        return len([each async for each in decoder])

    with observing("anthropic") as seen:
        assert asyncio.run(read()) == len(RESULTS)

    assert facts(seen) == MESSAGES


@pytest.mark.parametrize("module", [groq, together], ids=lambda module: module.__name__)
def test_batches_of_others_in_openais_shape_are_observed(module: Any) -> None:
    """By the same lines."""
    kind = module.Groq if module is groq else module.Together
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=FILE))
    asking = kind(api_key="k", http_client=httpx.Client(transport=transport))

    with observing(asking) as seen:
        asking.files.content("file-1").read()

    assert [one.operation_id for one in seen if one.line is None] == [
        "chatcmpl-1",
        "resp_1",
        "batch_req_3",
        "chatcmpl-7",
    ]
    assert {one.provider for one in seen} == {module.__name__}


def test_each_response_counts_once_however_often_the_file_is_read() -> None:
    """For the customer of the first reader, at half the price."""
    with Recorded() as tracked:
        reader = outlay.instrument(client(), client=tracked.client)
        try:
            at_once(reader.files)
            at_once(reader.files)
            with outlay.attribute(customer_id="cus_2"):
                at_once(reader.files)
                outlay.observe_batch(FILE, provider="openai", client=tracked.client)
        finally:
            outlay.uninstrument(reader)
        events = tracked.events()

    assert {event.subject for event in events} == {"cus_1"}
    assert len(events) == PRICED
    chats = [
        Decimal(event.data["amount"])
        for event in events
        if event.data["model"].startswith("gpt-4o")
    ]
    # 1000 x 2.50 + 100 x 10.00 per million, halved.
    assert [Decimal("0.00175")] * 2 == chats


def whose(custom_id: str) -> str | None:
    """Tell a request's customer. The others belong to the reader's."""
    return {"job-1": "cus_a", "job-2": "cus_b"}.get(custom_id)


def test_a_batchs_requests_may_be_of_different_customers() -> None:
    """The id that the user gave to a request tells."""
    with Recorded() as tracked:
        reader = outlay.instrument(client(), client=tracked.client, customer_of=whose)
        try:
            at_once(reader.files)
        finally:
            outlay.uninstrument(reader)
        events = tracked.events()

    assert sorted(event.subject for event in events) == [
        "cus_1",
        "cus_a",
        "cus_b",
        "cus_b",
    ]


def test_a_mistake_in_telling_the_customer_loses_no_cost() -> None:
    """It belongs to the reader's customer, and the mistake is counted."""

    def wrong(custom_id: str) -> str:
        raise KeyError(custom_id)

    before = sum(capture_errors.snapshot().values())
    with Recorded() as tracked:
        count = outlay.observe_batch(
            FILE, provider="openai", client=tracked.client, customer_of=wrong
        )
        events = tracked.events()

    assert count == len(OUTPUT)
    assert {event.subject for event in events} == {"cus_1"}
    assert len(events) == PRICED
    assert sum(capture_errors.snapshot().values()) > before


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(FILE, id="bytes"),
        pytest.param(FILE.decode(), id="text"),
        pytest.param(FILE.splitlines(), id="lines"),
        pytest.param(iter(OUTPUT), id="mappings"),
        pytest.param([b"torn", *FILE.splitlines(), ""], id="with a line that is torn"),
    ],
)
def test_a_file_at_hand_is_observed_by_one_line(lines: Any) -> None:
    """For those who have the output from elsewhere."""
    with Recorded() as tracked:
        count = outlay.observe_batch(lines, provider="openai", client=tracked.client)
        events = tracked.events()

    assert count == len(OUTPUT)
    assert len(events) == PRICED
    assert SECRET not in tracked.text()


def test_objects_of_the_library_are_observed_by_one_line() -> None:
    """As its own reading of the results returns them."""
    http = httpx2.Client(transport=httpx2.MockTransport(results))
    read = reading(anthropic.Anthropic(api_key="sk-test", http_client=http).messages)

    with Recorded() as tracked:
        count = outlay.observe_batch(read, provider="anthropic", client=tracked.client)
        event = tracked.only()

    assert count == len(RESULTS)
    assert event.data["serviceTier"] == "batch"


def test_who_has_no_batches_is_said() -> None:
    """Rather than nothing being observed."""
    with pytest.raises(outlay.ConfigError, match="'cohere'"):
        outlay.observe_batch([], provider="cohere")


def test_results_that_are_read_for_two_customers_are_the_first_ones() -> None:
    """As an output of OpenAI's is."""
    http = httpx2.Client(transport=httpx2.MockTransport(results))
    asking = anthropic.Anthropic(api_key="sk-test", http_client=http)

    with Recorded() as tracked:
        outlay.instrument(asking, client=tracked.client)
        try:
            reading(asking.messages)
            with outlay.attribute(customer_id="cus_2"):
                reading(asking.messages)
        finally:
            outlay.uninstrument(asking)

        assert tracked.only().subject == "cus_1"


def test_empty_lines_are_no_failures() -> None:
    """Files end with one."""
    before = capture_errors.snapshot()

    with Recorded() as tracked:
        lines = ["", "\n", *FILE.splitlines(), b"\r\n"]
        outlay.observe_batch(lines, provider="openai", client=tracked.client)

    assert before == capture_errors.snapshot()
