"""No caller notices that calls are captured: not by results, nor by failures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NoReturn

import httpx2
import openai
import pytest

import outlay
from outlay import Client
from outlay._capture.instrumentation.library import CaptureOptions
from outlay._capture.providers import libraries
from outlay._model.error_counts import capture_errors
from outlay.testing import RecordingClient
from tests.capture.conversations import CLIENTS, Asked
from tests.capture.providers.api import ProviderApi
from tests.support import disks
from tests.support.observing import observing
from tests.support.stainless import Events, answer, sent, streamed
from tests.support.unpriced import pending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    # google-genai's own: it subclasses what aiohttp would rather not have subclassed.
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
)

MODEL: Final = "gpt-4o-2024-08-06"
USAGE: Final = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
PARTS: Final = 4


def echo(request: httpx2.Request) -> httpx2.Response:
    """Answer with what was asked as the id, so that a cost tells which call it is."""
    asked = sent(request)
    name = asked["messages"][0]["content"]
    chunk = {"id": name, "object": "chat.completion.chunk", "created": 1}
    chunk |= {"model": MODEL}
    if asked.get("stream"):
        parts = [
            {"index": 0, "delta": {"content": str(n)}, "finish_reason": None}
            for n in range(PARTS)
        ]
        said: list[dict[str, Any]] = [{**chunk, "choices": [part]} for part in parts]
        return streamed(Events([*said, {**chunk, "choices": [], "usage": USAGE}]))
    message = {"role": "assistant", "content": name}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return answer(
        {**chunk, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    )


def chat_client() -> openai.OpenAI:
    """Return a client whose answers are echoes."""
    transport = httpx2.MockTransport(echo)
    return openai.OpenAI(api_key="sk", http_client=httpx2.Client(transport=transport))


def async_chat_client() -> openai.AsyncOpenAI:
    """Return its asynchronous twin."""
    return openai.AsyncOpenAI(
        api_key="sk",
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(echo)),
    )


def ask(client: Any, name: str, **more: Any) -> Any:
    """Ask for an answer with that id."""
    messages = [{"role": "user", "content": name}]
    return client.chat.completions.create(model="gpt-4o", messages=messages, **more)


@pytest.fixture
def tracker() -> Iterator[RecordingClient]:
    """Track all calls of openai; nothing may fail within capture."""
    before = capture_errors.snapshot()
    with RecordingClient() as client:
        outlay.instrument("openai", client=client)
        yield client
        outlay.uninstrument()
    assert before == capture_errors.snapshot()


def counted(tracker: RecordingClient) -> Counter[tuple[str, str]]:
    """Return how often each operation was tracked, and for which customer."""
    return Counter(
        (event.subject, event.data["operationId"]) for event in tracker.recorded()
    )


# At once.


def test_threads_that_share_a_client_pay_each_for_their_own(
    tracker: RecordingClient,
) -> None:
    """Eight threads, half of their calls streamed."""
    client = chat_client()

    def work(customer: str) -> None:
        with outlay.attribute(customer_id=customer):
            for number in range(20):
                got = ask(client, f"{customer}/{number}", stream=bool(number % 2))
                if number % 2:
                    assert len(list(got)) == PARTS + 1

    customers = [f"cus_{n}" for n in range(8)]
    threads = [threading.Thread(target=work, args=(each,)) for each in customers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted(tracker) == Counter(
        (each, f"{each}/{number}") for each in customers for number in range(20)
    )


def test_tasks_whose_streams_interleave_pay_each_for_their_own(
    tracker: RecordingClient,
) -> None:
    """A hundred tasks; between any two parts of a stream, all others go on."""

    async def read(client: openai.AsyncOpenAI, customer: str) -> None:
        with outlay.attribute(customer_id=customer):
            stream = await ask(client, f"{customer}/0", stream=True)
            async for _ in stream:
                await asyncio.sleep(0)
            await ask(client, f"{customer}/1")

    async def all_at_once() -> None:
        client = async_chat_client()
        await asyncio.gather(*(read(client, each) for each in customers))

    customers = [f"cus_{n}" for n in range(100)]
    asyncio.run(all_at_once())

    assert counted(tracker) == Counter(
        (each, f"{each}/{number}") for each in customers for number in range(2)
    )


def test_a_stream_belongs_to_whoever_asked_for_it(tracker: RecordingClient) -> None:
    """Other code may read it, in another thread, for another customer."""
    client = chat_client()
    with outlay.attribute(customer_id="asks"):
        stream = ask(client, "stream", stream=True)

    def read() -> None:
        with outlay.attribute(customer_id="reads"):
            list(stream)
            ask(client, "own")

    reader = threading.Thread(target=read)
    reader.start()
    reader.join()

    assert counted(tracker) == {("asks", "stream"): 1, ("reads", "own"): 1}


# In the midst.


def test_a_stream_that_is_being_read_is_tracked_though_capture_ends(
    tracker: RecordingClient,
) -> None:
    """It was captured when it was asked for; the next one is not."""
    client = chat_client()
    stream = ask(client, "before", stream=True)
    next(stream)

    outlay.uninstrument()
    rest = list(stream)
    list(ask(client, "after", stream=True))

    assert len(rest) == PARTS
    assert counted(tracker) == {("unattributed", "before"): 1}


def test_a_call_is_tracked_though_it_was_instrumented_many_times(
    tracker: RecordingClient,
) -> None:
    """By its library, by itself, and again."""
    client = chat_client()
    for target in (client, "openai", client, None):
        outlay.instrument(target, client=tracker)
    ask(client, "whole")
    list(ask(client, "stream", stream=True))

    assert counted(tracker) == {
        ("unattributed", "whole"): 1,
        ("unattributed", "stream"): 1,
    }


def test_parent_and_child_track_each_their_own(tmp_path: Path) -> None:
    """A server that forks its workers makes its clients before."""
    client = chat_client()
    before = capture_errors.snapshot()
    with Client(shipping="none", journal_dir=tmp_path) as tracker:
        outlay.instrument(client, client=tracker)
        stream = ask(client, "begun-before", stream=True)
        child = os.fork()
        if child == 0:
            try:
                ask(client, "child")
                os._exit(len(capture_errors.snapshot()))
            finally:
                os._exit(99)
        _, status = os.waitpid(child, 0)
        ask(client, "parent")
        list(stream)
        outlay.uninstrument(client)

    assert os.waitstatus_to_exitcode(status) == 0
    assert before == capture_errors.snapshot()
    tracked = sorted(event.data["operationId"] for event in pending(tmp_path))
    assert tracked == ["begun-before", "child", "parent"]


# What is raised.


class Stop(BaseException):
    """What no library wraps into an error of its own."""


class Breaking(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that ends in an error."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield b'data: {"id": "1", "choices": []}\n\n'
        raise self._error

    async def __aiter__(self) -> Any:
        yield b'data: {"id": "1", "choices": []}\n\n'
        raise self._error


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("form", ["plain", "async"])
def test_an_exception_is_the_same_object_and_tells_where_it_came_from(
    form: str, *, stream: bool
) -> None:
    """Nothing of ours is its cause or its context."""
    error = Stop()

    def respond(_: httpx2.Request) -> httpx2.Response:
        if stream:
            return streamed(Breaking(error))  # type: ignore[arg-type]  # a body, too
        raise error

    async def read(client: openai.AsyncOpenAI) -> None:
        answered = await ask(client, "1", stream=stream)
        async for _ in answered:
            pass

    transport = httpx2.MockTransport(respond)
    client: Any
    if form == "plain":
        client = openai.OpenAI(
            api_key="sk", http_client=httpx2.Client(transport=transport)
        )
    else:
        client = openai.AsyncOpenAI(
            api_key="sk", http_client=httpx2.AsyncClient(transport=transport)
        )
    calls: dict[str, Callable[[], object]] = {
        "plain": lambda: list(ask(client, "1", stream=stream)),
        "async": lambda: asyncio.run(read(client)),
    }
    with observing(client), pytest.raises(Stop) as raised:
        calls[form]()

    assert raised.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[-1].filename == __file__


# What goes wrong within capture.


def shown(answered: Any) -> object:
    """Return an answer as something that can be compared."""
    content = getattr(answered, "content", None)
    return content if isinstance(content, bytes) else repr(answered)


def outcome(asked: Asked, client: Any) -> object:
    """Return what a caller gets, be it an exception."""
    try:
        return shown(asked.ask(client))
    except Exception as error:  # noqa: BLE001 - it is compared
        return type(error), str(error)


@contextlib.contextmanager
def recorded_by(client: Any, record: Callable[[Any], object]) -> Iterator[None]:
    """Capture the calls of a client with a recorder of the test's."""
    owner = next(each for each in libraries() if each.is_client(client))
    owner.instrument_client(client, CaptureOptions(record=record))
    try:
        yield
    finally:
        owner.uninstrument(client)


@pytest.mark.parametrize("name", CLIENTS)
def test_callers_get_what_they_get_without_capture_though_it_fails(name: str) -> None:
    """Every form of call, of every provider: answers, streams, exceptions."""

    def fail(_: object) -> NoReturn:
        raise ZeroDivisionError

    make, asks = CLIENTS[name]
    bare = make(ProviderApi(*(asked.answer for asked in asks)))
    expected = [outcome(asked, bare) for asked in asks]
    client = make(ProviderApi(*(asked.answer for asked in asks)))
    before = sum(capture_errors.snapshot().values())
    with recorded_by(client, fail):
        got = [outcome(asked, client) for asked in asks]

    assert expected == got
    fine = sum(not asked.fails for asked in asks)
    assert sum(capture_errors.snapshot().values()) >= before + fine


@outlay.extractors.extractor("broken", "POST /chat/completions")
def broken(answer: Any, call: Any) -> NoReturn:
    """Fail, whatever was answered."""
    raise LookupError(answer, call)


def all_forms() -> dict[str, Callable[[], object]]:
    """Return calls of each form, of a client that is captured by what fails."""

    async def read() -> list[Any]:
        client = outlay.instrument(async_chat_client(), provider="broken")
        whole = await ask(client, "whole")
        parts = [part async for part in await ask(client, "parts", stream=True)]
        return [whole.id, *(part.id for part in parts)]

    def captured() -> openai.OpenAI:
        return outlay.instrument(chat_client(), provider="broken")

    return {
        "plain": lambda: [ask(captured(), "whole").id],
        "raw": lambda: [ask(captured().with_raw_response, "whole").parse().id],
        "streamed": lambda: [part.id for part in ask(captured(), "parts", stream=True)],
        "async": lambda: asyncio.run(read()),
    }


@pytest.mark.parametrize("form", all_forms())
def test_an_extractor_that_fails_harms_no_call(form: str) -> None:
    """It is counted, and that is all that happens."""
    before = sum(capture_errors.snapshot().values())
    try:
        got = all_forms()[form]()
    finally:
        outlay.uninstrument()

    assert isinstance(got, list)
    assert set(got) <= {"whole", "parts"}
    assert len(got) in {1, PARTS + 1, PARTS + 2}
    assert sum(capture_errors.snapshot().values()) == before + len(set(got))


@pytest.mark.skipif(not disks.may_mount(), reason="mounting takes root")
def test_a_full_disk_harms_no_call(tmp_path: Path) -> None:
    """Events are in memory then; the calls know nothing of it."""
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(disks.small_disk(tmp_path / "disk"))
        except PermissionError as error:
            pytest.skip(str(error))
        (disk / "ballast").write_bytes(bytes(1000 * 1024))
        tracker = stack.enter_context(
            Client(shipping="none", journal_dir=disk / "spill")
        )
        client = outlay.instrument(chat_client(), client=tracker)
        stack.callback(outlay.uninstrument)
        before = capture_errors.snapshot()

        assert ask(client, "whole").id == "whole"
        assert len(list(ask(client, "parts", stream=True))) == PARTS + 1
        assert tracker.stats().tracked == 2
        assert before == capture_errors.snapshot()


def test_a_closed_tracker_harms_no_call() -> None:
    """Its costs are failures, which are counted: an application may end in disorder."""
    tracker = RecordingClient()
    client = outlay.instrument(chat_client(), client=tracker)
    tracker.close()
    before = sum(capture_errors.snapshot().values())
    try:
        assert ask(client, "whole").id == "whole"
        assert len(list(ask(client, "parts", stream=True))) == PARTS + 1
    finally:
        outlay.uninstrument()

    assert sum(capture_errors.snapshot().values()) == before + 2
