"""Exchanges: a request and its response, whichever HTTP library they are of.

Libraries on top differ in where the response passes by; what to do with it is here,
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec

from outlay._capture.extraction.registry import Call, find_endpoint
from outlay._capture.instrumentation.body_readers import body_reader, has_cost_fields
from outlay._capture.instrumentation.streams import observe_body

if TYPE_CHECKING:
    from outlay._capture.instrumentation.library import CaptureOptions
    from outlay._capture.instrumentation.streams import StreamSink


class HttpExchange(Protocol):
    """A request, and the response that has come, or begins to come.

    Attributes:
        method: of the request, such as ``POST``.
        path: of its URL, without the query.
        query: the query.
        request_json: the JSON object that it sent, or nothing.
        status: of the response, as in HTTP.
        headers: of the response, by lower-case name.
        body: of the response; None: nobody has read it yet.
    """

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> Mapping[str, str]: ...
    @property
    def request_json(self) -> Mapping[str, Any]: ...
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes | None: ...

    def observe_body(self, what: str, reader: StreamSink[bytes]) -> None:
        """Let ``reader`` see the body while whoever made the call reads it."""
        ...


def observe_exchange(
    what: str,
    options: CaptureOptions,
    provider: str,
    exchange: HttpExchange,
    *,
    region: str | None = None,
) -> None:
    """Settle a call: now, or when the body of its response has been read.

    Args:
        what: is being captured; for the log line of a failure.
        options: how the call is captured.
        provider: who answered.
        exchange: the call.
        region: where the call ran, where the client knows.
    """
    endpoint = find_endpoint(provider, exchange.method, exchange.path)
    if endpoint is None or exchange.status not in _SUCCESS:
        return
    sent = exchange.request_json
    model = sent.get("model")
    headers = exchange.headers
    call = Call(
        provider=provider,
        method=exchange.method,
        path=exchange.path,
        query=exchange.query,
        request=sent,
        model=model if isinstance(model, str) else None,
        headers=headers,
        status=exchange.status,
        region=region,
        request_id=request_id_in(headers),
    )
    content_type = headers.get("content-type", "")
    if not has_cost_fields(content_type, endpoint):
        options.finish_call(endpoint, call, {})
        return

    def settle_read(answer: dict[str, Any], complete: bool) -> None:  # noqa: FBT001
        options.finish_call(endpoint, call, answer, complete=complete)

    reader = body_reader(content_type, endpoint, settle_read)
    body = exchange.body
    if body is None:
        exchange.observe_body(what, reader)
    else:  # of a stream, too, if that is how the caller reads it
        reader.feed(body)
        reader.finish(exhausted=True)


def observe_httpx_response(
    what: str,
    options: CaptureOptions,
    provider: str,
    response: Any,
    *,
    region: str | None = None,
) -> None:
    """Settle the call that a response of httpx or httpx2 answers; see `settle`."""
    observe_exchange(what, options, provider, _HttpxExchange(response), region=region)


_SUCCESS: Final = range(200, 300)

_REQUEST_IDS: Final = ("x-request-id", "request-id", "apim-request-id")


def request_id_in(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the request; None: the response tells none."""
    for name in _REQUEST_IDS:
        if name in headers:
            return headers[name]
    return None


def query_of(text: str) -> Mapping[str, str]:
    """Return the parts of a URL's query."""
    return dict(parse_qsl(text)) if text else {}


class _HttpxExchange:
    """As httpx and httpx2 have it."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.method: str = response.request.method
        # As it was sent: a slash within a name is no end of it.
        raw: bytes = response.request.url.raw_path
        self.path = raw.partition(b"?")[0].decode()
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    @property
    def query(self) -> Mapping[str, str]:
        return query_of(self._response.request.url.query.decode())

    @property
    def request_json(self) -> Mapping[str, Any]:
        request = self._response.request
        try:
            content = request.content
        except RuntimeError:  # RequestNotRead: what is sent in parts is gone
            content = b""
        return RequestJson(request.headers, content)

    @property
    def body(self) -> bytes | None:
        response = self._response
        return response.content if response.is_closed else None

    def observe_body(self, what: str, reader: StreamSink[bytes]) -> None:
        observe_body(what, self._response, reader)


class RequestJson(Mapping[str, Any]):
    """The JSON object that a request sent; of it, only what is looked at is decoded.

    Empty where the request sent something else.
    """

    def __init__(self, headers: Mapping[str, str], content: bytes) -> None:
        self._kind = headers.get("content-type") or ""
        self._content = content
        self._raw: dict[str, msgspec.Raw] | None = None

    def __getitem__(self, name: str) -> Any:
        return _value.decode(self._members()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    def __len__(self) -> int:
        return len(self._members())

    def _members(self) -> dict[str, msgspec.Raw]:
        if self._raw is None:
            try:
                self._raw = (
                    _members.decode(self._content) if "json" in self._kind else {}
                )
            except msgspec.DecodeError:
                self._raw = {}  # no object
        return self._raw


_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value: Final = msgspec.json.Decoder()
