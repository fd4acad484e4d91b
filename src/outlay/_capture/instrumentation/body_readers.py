"""Read responses from the bytes of HTTP bodies, while they pass."""

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

    FinishResponse = Callable[[dict[str, Any], bool], None]

_MAX_BYTES: Final = 32 * 1024 * 1024
"""The largest response that is read in parts, and the largest event."""

_MAX_HEAD: Final = 64 * 1024
"""Bytes in which a marker must come, where other files may be read, too."""

_DONE: Final = b"[DONE]"

_decode: Final = msgspec.json.Decoder(float_hook=Decimal).decode


def has_cost_fields(content_type: str, endpoint: Endpoint) -> bool:
    """Return whether a body of that type has fields that the extractor reads."""
    return endpoint.fields != () or bool(
        endpoint.merge_stream_event and _framing(content_type)
    )


def _framing(content_type: str) -> Callable[[], Framing] | None:
    return _FRAMINGS.get(content_type.partition(";")[0].strip().lower())


def body_reader(
    content_type: str, endpoint: Endpoint, finish: FinishResponse
) -> StreamSink[bytes]:
    """Return a sink that reads a body of that type for an endpoint.

    Args:
        content_type: The type of the body.
        endpoint: The endpoint whose extractor reads the response.
        finish: Called at the end with the response, and whether it is complete.
    """
    if endpoint.is_json_lines:
        return LineReader(endpoint, finish)
    framing = _framing(content_type)
    if framing is None or endpoint.merge_stream_event is None:
        return _JsonReader(endpoint, finish)
    return EventReader(endpoint, finish, framing())


class _JsonReader:
    """Keeps the body, and decodes it at the end."""

    def __init__(self, endpoint: Endpoint, finish: FinishResponse) -> None:
        self._fields = endpoint.fields
        self._finish = finish
        self._body = bytearray()

    def feed(self, item: bytes) -> None:
        if len(self._body) <= _MAX_BYTES:
            self._body += item

    def finish(self, *, exhausted: bool) -> None:
        whole = exhausted and len(self._body) <= _MAX_BYTES
        response = read_json_fields(bytes(self._body), self._fields) if whole else {}
        self._finish(response, whole)


class LineReader:
    """Finishes each line of a body by itself, when it has passed.

    A line that cannot be read does not hold up the others.
    """

    def __init__(self, endpoint: Endpoint, finish: FinishResponse) -> None:
        self._endpoint = endpoint
        self._finish = finish
        self._pieces: list[bytes] = []  # of the line that has not ended yet
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
        """Decide by the first bytes whether the body has the expected format."""
        self._first = False
        self._other_format = not any(
            marker in head[:_MAX_HEAD] for marker in self._endpoint.markers
        )
        if self._other_format:
            self._pieces = []

    def _read(self, line: bytes) -> None:
        self._finish(read_json_fields(line, self._endpoint.fields), True)  # noqa: FBT003 - a line is whole

    def finish(self, *, exhausted: bool) -> None:
        if exhausted:
            self._line()


class EventReader:
    """Merges the events of a stream into one response."""

    def __init__(
        self, endpoint: Endpoint, finish: FinishResponse, framing: Framing
    ) -> None:
        assert endpoint.merge_stream_event is not None  # noqa: S101 - for mypy; see body_reader
        self._merge = endpoint.merge_stream_event
        self._markers = endpoint.markers
        self._finish = finish
        self._framing = framing
        self._response: dict[str, Any] = {}
        self._complete = False
        self._first = True

    def feed(self, item: bytes) -> None:
        # Most of a stream is content. Even its framing need not be read.
        if not self._first and self._framing.can_skip(item, self._markers):
            return
        for data in self._framing.feed(item):
            if self._first or any(marker in data for marker in self._markers):
                self._event(data)

    def _event(self, data: bytes) -> None:
        event = _decode(data)
        if isinstance(event, dict):
            self._first = False
            self._complete = self._merge(self._response, event) or self._complete

    def finish(self, *, exhausted: bool) -> None:
        complete = self._complete or exhausted or self._framing.done
        self._finish(self._response, complete)


class Framing(Protocol):
    """Splits bytes into the data of events."""

    done: bool
    """Whether the stream has sent its end marker."""

    def can_skip(self, item: bytes, markers: Sequence[bytes]) -> bool:
        """Return whether ``item`` is whole events, without any marker or end."""
        ...

    def feed(self, item: bytes) -> Iterator[bytes]:
        """Yield the data of every event that ``item`` completes."""
        ...


class ServerSentEvents:
    """The framing of ``text/event-stream``.

    Only what providers use is read: the data of every event is one JSON value.
    Source: WHATWG HTML, section 9.2.6.
    """

    def __init__(self) -> None:
        self.done = False
        self._pieces: list[bytes] = []  # of the line that has not ended yet
        self._kept = 0

    def can_skip(self, item: bytes, markers: Sequence[bytes]) -> bool:
        """Return whether ``item`` is whole lines, without any marker or end."""
        if self._pieces or item[-1:] != b"\n" or _DONE in item:
            return False
        for marker in markers:  # noqa: SIM110 - any() takes three times as long
            if marker in item:
                return False
        return True

    def feed(self, item: bytes) -> Iterator[bytes]:
        """Yield the data of every event that ``item`` completes."""
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

    A message has a total length, the length of its headers, a checksum, the headers,
    the payload, and a checksum. The payload is the event. Where Bedrock wraps a model's
    own events, the payload's field ``bytes`` holds one of them, in base64.
    Source: https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html
    """

    def __init__(self) -> None:
        self.done = False
        self._rest = b""

    def can_skip(self, item: bytes, markers: Sequence[bytes]) -> bool:  # noqa: ARG002 - see Framing
        """Return False, because a message must be decoded to find markers."""
        return False

    def feed(self, item: bytes) -> Iterator[bytes]:
        """Yield the data of every event that ``item`` completes."""
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
