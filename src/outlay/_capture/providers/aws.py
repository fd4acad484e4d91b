"""Capture Amazon Web Services through botocore, boto3 and aiobotocore.

Every operation of every client goes through ``_make_api_call`` once, around the
library's own retries. That holds in every version since 1.0, for earlier and later
clients. An operation is a path here, such as ``/textract/AnalyzeDocument``. So a user's
own extractor can read any service.

A response may contain a body, which the caller reads in parts, or a stream of events.
The caller reads both as ever.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from outlay._capture.context.bind import ContextRun
from outlay._capture.extraction.fields import read_fields
from outlay._capture.extraction.registry import Call, Endpoint, find_endpoint
from outlay._capture.instrumentation.body_readers import body_reader
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

Response = Mapping[str, Any]
T = TypeVar("T")

_decode: Final = msgspec.json.Decoder().decode


def _patches(
    class_name: str, module: ModuleType, scope: InstrumentedClients
) -> Iterable[Patch]:
    def on_response(
        response: Response, client: Any, operation_name: str, api_params: Response
    ) -> None:
        options = scope.options_for(client)
        if options is None:
            return
        service = client.meta.service_model.service_name
        if service == "textract":
            textract.remember(api_params, response)
        path = f"/{service}/{operation_name}"
        provider = options.provider or "aws"
        endpoint = find_endpoint(provider, "POST", path) or find_endpoint(
            "aws", "POST", path
        )
        if endpoint is None:
            return
        job = textract.job_of(api_params) if service == "textract" else None
        params = api_params if job is None else {**api_params, **job.request}
        call = _call(provider, path, client, params, response)
        with ContextRun((job and job.owner) or {}):
            _finish(_OpenCall(options, endpoint, call), response)

    owner = getattr(module, class_name)
    yield Patch(owner, "_make_api_call", observe_result("aws", on_response))


def _call(
    provider: str, path: str, client: Any, params: Response, response: Response
) -> Call:
    metadata = response.get("ResponseMetadata") or {}
    model = params.get("modelId")
    return Call(
        provider=provider,
        path=path,
        request=params,
        model=model if isinstance(model, str) else None,
        headers=metadata.get("HTTPHeaders") or {},
        status=metadata.get("HTTPStatusCode", 200),
        region=client.meta.region_name,
        request_id=metadata.get("RequestId"),
    )


class _OpenCall:
    """A call that is finished when its response was read."""

    def __init__(self, options: CaptureOptions, endpoint: Endpoint, call: Call) -> None:
        self._options = options
        self._call = call
        self.endpoint = endpoint

    def finish(self, response: dict[str, Any], complete: bool) -> None:  # noqa: FBT001 - as body readers call it
        """Finish the call."""
        self._options.finish_call(
            self.endpoint, self._call, response, complete=complete
        )


def _finish(call: _OpenCall, response: Response) -> None:
    """Finish now, unless the response has a body or events that contain the cost."""
    part: Any
    kind: Any
    for part in response.values():
        if (
            hasattr(part, "get_initial_response")
            and call.endpoint.merge_stream_event is not None
        ):
            kind = type(part)
            part.__class__ = _observed_stream(kind)
            part.outlay_observer = StreamObserver("aws", _EventSink(call))
            return
        if hasattr(part, "iter_chunks") and "json" in (
            response.get("contentType") or ""
        ):
            observer: StreamObserver[bytes] = StreamObserver("aws", _BodySink(call))
            kind = type(part)
            if hasattr(kind, "__aiter__"):
                part.__class__ = _observed_body(kind)
                part.outlay_observer = observer
            else:
                fields = vars(part)
                fields["_raw_stream"] = _ObservedRawStream(
                    fields["_raw_stream"], observer
                )
            return
    call.finish(read_fields(response, call.endpoint.fields), True)  # noqa: FBT003


@functools.cache
def _observed_stream(kind: Any) -> Any:
    """Return a subclass of an event stream's class whose streams are observed.

    The caller's own stream becomes an object of it, by any name and any isinstance().
    """

    def __iter__(stream: Any) -> Iterator[Any]:  # noqa: N807 - becomes the method
        return _observe_iter(kind.__iter__(stream), stream.outlay_observer)

    def __aiter__(stream: Any) -> AsyncIterator[Any]:  # noqa: N807 - becomes the method
        return _observe_aiter(kind.__aiter__(stream), stream.outlay_observer)

    methods: dict[str, Any] = {"__iter__": __iter__}
    if hasattr(kind, "__aiter__"):
        methods["__aiter__"] = __aiter__
    return _subclass(kind, **methods)


@functools.cache
def _observed_body(kind: Any) -> Any:
    """Return a subclass of an asynchronous body's class whose bodies are observed.

    All public ways to read such a body go through ``read``.
    """

    async def read(body: Any, amt: int | None = None) -> Any:
        observer = body.outlay_observer
        try:
            chunk = await kind.read(body, amt)
        except BaseException:
            observer.finish()
            raise
        observer.feed(chunk)
        if amt is None or amt < 0 or (amt != 0 and not chunk):
            observer.finish(exhausted=True)
        return chunk

    return _subclass(kind, read=read)


def _subclass(kind: Any, **methods: Any) -> Any:
    def close(stream: Any) -> None:
        try:
            kind.close(stream)
        finally:
            stream.outlay_observer.on_close()

    names = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**names, **methods, "close": close})


def _observe_iter(items: Iterator[T], observer: StreamObserver[T]) -> Iterator[T]:
    """Yield all items, observed. A loop may be left and continued by another one."""
    try:
        for item in items:
            observer.feed(item)
            yield item
    except GeneratorExit:
        raise
    except BaseException:
        observer.finish()
        raise
    observer.finish(exhausted=True)


async def _observe_aiter(
    items: AsyncIterator[T], observer: StreamObserver[T]
) -> AsyncIterator[T]:
    """Yield all items, observed: the asynchronous twin of `_observe_iter`."""
    try:
        async for item in items:
            observer.feed(item)
            yield item
    except GeneratorExit:
        raise
    except BaseException:
        observer.finish()
        raise
    observer.finish(exhausted=True)


class _EventSink:
    """Merges the events of a stream into a response, as far as they contain costs."""

    def __init__(self, call: _OpenCall) -> None:
        self._call = call
        self._merge_event = call.endpoint.merge_stream_event
        self._markers = call.endpoint.markers
        self._response: dict[str, Any] = {}
        self._complete = False

    def feed(self, item: Mapping[str, Any]) -> None:
        """Merge an event. Bedrock wraps a model's events as JSON in ``chunk``."""
        event: Any = item
        if "chunk" in item:
            data = item["chunk"].get("bytes", b"")
            if not any(marker in data for marker in self._markers):
                return
            event = _decode(data)
        if self._merge_event is not None and isinstance(event, Mapping):
            self._complete = self._merge_event(self._response, event) or self._complete

    def finish(self, *, exhausted: bool) -> None:
        """Finish the call with the events that came."""
        self._call.finish(self._response, self._complete or exhausted)


class _BodySink:
    """Reads a JSON body, which shows by itself whether it is whole."""

    def __init__(self, call: _OpenCall) -> None:
        self._call = call
        self._reader = body_reader("application/json", call.endpoint, call.finish)
        self.feed = self._reader.feed

    def finish(self, *, exhausted: bool) -> None:
        """Finish the call. Callers may stop before the end that they know of."""
        del exhausted
        try:
            self._reader.finish(exhausted=True)
        except msgspec.DecodeError:
            self._call.finish({}, False)  # noqa: FBT003


class _ObservedRawStream:
    """The stream inside a ``StreamingBody``, observed in all ways to read it.

    Other attributes come from the stream itself.
    """

    def __init__(self, raw: Any, observer: StreamObserver[bytes]) -> None:
        self._raw = raw
        self._observer = observer

    def read(self, amt: int | None = None, *args: Any, **kwargs: Any) -> Any:
        """Read up to ``amt`` bytes. If None, read all of them."""
        whole = amt is None or amt < 0
        chunk = self._reading(self._raw.read, amt, *args, **kwargs)
        return self._record_read(chunk, chunk, last=whole or (amt != 0 and not chunk))

    def readinto(self, buffer: Any) -> Any:
        """Read up to as many bytes as ``buffer`` can hold."""
        count = self._reading(self._raw.readinto, buffer)
        read = bytes(memoryview(buffer)[: count or 0])
        return self._record_read(count, read, last=not count and len(buffer) > 0)

    def readlines(self, *args: Any) -> Any:
        """Read all lines."""
        lines = self._reading(self._raw.readlines, *args)
        return self._record_read(lines, b"".join(lines), last=True)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Iterate over the bytes in parts."""
        return _observe_iter(self._raw.stream(*args, **kwargs), self._observer)

    def __iter__(self) -> Iterator[bytes]:
        return _observe_iter(iter(self._raw), self._observer)

    def close(self) -> None:
        """Close the stream."""
        try:
            self._raw.close()
        finally:
            self._observer.on_close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def _reading(self, read: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return read(*args, **kwargs)
        except BaseException:
            self._observer.finish()
            raise

    def _record_read(self, result: Any, read: bytes, *, last: bool) -> Any:
        self._observer.feed(read)
        if last:
            self._observer.finish(exhausted=True)
        return result


LIBRARY: Final = Library(
    "boto3", functools.partial(_patches, "BaseClient"), module="botocore.client"
)
AIOBOTOCORE: Final = Library(
    "aiobotocore",
    functools.partial(_patches, "AioBaseClient"),
    module="aiobotocore.client",
)
"""aioboto3's clients are aiobotocore's. They override ``_make_api_call``."""
