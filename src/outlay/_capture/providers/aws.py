"""Amazon Web Services, by botocore, on which boto3 sits.

Every operation of every client goes through ``BaseClient._make_api_call`` once, around
the library's own retries: in every version since 1.0, for clients made before and
after, and whoever else listens to a client's events. An operation is a path here, such
as ``/textract/AnalyzeDocument``, so an extractor of one's own reads any service.

What an answer streams, its caller reads as ever: a body in whatever parts, an event
stream event by event.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from outlay._capture.context.bind import ContextRun
from outlay._capture.extraction.fields import read_fields, read_json_fields
from outlay._capture.extraction.registry import Call, Endpoint, find_endpoint
from outlay._capture.instrumentation.library import (
    CaptureOptions,
    InstrumentedClients,
    Library,
    Patch,
)
from outlay._capture.instrumentation.streams import StreamObserver
from outlay._capture.instrumentation.wrappers import observe_result
from outlay._capture.providers import bedrock as _bedrock  # noqa: F401 - registers it
from outlay._capture.providers import textract
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

Answer = Mapping[str, Any]
T = TypeVar("T")

_MAX_BYTES: Final = 32 * 1024 * 1024
"""Most that is kept of a body until it was read."""

_decode: Final = msgspec.json.Decoder().decode


def _patches(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    def on_response(
        answer: Answer, client: Any, operation_name: str, api_params: Answer
    ) -> None:
        options = scope.options_for(client)
        if options is None:
            return
        service = client.meta.service_model.service_name
        if service == "textract":
            textract.remember(api_params, answer)
        path = f"/{service}/{operation_name}"
        provider = options.provider or "aws"
        endpoint = find_endpoint(provider, "POST", path) or find_endpoint(
            "aws", "POST", path
        )
        if endpoint is None:
            return
        job = textract.job_of(api_params) if service == "textract" else None
        if job is None:
            call = _call(provider, path, client, api_params, answer)
            _settle(_FinishCall(options, endpoint, call), answer)
            return
        call = _call(provider, path, client, {**api_params, **job.request}, answer)
        with ContextRun(job.owner or {}):
            _settle(_FinishCall(options, endpoint, call), answer)

    yield Patch(module.BaseClient, "_make_api_call", observe_result("aws", on_response))


def _call(
    provider: str, path: str, client: Any, params: Answer, answer: Answer
) -> Call:
    facts = answer.get("ResponseMetadata") or {}
    model = params.get("modelId")
    return Call(
        provider=provider,
        path=path,
        request=params,
        model=model if isinstance(model, str) else None,
        headers=facts.get("HTTPHeaders") or {},
        status=facts.get("HTTPStatusCode", 200),
        region=client.meta.region_name,
        request_id=facts.get("RequestId"),
    )


class _FinishCall:
    """A call to be settled when its answer is there: now, or once it was read."""

    def __init__(self, options: CaptureOptions, endpoint: Endpoint, call: Call) -> None:
        self._options = options
        self._call = call
        self.endpoint = endpoint

    def __call__(self, answer: Answer, *, complete: bool = True) -> None:
        """Settle it."""
        self._options.finish_call(self.endpoint, self._call, answer, complete=complete)


def _settle(settle: _FinishCall, answer: Answer) -> None:
    """Settle now, unless the answer has a body or events that tell what it cost."""
    part: Any
    for part in answer.values():
        if (
            hasattr(part, "get_initial_response")
            and settle.endpoint.merge_stream_event is not None
        ):
            kind: Any = type(part)
            part.__class__ = _watched(kind)
            part.outlay_watch = StreamObserver("aws", _EventSink(settle))
            return
        if hasattr(part, "iter_chunks") and "json" in (answer.get("contentType") or ""):
            watch: StreamObserver[bytes] = StreamObserver("aws", _BodySink(settle))
            vars(part)["_raw_stream"] = _ObservedRawStream(
                vars(part)["_raw_stream"], watch
            )
            return
    settle(read_fields(answer, settle.endpoint.fields))


@functools.cache
def _watched(kind: Any) -> Any:
    """Return the class of an event stream with somebody watching.

    Objects of ``kind`` become objects of it: the caller's own stream, by whatever name
    and in whatever isinstance().
    """

    def __iter__(stream: Any) -> Iterator[Any]:  # noqa: N807 - the method that it will be
        return _observe_iter(kind.__iter__(stream), stream.outlay_watch)

    def close(stream: Any) -> None:
        try:
            kind.close(stream)
        finally:
            stream.outlay_watch.on_close()

    names = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**names, "__iter__": __iter__, "close": close})


def _observe_iter(items: Iterator[T], watch: StreamObserver[T]) -> Iterator[T]:
    """Yield all items, watched. A loop that is left is not the end: others go on."""
    try:
        for item in items:
            watch.feed(item)
            yield item
    except GeneratorExit:
        raise
    except BaseException:
        watch.finish()
        raise
    watch.finish(exhausted=True)


class _EventSink:
    """Folds the events of a stream into an answer. Reads those that tell of costs."""

    def __init__(self, settle: _FinishCall) -> None:
        self._settle = settle
        self._merge_event = settle.endpoint.merge_stream_event
        self._marks = settle.endpoint.markers
        self._answer: dict[str, Any] = {}
        self._complete = False

    def feed(self, item: Mapping[str, Any]) -> None:
        """Learn from an event: Bedrock wraps those of a model as JSON in ``chunk``."""
        event: Any = item
        if "chunk" in item:
            data = item["chunk"].get("bytes", b"")
            if not any(mark in data for mark in self._marks):
                return
            event = _decode(data)
        if self._merge_event is not None and isinstance(event, Mapping):
            self._complete = self._merge_event(self._answer, event) or self._complete

    def finish(self, *, exhausted: bool) -> None:
        """Settle: nothing more will come."""
        self._settle(self._answer, complete=self._complete or exhausted)


class _BodySink:
    """Keeps a JSON body until it was read to its end."""

    def __init__(self, settle: _FinishCall) -> None:
        self._settle = settle
        self._pieces = bytearray()

    def feed(self, item: bytes) -> None:
        """Keep a part of the body."""
        if len(self._pieces) <= _MAX_BYTES:
            self._pieces += item

    def finish(self, *, exhausted: bool) -> None:
        """Settle. A JSON object has an end of its own: what is cut off is none."""
        del exhausted
        try:
            answer = read_json_fields(bytes(self._pieces), self._settle.endpoint.fields)
        except msgspec.DecodeError:
            self._settle({}, complete=False)
        else:
            self._settle(answer)


class _ObservedRawStream:
    """The stream below a ``StreamingBody``, which reads it in all of its ways.

    What else it has comes from the stream itself.
    """

    def __init__(self, raw: Any, watch: StreamObserver[bytes]) -> None:
        self._raw = raw
        self._watch = watch

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Read up to so many bytes; None: all of them."""
        whole = amt is None or amt < 0
        chunk = self._reading(self._raw.read, amt, *args, **kwargs)
        return self._record_read(chunk, chunk, last=whole or (amt != 0 and not chunk))

    def readinto(self, buffer: Any) -> Any:
        """Read up to as many bytes as ``buffer`` has room for."""
        count = self._reading(self._raw.readinto, buffer)
        seen = bytes(memoryview(buffer)[: count or 0])
        return self._record_read(count, seen, last=not count and len(buffer) > 0)

    def readlines(self, *args: Any) -> Any:
        """Read all lines."""
        lines = self._reading(self._raw.readlines, *args)
        return self._record_read(lines, b"".join(lines), last=True)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Iterate over the bytes in parts."""
        return _observe_iter(self._raw.stream(*args, **kwargs), self._watch)

    def __iter__(self) -> Iterator[bytes]:
        return _observe_iter(iter(self._raw), self._watch)

    def close(self) -> None:
        """Close the stream."""
        try:
            self._raw.close()
        finally:
            self._watch.on_close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def _reading(self, read: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return read(*args, **kwargs)
        except BaseException:
            self._watch.finish()
            raise

    def _record_read(self, result: Any, seen: bytes, *, last: bool) -> Any:
        self._watch.feed(seen)
        if last:
            self._watch.finish(exhausted=True)
        return result


def _patched_objects(client: Any) -> Iterable[object]:
    if inspect.iscoroutinefunction(type(client)._make_api_call):  # noqa: SLF001 - the seam
        raise ConfigError(
            "the calls of aiobotocore's clients cannot be captured; "
            "track their costs with outlay.track_cost"
        )
    return (client,)


LIBRARY: Final = Library(
    "boto3", _patches, module="botocore.client", patched_objects=_patched_objects
)
