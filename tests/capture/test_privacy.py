"""Nothing that was asked or answered is on disk, in a log, or on a span."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import outlay
from outlay import Client
from outlay._model.error_counts import capture_errors
from tests.capture.conversations import ANSWER, CLIENTS, MARK, chat, openai_chat
from tests.capture.providers.api import ProviderApi, Scripted
from tests.support.answers import refused
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    # google-genai's own: it subclasses what aiohttp would rather not have subclassed.
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
)


class Spans:
    """Spans around the calls, and what is stamped on them."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("test")

    def around(self) -> contextlib.AbstractContextManager[object]:
        """Return a span for one call, which records no exception by itself."""
        return self._tracer.start_as_current_span(
            "call", record_exception=False, set_status_on_exception=False
        )

    def stamped(self) -> list[dict[str, object]]:
        """Return the attributes of every span that has some."""
        spans = self._exporter.get_finished_spans()
        return [dict(span.attributes) for span in spans if span.attributes]


def on_disk(folder: Path) -> bytes:
    """Return every byte in a journal folder, names of files included."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(str(path).encode() + path.read_bytes() for path in files)


def bury_all(journal_dir: Path) -> int:
    """Have a server refuse everything for good; return how many are dead letters."""
    transport = ScriptedTransport(otherwise=refused(400))
    with Client(
        journal_dir=journal_dir,
        batching="never",
        linger=0.0,
        transport=lambda: transport,
    ) as client:
        assert client.flush(20).complete
        return client.stats().dead


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """Return what is logged by outlay, at every level."""
    with caplog.at_level(logging.DEBUG, "outlay"):
        yield lambda: "\n".join(
            f"{each.getMessage()} {each.exc_text} {each.__dict__}"
            for each in caplog.records
            if each.name.startswith("outlay")
        )


@pytest.mark.parametrize("name", CLIENTS)
def test_no_text_of_a_call_is_kept_anywhere(
    name: str, tmp_path: Path, said: Callable[[], str]
) -> None:
    """Journal, unpriced costs, dead letters, logs and spans hold numbers and names."""
    make, asks = CLIENTS[name]
    api = ProviderApi(*(asked.answer for asked in asks))
    before, spans = capture_errors.snapshot(), Spans()
    with Client(shipping="none", journal_dir=tmp_path) as tracker:
        client = outlay.instrument(make(api), client=tracker)
        for asked in asks:
            refusal = pytest.raises(Exception, match=MARK)
            with refusal if asked.fails else contextlib.nullcontext(), spans.around():
                asked.ask(client)
        outlay.uninstrument()
        stats = tracker.stats()
        journal = on_disk(tmp_path)
    dead = bury_all(tmp_path)
    letters = on_disk(tmp_path)

    assert before == capture_errors.snapshot()
    assert stats.tracked > 0
    assert dead == stats.tracked
    assert b"cost." in journal
    assert b"cost." in letters
    assert len(spans.stamped()) >= len(asks) - sum(asked.fails for asked in asks)
    for text in (*map(repr, spans.stamped()), said(), repr(journal), repr(letters)):
        assert MARK not in text


@pytest.mark.parametrize("name", CLIENTS)
def test_every_call_does_hold_the_mark(name: str) -> None:
    """Or the test above would look for what was never there."""
    make, asks = CLIENTS[name]
    api = ProviderApi(*(asked.answer for asked in asks))
    client = make(api)
    for asked in asks:
        with contextlib.suppress(Exception):
            asked.ask(client)

    assert len(api.requests) == len(asks)
    for request in api.requests:
        assert MARK in str(dict(request.headers))
        assert MARK.encode() in request.content


SURPRISES: Final = [
    ANSWER,
    [ANSWER],
    {"prompt_tokens": ANSWER, "completion_tokens": [ANSWER]},
    {"prompt_tokens": {ANSWER: ANSWER}, "prompt_tokens_details": ANSWER},
    7,
]


@pytest.mark.parametrize("usage", SURPRISES, ids=range(len(SURPRISES)))
def test_an_answer_that_nobody_expected_leaks_nothing_either(
    usage: object, tmp_path: Path, said: Callable[[], str]
) -> None:
    """Where an extractor fails, its error may quote the answer. No log repeats it."""
    body: Any = openai_chat().body
    api = ProviderApi(Scripted({**body, "usage": usage, "model": "gpt-4o"}))
    with Client(shipping="none", journal_dir=tmp_path) as tracker:
        client = CLIENTS["openai"][0](api)
        outlay.instrument(client, client=tracker)
        chat(client)
        outlay.uninstrument()
        kept = on_disk(tmp_path)

    assert MARK not in said()
    assert MARK.encode() not in kept
