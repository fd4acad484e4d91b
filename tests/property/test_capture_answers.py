"""Whatever a provider answers, its caller gets it, and no content is kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
import openai
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay._capture.instrumenting import Options
from outlay._capture.providers import library
from tests.support.stainless import Events, answer, streamed

if TYPE_CHECKING:
    from outlay import Observation

MARK = "ZEBRA"
NAMES = st.sampled_from(
    ["id", "model", "usage", "choices", "prompt_tokens", "cost", "service_tier", "n"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=8,
)


def content(value: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with words of a model in it."""
    return {**value, "choices": [{"message": {"content": MARK}, "text": MARK}]}


@settings(max_examples=60)
@given(st.dictionaries(NAMES, VALUES))
def test_any_answer_reaches_its_caller_and_no_content_is_observed(
    value: dict[str, Any],
) -> None:
    """A flaw of an extractor is not the caller's, and words are never looked at."""
    seen: list[Observation] = []
    body = content(value)
    bodies = iter([answer(body), streamed(Events([body]))])
    client = openai.OpenAI(
        api_key=MARK,
        base_url="https://openrouter.ai/api/v1",
        max_retries=0,
        http_client=httpx2.Client(
            transport=httpx2.MockTransport(lambda _: next(bodies))
        ),
    )
    library("openai").capture(client, Options(record=seen.append))
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": MARK}]}

    try:
        raw = client.chat.completions.with_raw_response
        response = raw.create(**asked)
        stream = raw.create(stream=True, **asked)
        lines = list(stream.http_response.iter_lines())
    finally:
        library("openai").release()

    assert json.loads(response.http_response.content) == body
    assert json.loads(lines[0].removeprefix("data: ")) == body
    assert all(MARK not in repr(msgspec.to_builtins(one)) for one in seen)
