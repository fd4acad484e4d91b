"""Observe HTTP requests and their responses, whatever HTTP library they belong to.

Libraries differ in where a response can be observed. The rest is the same, and is here.
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
    """A request and its response, whose body may not be read yet.

    Attributes:
        method: The request's method, such as ``POST``.
        host: The host of the request's URL.
        path: The path of the request's URL, without the query.
        query: The query of the URL.
        request_json: The JSON object of the request. Empty, if it sent something else.
        status: The HTTP status of the response.
        headers: The headers of the response, by lower-case name.
        body: The body of the response. None, if it is not read yet.
    """

    @property
    def method(self) -> str: ...
    @property
    def host(self) -> str: ...
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

    def observe_body(self, what: str, sink: StreamSink[bytes]) -> None:
        """Pass the body to ``sink`` while the caller reads it."""
        ...


def observe_exchange(
    what: str,
    options: CaptureOptions,
    provider: str,
    exchange: HttpExchange,
    *,
    region: str | None = None,
) -> None:
    """Finish a call now, or when the body of its response has been read.

    Args:
        what: The library, for the log line of a failure.
        options: The options of the captured call.
        provider: The provider that responded.
        exchange: The request and its response.
        region: The region where the call ran, if the client knows it.
    """
    endpoint = find_endpoint(provider, exchange.method, exchange.path)
    if endpoint is None or exchange.status not in _SUCCESS:
        return
    request = exchange.request_json
    model = request.get("model")
    headers = exchange.headers
    call = Call(
        provider=provider,
        method=exchange.method,
        host=exchange.host,
        path=exchange.path,
        query=exchange.query,
        request=request,
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

    def finish(response: dict[str, Any], complete: bool) -> None:  # noqa: FBT001
        options.finish_call(endpoint, call, response, complete=complete)

    reader = body_reader(content_type, endpoint, finish)
    body = exchange.body
    if body is None:
        exchange.observe_body(what, reader)
    else:  # it may be a stream's, which the caller read in one piece
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
    """Finish the call of a response of httpx or httpx2. See `observe_exchange`."""
    observe_exchange(what, options, provider, _HttpxExchange(response), region=region)


_SUCCESS: Final = range(200, 300)

_REQUEST_IDS: Final = ("x-request-id", "request-id", "apim-request-id")


def request_id_in(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the request, or None without such a header."""
    for name in _REQUEST_IDS:
        if name in headers:
            return headers[name]
    return None


def query_of(text: str) -> Mapping[str, str]:
    """Return the parameters of a URL's query."""
    return dict(parse_qsl(text)) if text else {}


class _HttpxExchange:
    """An exchange of httpx or httpx2."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.method: str = response.request.method
        self.host: str = response.request.url.host
        # The raw path: there, a slash inside of a name is escaped.
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
        except RuntimeError:  # RequestNotRead: a body sent in parts is not kept
            content = b""
        return RequestJson(request.headers, content)

    @property
    def body(self) -> bytes | None:
        response = self._response
        return response.content if response.is_closed else None

    def observe_body(self, what: str, sink: StreamSink[bytes]) -> None:
        observe_body(what, self._response, sink)


class RequestJson(Mapping[str, Any]):
    """The JSON object of a request. Only the fields that are read are decoded.

    Empty, if the request sent something else.
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
                self._raw = {}  # not a JSON object
        return self._raw


_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value: Final = msgspec.json.Decoder()
