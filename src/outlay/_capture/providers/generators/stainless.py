"""Describe the libraries that Stainless generates: openai, anthropic, groq, together.

Every call goes through the client's ``request(cast_to, options, …)``: plain calls,
``.parse()``, ``beta``, raw and streamed responses, helpers, and the user's own
``client.post``. ``request`` returns a model, or an object that holds the HTTP response.
"""

from __future__ import annotations

import functools
from types import AsyncGeneratorType, GeneratorType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from outlay._capture.extraction.fields import is_model, read_fields
from outlay._capture.extraction.registry import (
    Call,
    Endpoint,
    find_endpoint,
    provider_of,
)
from outlay._capture.guard import guarded
from outlay._capture.instrumentation.body_readers import body_reader, has_cost_fields
from outlay._capture.instrumentation.http_exchange import request_id_in
from outlay._capture.instrumentation.library import (
    NO_EXTRA_MODULES,
    CaptureOptions,
    InstrumentedClients,
    Library,
    Patch,
    PatchProvider,
    patch_copy_method,
)
from outlay._capture.instrumentation.observed_call import ObservedCall
from outlay._capture.instrumentation.streams import observe_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from outlay._capture.instrumentation.body_readers import FinishResponse


_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class StainlessLibrary:
    """The differences between these libraries.

    Attributes:
        name: The library's name. A provider's endpoints default to this library's.
        classes: Providers by a part of a client class's name, such as ``Azure``.
        hosts: Providers by the end of a host's name, where the registry knows none.
        provider: The provider where neither class nor host identifies one.
    """

    def __init__(
        self,
        name: str,
        *,
        provider: str,
        classes: Mapping[str, str] = _NONE,
        hosts: Mapping[str, str] = _NONE,
    ) -> None:
        self.name = name
        self.classes = classes
        self.hosts = hosts
        self.provider = provider
        self._known: dict[tuple[type, str], str] = {}

    def provider_of(self, client: Any) -> str:
        """Return the provider that serves the calls of ``client``."""
        return self.provider_at(type(client), client.base_url.host)

    def provider_at(self, kind: type, host: str) -> str:
        """Return the provider that serves clients of class ``kind`` at ``host``."""
        provider = self._known.get((kind, host))
        if provider is None:
            provider = self._provider_from_class_or_host(kind, host)
            self._known[kind, host] = provider
        return provider

    def _provider_from_class_or_host(self, kind: type, host: str) -> str:
        names = " ".join(parent.__name__ for parent in kind.__mro__)
        for part, provider in self.classes.items():
            if part in names:
                return provider
        ends = (name for end, name in self.hosts.items() if host.endswith(end))
        return provider_of(host) or next(ends, self.provider)


def library(
    dialect: StainlessLibrary,
    extra_modules: Mapping[str, PatchProvider] = NO_EXTRA_MODULES,
) -> Library:
    """Return the description of a library that Stainless generated.

    Args:
        dialect: The library's differences.
        extra_modules: More modules that have patches, as in `Library`.
    """
    return Library(
        dialect.name,
        functools.partial(_patches, dialect),
        extra_modules=extra_modules,
    )


def _patches(
    dialect: StainlessLibrary, module: ModuleType, scope: InstrumentedClients
) -> Iterable[Patch]:
    clients = {
        kind
        for kind in tuple(vars(module).values())
        # isinstance() would load the modules that stand here as lazy proxies.
        if issubclass(type(kind), type)
        and hasattr(kind, "request")
        and hasattr(kind, "with_options")
    }
    parents = {parent for client in clients for parent in client.__mro__}
    for owner in sorted(parents, key=lambda kind: kind.__qualname__):
        is_async = owner.__name__.startswith("Async")
        if "request" in vars(owner):
            wrap = _wrap_async_request if is_async else _wrap_request
            yield Patch(owner, "request", functools.partial(wrap, dialect, scope))
        if "_process_response" in vars(owner):
            yield Patch(owner, "_process_response", _keep_response)
        for name in ("copy", "with_options"):
            if name in vars(owner) and owner is not object:
                yield Patch(owner, name, patch_copy_method(scope))


def _wrap_request(
    dialect: StainlessLibrary, scope: InstrumentedClients, original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        call = guarded(dialect.name, _start_call, dialect, scope, client, args, kwargs)
        if call is None:
            return original(client, *args, **kwargs)
        with ObservedCall(client) as observed:
            try:
                returned = original(client, *args, **kwargs)
            except Exception:
                guarded(dialect.name, call.on_error, observed.response)
                raise
        guarded(dialect.name, call.on_response, returned, observed.response)
        return returned

    return request


def _wrap_async_request(
    dialect: StainlessLibrary, scope: InstrumentedClients, original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        call = guarded(dialect.name, _start_call, dialect, scope, client, args, kwargs)
        if call is None:
            return await original(client, *args, **kwargs)
        with ObservedCall(client) as observed:
            try:
                returned = await original(client, *args, **kwargs)
            except Exception:
                guarded(dialect.name, call.on_error, observed.response)
                raise
        guarded(dialect.name, call.on_response, returned, observed.response)
        return returned

    return request


def _keep_response(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the HTTP response before the library parses it.

    Gateways report amounts in headers, which the parsed model does not contain. And a
    response that cannot be parsed is billed, too.
    """

    @functools.wraps(original)
    def process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
        call = ObservedCall.current()
        if call is not None:
            call.response = kwargs.get("response")
        return original(client, *args, **kwargs)

    return process_response


def _start_call(
    dialect: StainlessLibrary,
    scope: InstrumentedClients,
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> OpenCall | None:
    """Return the call if its response will be read, or None if it costs nothing."""
    options = scope.options_for(client)
    outer = ObservedCall.current()
    if options is None or (outer is not None and outer.client is client):
        return None  # tracing may put a patch of its own between two of outlay's
    final = kwargs["options"] if "options" in kwargs else args[1]
    method, path = final.method.upper(), _path(final.url)
    host = client.base_url.host
    provider = options.provider or dialect.provider_at(type(client), host)
    endpoint = find_endpoint(provider, method, path) or find_endpoint(
        dialect.name, method, path
    )
    if endpoint is None:
        return None
    sent = final.json_data if isinstance(final.json_data, dict) else {}
    if options.include_usage and sent.get("stream") and endpoint.with_usage_requested:
        final.json_data = sent = endpoint.with_usage_requested(sent)
    model = sent.get("model")
    call = Call(
        provider=provider,
        method=method,
        path=path,
        host=host,
        request=sent,
        model=model if isinstance(model, str) else None,
        region=_region_of(client),
    )
    return OpenCall(dialect.name, options, endpoint, call)


def _path(url: str) -> str:
    path = urlsplit(url).path if url.startswith("http") else url.partition("?")[0]
    return path if path.startswith("/") else "/" + path


def _region_of(client: Any) -> str | None:
    """Return the region of a cloud's client, such as ``AnthropicVertex``, or None."""
    fields = vars(client)
    region = fields.get("aws_region", fields.get("region"))
    return region if isinstance(region, str) else None


class OpenCall:
    """A running call."""

    __slots__ = ("_call", "_endpoint", "_options", "_what")

    def __init__(
        self, what: str, options: CaptureOptions, endpoint: Endpoint, call: Call
    ) -> None:
        self._what = what
        self._options = options
        self._endpoint = endpoint
        self._call = call

    def on_response(self, returned: Any, kept: Any) -> None:
        """Finish the call now, or when the caller has read the response.

        Args:
            returned: The object that the caller gets.
            kept: The HTTP response behind it, if the library began to process one.
        """
        # Models are slow to look up attributes that they do not have.
        response = None if is_model(returned) else _response_in(returned)
        if response is None:
            self._finish_model(returned, getattr(kept, "headers", _NONE))
        else:
            self._observe(returned, response)

    def on_error(self, response: Any) -> None:
        """Finish a call that raised, if its response came in whole.

        The provider bills it, also if the library cannot parse it: a ``.parse()`` that
        met the limit of tokens or a content filter, or that failed to validate.
        """
        if response is not None and response.is_closed:
            self._observe(response, response)

    def _observe(self, returned: Any, response: Any) -> None:
        call = replace(
            self._call,
            headers=response.headers,
            status=response.status_code,
            request_id=request_id_in(response.headers),
        )
        options, endpoint = self._options, self._endpoint
        content_type = response.headers.get("content-type", "")
        if not has_cost_fields(content_type, endpoint):
            options.finish_call(endpoint, call, {})
            return

        reader = body_reader(content_type, endpoint, self._finisher(call))
        if response.is_closed:
            reader.feed(response.content)
            reader.finish(exhausted=True)
        else:
            observe_body(self._what, response, reader)
            _restart_line_decoder(returned, response)

    def _finish_model(self, model: object, headers: Mapping[str, str]) -> None:
        options, endpoint = self._options, self._endpoint
        request_id = getattr(model, "_request_id", None)
        call = replace(self._call, headers=headers, request_id=request_id)
        if endpoint.is_json_lines and isinstance(model, str):
            reader = body_reader("", endpoint, self._finisher(call))
            reader.feed(model.encode())
            reader.finish(exhausted=True)
        else:
            options.finish_call(endpoint, call, read_fields(model, endpoint.fields))

    def _finisher(self, call: Call) -> FinishResponse:
        def finish(response: dict[str, Any], complete: bool) -> None:  # noqa: FBT001
            self._options.finish_call(self._endpoint, call, response, complete=complete)

        return finish


def _restart_line_decoder(returned: Any, response: Any) -> None:
    """Let a decoder of JSON Lines, which reads the unobserved body, start over.

    Other streams start when the caller reads them first.
    """
    lines = getattr(returned, "_raw_iterator", None)
    if isinstance(lines, GeneratorType):
        returned._raw_iterator = response.iter_bytes(_LINES_CHUNK)  # noqa: SLF001 - see above
    elif isinstance(lines, AsyncGeneratorType):
        returned._raw_iterator = response.aiter_bytes(_LINES_CHUNK)  # noqa: SLF001


_LINES_CHUNK: Final = 64  # bytes, the libraries' own chunk


def _response_in(returned: Any) -> Any | None:
    """Return the HTTP response that an object is or holds, or None."""
    for name in ("http_response", "response"):
        response = getattr(returned, name, None)
        if hasattr(response, "iter_bytes"):
            return response
    return returned if hasattr(returned, "iter_bytes") else None
