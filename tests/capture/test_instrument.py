"""The engine: hooks go in, and come out again."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import openai
import pytest

import outlay
from outlay._capture.guard import guarded
from outlay._capture.instrumentation.import_hook import is_installed
from outlay._model.attribution import Attribution, current_attribution
from outlay._model.error_counts import capture_errors
from tests.capture.test_openai_chat import ASKED, ID, async_client, client, create
from tests.support import processes
from tests.support.observing import observing
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from pathlib import Path


def test_a_call_is_priced_and_tracked_for_whoever_made_it(tmp_path: Path) -> None:
    """From the provider's answer to the wire, to the last digit."""
    transport = ScriptedTransport()
    chat = client()
    with outlay.Client(
        journal_dir=tmp_path, batching="never", transport=lambda: transport
    ) as tracker:
        assert outlay.instrument(chat, client=tracker) is chat
        token = current_attribution.set(Attribution(customer_id="cus_1"))
        try:
            create(chat)
        finally:
            current_attribution.reset(token)
            outlay.uninstrument(chat)
        assert tracker.flush(10).complete

    (_, body) = transport.posts[0]
    event = json.loads(body, parse_float=Decimal)
    assert event["subject"] == "cus_1"
    assert event["type"] == "cost.ai.inference"
    assert event["data"]["amount"] == Decimal("0.00325")
    assert event["data"]["provenance"] == "priced"
    assert b"Hello" not in body


def test_uninstrument_leaves_no_trace() -> None:
    """Not even another function that does the same."""
    owner = openai.OpenAI.__mro__[1]
    before = {name: vars(openai.OpenAI)[name] for name in ("copy", "with_options")}
    request = vars(owner)["request"]
    chat = client()

    outlay.instrument(chat)
    outlay.instrument("openai")
    outlay.instrument("openai")
    assert vars(owner)["request"] is not request
    outlay.uninstrument()

    assert vars(owner)["request"] is request
    assert before == {name: vars(openai.OpenAI)[name] for name in before}


def test_other_clients_are_left_alone() -> None:
    """One client instrumented is one client captured."""
    chat, other = client(), client()

    with observing(chat) as seen:
        create(other)
        create(chat)

    assert [one.operation_id for one in seen] == [ID]


async def ask(chat: openai.AsyncOpenAI) -> None:
    """Ask in each way that differs in asynchronous code."""
    await chat.chat.completions.create(**ASKED)
    async for _ in await chat.chat.completions.create(stream=True, **ASKED):
        pass
    async with chat.chat.completions.stream(**ASKED) as stream:
        await stream.until_done()
    stream = await chat.chat.completions.create(stream=True, **ASKED)
    await stream.close()


def test_asynchronous_calls_are_observed_alike() -> None:
    """And a stream that is closed early is incomplete."""
    import asyncio  # noqa: PLC0415 - needed here only

    chat = async_client()

    with observing(chat) as seen:
        asyncio.run(ask(chat))

    assert [one.is_complete for one in seen] == [True, True, True, False]


@pytest.mark.parametrize("target", ["no-such-library", object()])
def test_what_is_not_supported_is_said(target: object) -> None:
    """With what is."""
    with pytest.raises(outlay.ConfigError, match="openai"):
        outlay.instrument(target)


def test_an_answer_of_any_shape_reaches_its_caller() -> None:
    """A flaw of capture is counted, and is not the caller's."""

    def flawed() -> None:
        raise ZeroDivisionError

    before = capture_errors.snapshot().get("test: ZeroDivisionError", 0)

    assert guarded("test", flawed) is None
    assert capture_errors.snapshot()["test: ZeroDivisionError"] == before + 1


def test_a_module_is_found_without_importing_its_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some packages take a second, and the program may never need them."""
    (tmp_path / "shared_space").mkdir()
    (tmp_path / "shared_space" / "one.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path))

    names = [
        "shared_space",
        "shared_space.one",
        "shared_space.two",
        "shared_space.one.x",
    ]

    assert [is_installed(name) for name in names] == [True, True, False, False]
    assert "shared_space" not in sys.modules


WITHOUT_GENAI: Final = """
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "google.genai" else super().find_spec(name, path)

sys.meta_path[:] = [Without if each is PathFinder else each for each in sys.meta_path]
import google.auth
try:
    outlay.instrument("google-genai")
except outlay.ConfigError as error:
    say(error)
"""


def test_a_package_that_shares_its_name_with_others_may_be_missing() -> None:
    """Much of what is installed begins with ``google``."""
    said = processes.run(WITHOUT_GENAI, {})

    assert "'google-genai', because it is not installed" in said
