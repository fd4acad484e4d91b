"""Exchanges: a request and its response, as httpx and httpx2 have them.

Libraries on top of these differ in where the response passes by; what to do with it is
here, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay._capture.answers import members_of_json
from outlay._capture.bodies import reader_of
from outlay._capture.registry import Call, find
from outlay._capture.streams import watch_body

if TYPE_CHECKING:
    from outlay._capture.instrumenting import Options


def settle_response(
    what: str,
    options: Options,
    provider: str,
    response: Any,
    *,
    region: str | None = None,
) -> None:
    """Settle the call that a response answers: now, or when its body has been read.

    Args:
        what: is being captured; for the log line of a failure.
        options: how the call is captured.
        provider: who answered.
        response: of httpx or httpx2, with its request.
        region: where the call ran, where the client knows.
    """
    request = response.request
    endpoint = find(provider, request.method, request.url.path)
    if endpoint is None or not response.is_success:
        return
    sent = Sent(request)
    model = sent.get("model")
    call = Call(
        provider=provider,
        method=request.method,
        path=request.url.path,
        request=sent,
        model=model if isinstance(model, str) else None,
        headers=response.headers,
        status=response.status_code,
        region=region,
    )
    if endpoint.fields == ():
        options.settle(endpoint, call, {})
    elif response.is_closed:
        body = members_of_json(response.content, endpoint.fields)
        options.settle(endpoint, call, body)
    else:

        def settle(answer: dict[str, Any], complete: bool) -> None:  # noqa: FBT001
            options.settle(endpoint, call, answer, complete=complete)

        content_type = response.headers.get("content-type", "")
        watch_body(what, response, reader_of(content_type, endpoint, settle))


class Sent(Mapping[str, Any]):
    """The JSON object that a request sent; of it, only what is looked at is decoded.

    Empty where the request sent something else.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._raw: dict[str, msgspec.Raw] | None = None

    def __getitem__(self, name: str) -> Any:
        return _value.decode(self._members()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._members())

    def __len__(self) -> int:
        return len(self._members())

    def _members(self) -> dict[str, msgspec.Raw]:
        if self._raw is None:
            kind = self._request.headers.get("content-type", "")
            try:
                self._raw = (
                    _members.decode(self._request.content) if "json" in kind else {}
                )
            except (RuntimeError, msgspec.DecodeError):
                self._raw = {}  # a streamed body is gone; others are no objects
        return self._raw


_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value: Final = msgspec.json.Decoder()
