"""Amazon's services behind real boto3 clients: nothing goes over the network."""

from __future__ import annotations

import base64
import io
import json
from binascii import crc32
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import boto3  # type: ignore[import-untyped]
import urllib3
from botocore.awsrequest import AWSResponse  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REGION: Final = "us-east-1"
EVENTS: Final = "application/vnd.amazon.eventstream"


class Answer(NamedTuple):
    """What a service answers once.

    Attributes:
        body: JSON, bytes, or something to read.
        headers: besides the content type and the request id.
        status: of HTTP.
        request_id: which Amazon gives to each attempt.
        kind: the content type.
    """

    body: Any
    headers: Mapping[str, str] = {}
    status: int = 200
    request_id: str = "req-1"
    kind: str = "application/json"


class Service:
    """Answers one call after the other as it was told.

    Attributes:
        requests: that came, prepared and signed.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.requests: list[Any] = []

    def client(self, name: str) -> Any:
        """Return a client of boto3 that knows only this service."""
        client = boto3.client(
            name,
            region_name=REGION,
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="secret",
        )
        client.meta.events.register("before-send", self._answer)
        # What fails is tried again at once: botocore asks how long to wait.
        client.meta.events.register_first("needs-retry", _at_once)
        return client

    def _answer(self, request: Any, **_: object) -> AWSResponse:
        self.requests.append(request)
        body, headers, status, request_id, kind = self._answers.pop(0)
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        source = io.BytesIO(content) if isinstance(content, bytes) else content
        raw = urllib3.HTTPResponse(source, preload_content=False)
        told = {
            "content-type": kind,
            "content-length": str(len(content)) if source is not content else "",
            "x-amzn-requestid": request_id,
            **headers,
        }
        return AWSResponse(request.url, status, told, raw)


def _at_once(response: Any, **_: object) -> float | None:
    failed = response is not None and response[0].status_code >= 500
    return 0.0 if failed else None


def conversed(*events: tuple[str, Mapping[str, Any]]) -> Answer:
    """Return the answer of ``ConverseStream``: events by name."""
    messages = (_message(name, json.dumps(event).encode()) for name, event in events)
    return Answer(b"".join(messages), kind=EVENTS)


def invoked(*events: Mapping[str, Any]) -> Answer:
    """Return the answer of ``InvokeModelWithResponseStream``: a model's events."""
    return Answer(b"".join(chunks(events)), kind=EVENTS)


def chunks(events: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
    """Return a model's events as Bedrock wraps them."""
    for event in events:
        data = base64.b64encode(json.dumps(event).encode()).decode()
        yield _message("chunk", json.dumps({"bytes": data}).encode())


def failed(reason: str) -> bytes:
    """Return the event by which a stream tells that it broke."""
    body = json.dumps({"message": reason}).encode()
    return _message("modelStreamErrorException", body, kind="exception")


def _message(name: str, payload: bytes, kind: str = "event") -> bytes:
    """Return a message of an event stream.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
    """
    of = ":exception-type" if kind == "exception" else ":event-type"
    headers = b"".join(
        _header(*each)
        for each in (
            (of, name),
            (":content-type", "application/json"),
            (":message-type", kind),
        )
    )
    total = 12 + len(headers) + len(payload) + 4
    prelude = total.to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    message = prelude + crc32(prelude).to_bytes(4, "big") + headers + payload
    return message + crc32(message).to_bytes(4, "big")


def _header(name: str, value: str) -> bytes:
    text = 7  # the type of the value
    return (
        bytes([len(name)])
        + name.encode()
        + bytes([text])
        + len(value).to_bytes(2, "big")
        + value.encode()
    )
