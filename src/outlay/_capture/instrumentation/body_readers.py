"""Bodies: makes an answer of the bytes of an HTTP response, as they pass by."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from outlay._capture.extraction.fields import read_json_fields
from outlay._capture.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from outlay._capture.extraction.registry import Endpoint
    from outlay._capture.instrumentation.streams import StreamSink

    Settle = Callable[[dict[str, Any], bool], None]

_MAX_BYTES: Final = 32 * 1024 * 1024
"""Most that is kept of an answer that is read in parts, and of one event."""

_MAX_HEAD: Final = 64 * 1024
"""Most bytes until a mark, where other files may be read than those with marks."""

_DONE: Final = b"[DONE]"

_decode: Final = msgspec.json.Decoder(float_hook=Decimal).decode


def has_cost_fields(content_type: str, endpoint: Endpoint) -> bool:
    """Return whether a body of that type tells anything that the call does not."""
    return endpoint.fields != () or bool(
        endpoint.merge_stream_event and _framing(content_type)
    )


def _framing(content_type: str) -> Callable[[], Framing] | None:
    return _FRAMINGS.get(content_type.partition(";")[0].strip().lower())


def body_reader(
    content_type: str, endpoint: Endpoint, settle: Settle
) -> StreamSink[bytes]:
    """Return what reads a body of that type for an endpoint.

    Args:
        content_type: of the body.
        endpoint: whose extractor will read the answer.
        settle: called at the end with the answer, and whether it is complete.
    """
    if endpoint.is_json_lines:
        return LineReader(endpoint, settle)
    framing = _framing(content_type)
    if framing is None or endpoint.merge_stream_event is None:
        return _JsonReader(endpoint, settle)
    return EventReader(endpoint, settle, framing())


class _JsonReader:
    """Keeps the body to decode it at the end."""

    def __init__(self, endpoint: Endpoint, settle: Settle) -> None:
        self._fields = endpoint.fields
        self._settle = settle
        self._body = bytearray()

    def feed(self, item: bytes) -> None:
        if len(self._body) <= _MAX_BYTES:
            self._body += item

    def finish(self, *, exhausted: bool) -> None:
        whole = exhausted and len(self._body) <= _MAX_BYTES
        answer = read_json_fields(bytes(self._body), self._fields) if whole else {}
        self._settle(answer, whole)


class LineReader:
    """Settles each line of a body by itself, as soon as it has passed by.

    A line that cannot be read does not hold up the others.
    """

    def __init__(self, endpoint: Endpoint, settle: Settle) -> None:
        self._endpoint = endpoint
        self._settle = settle
        self._pieces: list[bytes] = []  # of the line that has no end yet
        self._kept = 0
        self._first = True
        self._other_format = False

    def feed(self, item: bytes) -> None:
        start = 0
        while not self._other_format and (end := item.find(b"\n", start)) >= 0:
            self._keep(item[start:end])
            self._line()
            start = end + 1
        if not self._other_format:
            self._keep(item[start:])

    def _keep(self, piece: bytes) -> None:
        self._kept += len(piece)
        if piece and self._kept <= _MAX_BYTES:
            self._pieces.append(piece)
        if self._first and self._kept > _MAX_HEAD:
            self._check_format(b"".join(self._pieces))

    def _line(self) -> None:
        line = b"".join(self._pieces).strip()
        if line and self._first:
            self._check_format(line)
        if line and self._kept <= _MAX_BYTES and not self._other_format:
            guarded("a line of a batch", self._read, line)
        self._pieces, self._kept = [], 0

    def _check_format(self, head: bytes) -> None:
        """Tell by how it begins whether the body is of the kind that is read."""
        self._first = False
        self._other_format = not any(
            mark in head[:_MAX_HEAD] for mark in self._endpoint.markers
        )
        if self._other_format:
            self._pieces = []

    def _read(self, line: bytes) -> None:
        self._settle(read_json_fields(line, self._endpoint.fields), True)  # noqa: FBT003 - a line is whole

    def finish(self, *, exhausted: bool) -> None:
        if exhausted:
            self._line()


class EventReader:
    """Folds the events of a stream into an answer."""

    def __init__(self, endpoint: Endpoint, settle: Settle, framing: Framing) -> None:
        assert endpoint.merge_stream_event is not None  # noqa: S101 - for mypy; see reader_of
        self._fold = endpoint.merge_stream_event
        self._marks = endpoint.markers
        self._settle = settle
        self._framing = framing
        self._answer: dict[str, Any] = {}
        self._complete = False
        self._first = True

    def feed(self, item: bytes) -> None:
        # Most of a stream is content, of which not even the framing matters.
        if not self._first and self._framing.can_skip(item, self._marks):
            return
        for data in self._framing.feed(item):
            if self._first or any(mark in data for mark in self._marks):
                self._event(data)

    def _event(self, data: bytes) -> None:
        event = _decode(data)
        if isinstance(event, dict):
            self._first = False
            self._complete = self._fold(self._answer, event) or self._complete

    def finish(self, *, exhausted: bool) -> None:
        complete = self._complete or exhausted or self._framing.done
        self._settle(self._answer, complete)


class Framing(Protocol):
    """Cuts bytes into the data of events."""

    done: bool
    """Whether the stream said that it is over."""

    def can_skip(self, item: bytes, marks: Sequence[bytes]) -> bool:
        """Return whether ``item`` is whole events, and no mark or end is in them."""
        ...

    def feed(self, item: bytes) -> Iterator[bytes]:
        """Return the data of every event that ``item`` completes."""
        ...


class ServerSentEvents:
    """The framing of ``text/event-stream``.

    Source: WHATWG HTML, section 9.2.6, as far as providers use it: every event's data
    is one JSON value.
    """

    def __init__(self) -> None:
        self.done = False
        self._pieces: list[bytes] = []  # of the line that has no end yet
        self._kept = 0

    def can_skip(self, item: bytes, marks: Sequence[bytes]) -> bool:
        """Return whether ``item`` is whole lines, and no mark or end is in them."""
        if self._pieces or item[-1:] != b"\n" or _DONE in item:
            return False
        for mark in marks:  # noqa: SIM110 - any() takes thrice as long
            if mark in item:
                return False
        return True

    def feed(self, item: bytes) -> Iterator[bytes]:
        """Return the data of every event that ``item`` completes."""
        head, newline, tail = item.rpartition(b"\n")
        if not newline:
            self._keep(item)
            return
        lines = b"".join((*self._pieces, head)).split(b"\n")
        self._pieces, self._kept = [], 0
        self._keep(tail)
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == _DONE:
                    self.done = True
                elif data:
                    yield data

    def _keep(self, piece: bytes) -> None:
        self._kept += len(piece)
        if piece and self._kept <= _MAX_BYTES:
            self._pieces.append(piece)


class AwsEventStream:
    """The framing of Amazon's event streams.

    A message: total length, length of the headers, a checksum, the headers, the
    payload, a checksum. The payload is the event; where Bedrock wraps a model's own
    events, its member ``bytes`` holds one of them, in base64.
    Source: https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html
    """

    def __init__(self) -> None:
        self.done = False
        self._rest = b""

    def can_skip(self, item: bytes, marks: Sequence[bytes]) -> bool:  # noqa: ARG002 - as Framing has it
        """Return False: what is in a message cannot be told without decoding it."""
        return False

    def feed(self, item: bytes) -> Iterator[bytes]:
        """Return the data of every event that ``item`` completes."""
        self._rest += item
        while len(self._rest) >= _PRELUDE:
            total = int.from_bytes(self._rest[:4], "big")
            if not _LEAST <= total <= _MAX_BYTES:
                raise ValueError("not an Amazon event stream")
            if len(self._rest) < total:
                return
            message, self._rest = self._rest[:total], self._rest[total:]
            headers = int.from_bytes(message[4:8], "big")
            event = message[_PRELUDE + headers : -4]
            payload = _decode(event)
            wrapped = "bytes" in payload
            yield base64.b64decode(payload["bytes"]) if wrapped else event


_PRELUDE: Final = 12  # bytes: two lengths and their checksum
_LEAST: Final = 16  # bytes of a message without headers and payload

_FRAMINGS: Final[dict[str, Callable[[], Framing]]] = {
    "text/event-stream": ServerSentEvents,
    "application/vnd.amazon.eventstream": AwsEventStream,
}
