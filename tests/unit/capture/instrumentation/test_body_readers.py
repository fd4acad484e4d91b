"""Bodies: answers are made of bytes, however these are cut."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from outlay._capture.extraction.fields import read_fields, read_json_fields
from outlay._capture.extraction.registry import Endpoint, find_endpoint
from outlay._capture.instrumentation.body_readers import body_reader

STREAM: Final = "text/event-stream; charset=utf-8"
USAGE: Final = {"prompt_tokens": 5, "completion_tokens": 2}


def chat() -> Endpoint:
    """Return an endpoint that streams."""
    endpoint = find_endpoint("openai", "POST", "/v1/chat/completions")
    assert endpoint is not None
    return endpoint


def body(*events: dict[str, Any], done: bool = True, newline: bytes = b"\n") -> bytes:
    """Return a body of server-sent events."""
    lines = [b"data: " + json.dumps(event).encode() for event in events]
    lines += [b"data: [DONE]"] if done else []
    return b"".join(line + newline * 2 for line in lines)


FIRST: Final = {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [{"index": 0}]}
WORD: Final = {"choices": [{"index": 0, "delta": {"content": 'a "usage" of \\n'}}]}
PLAIN: Final = {"choices": [{"index": 0, "delta": {"content": "words"}}]}
LAST: Final = {"choices": [], "usage": USAGE}
READ: Final = {"id": "chatcmpl-1", "model": "gpt-4o", "usage": USAGE}


def read(
    pieces: list[bytes], content_type: str = STREAM, *, exhausted: bool = True
) -> tuple[dict[str, Any], bool]:
    """Return what a reader makes of a body in pieces, and whether it is complete."""
    settled: list[tuple[dict[str, Any], bool]] = []
    reader = body_reader(
        content_type, chat(), lambda answer, whole: settled.append((answer, whole))
    )
    for piece in pieces:
        reader.feed(piece)
    reader.finish(exhausted=exhausted)
    [answer] = settled
    return answer


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_events_are_found_wherever_the_body_is_cut(newline: bytes) -> None:
    """In the midst of a line, of a mark, or between the newlines."""
    whole = body(FIRST, PLAIN, WORD, PLAIN, LAST, newline=newline)

    for size in range(1, len(whole) + 1):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert read(pieces) == (READ, True), size


def test_a_cut_at_any_one_place_changes_nothing() -> None:
    """What is skipped for holding nothing of interest may be the end of what does."""
    whole = body(FIRST, PLAIN, WORD, LAST)

    for at in range(len(whole)):
        assert read([whole[:at], whole[at:]]) == (READ, True), at


def test_a_stream_that_says_that_it_is_over_is_complete() -> None:
    """Libraries stop reading there."""
    so_far = {"choices": [{"index": 0, "finish_reason": None}], "usage": USAGE}
    parts = [body(FIRST, so_far, done=False), body(PLAIN, done=False)]

    assert read(parts, exhausted=False) == (READ, False)
    assert read([*parts, body()], exhausted=False) == (READ, True)


@pytest.mark.parametrize("exhausted", [True, False])
def test_a_body_that_is_no_stream_is_decoded_at_its_end(exhausted: bool) -> None:  # noqa: FBT001 - of a table
    """Half of it tells nothing."""
    whole = json.dumps({**READ, "choices": []}).encode()

    answer = read([whole[:9], whole[9:]], "application/json", exhausted=exhausted)

    assert answer == ((READ, True) if exhausted else ({}, False))


def test_only_what_is_asked_for_is_decoded() -> None:
    """Of what a path leads through, the rest may even be no JSON that we could read."""
    text = (
        b'{"a": {"b": [{"c": 1, "x": 1e999999}, {"x": "secret"}, 7], "x": "secret"},'
        b' "d": {"e": "f", "g": null}, "h": 0.10, "x": "secret"}'
    )
    names = ("a.b.c", "d", "d.e", "h", "missing", "h.i")

    found = read_json_fields(text, names)

    assert found["a.b.c"] == [1, None, None]
    assert found["d"] == {"e": "f"}
    assert found["d.e"] == "f"
    assert str(found["h"]) == "0.10"
    assert found.keys() == {"a.b.c", "d", "d.e", "h"}


def test_members_of_objects_and_of_json_are_the_same() -> None:
    """Whether a library decoded the answer, or we did."""
    answer = {"id": "1", "output": [{"type": "a", "action": {"type": "b"}}, {}]}
    names = ("id", "output.type", "output.action.type")

    assert read_fields(answer, names) == read_json_fields(
        json.dumps(answer).encode(), names
    )
