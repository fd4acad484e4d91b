"""Libraries that Stainless generates: openai, anthropic, groq, together.

Every call of theirs goes through the client's ``request(cast_to, options, …)``: plain,
``.parse()``, ``beta``, raw and streamed responses, helpers, the user's own
``client.post``. What comes back is a model, or something that holds the HTTP response.
"""

from __future__ import annotations

import functools
from types import AsyncGeneratorType, GeneratorType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

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
    CaptureOptions,
    InstrumentedClients,
    Library,
    Patch,
    patch_copy_method,
)
from outlay._capture.instrumentation.streams import observe_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from outlay._capture.instrumentation.body_readers import FinishResponse


_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class StainlessLibrary:
    """What differs between these libraries.

    Attributes:
        name: of the library, whose endpoints a provider's are taken to be like.
        classes: providers by a part of a client class's name, such as ``Azure``.
        hosts: providers by the end of a host's name, where nothing else knows it.
        provider: who answers where neither class nor address tells.
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
        """Return who answers the calls of ``client``."""
        key = (type(client), client.base_url.host)
        provider = self._known.get(key)
        if provider is None:
            provider = self._known[key] = self._provider_from_class_or_host(*key)
        return provider

    def _provider_from_class_or_host(self, kind: type, host: str) -> str:
        names = " ".join(parent.__name__ for parent in kind.__mro__)
        for part, provider in self.classes.items():
            if part in names:
                return provider
        ends = (name for end, name in self.hosts.items() if host.endswith(end))
        return provider_of(host) or next(ends, self.provider)


def library(dialect: StainlessLibrary) -> Library:
    """Return the description of a library that Stainless generated."""
    return Library(dialect.name, functools.partial(_patches, dialect))


def _patches(
    dialect: StainlessLibrary, module: ModuleType, scope: InstrumentedClients
) -> Iterable[Patch]:
    clients = {
        kind
        for kind in tuple(vars(module).values())
        # Not isinstance: it would wake the modules that stand here as lazy proxies.
        if issubclass(type(kind), type)
        and hasattr(kind, "request")
        and hasattr(kind, "with_options")
    }
    parents = {parent for client in clients for parent in client.__mro__}
    for owner in sorted(parents, key=lambda kind: kind.__qualname__):
        if "request" in vars(owner):
            asynchronous = owner.__name__.startswith("Async")
            wrap = _around_async if asynchronous else _wrap_request
            yield Patch(owner, "request", functools.partial(wrap, dialect, scope))
        for name in ("copy", "with_options"):
            if name in vars(owner) and owner is not object:
                yield Patch(owner, name, patch_copy_method(scope))


def _wrap_request(
    dialect: StainlessLibrary, scope: InstrumentedClients, original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        call = guarded(dialect.name, _start_call, dialect, scope, client, args, kwargs)
        answer = original(client, *args, **kwargs)
        if call is not None:
            guarded(dialect.name, call.on_response, answer)
        return answer

    return request


def _around_async(
    dialect: StainlessLibrary, scope: InstrumentedClients, original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        call = guarded(dialect.name, _start_call, dialect, scope, client, args, kwargs)
        answer = await original(client, *args, **kwargs)
        if call is not None:
            guarded(dialect.name, call.on_response, answer)
        return answer

    return request


def _start_call(
    dialect: StainlessLibrary,
    scope: InstrumentedClients,
    client: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> OpenCall | None:
    """Return the call if its answer will be read, or None: it costs nothing."""
    options = scope.options_for(client)
    if options is None:
        return None
    final = kwargs["options"] if "options" in kwargs else args[1]
    method, path = final.method.upper(), _path(final.url)
    provider = options.provider or dialect.provider_of(client)
    endpoint = find_endpoint(provider, method, path) or find_endpoint(
        dialect.name, method, path
    )
    if endpoint is None:
        return None
    sent = final.json_data if isinstance(final.json_data, dict) else {}
    if options.include_usage and sent.get("stream") and endpoint.with_usage_requested:
        final.json_data = sent = endpoint.with_usage_requested(sent)
    return OpenCall(dialect.name, options, endpoint, provider, method, path, sent)


def _path(url: str) -> str:
    path = urlsplit(url).path if url.startswith("http") else url.partition("?")[0]
    return path if path.startswith("/") else "/" + path


class OpenCall(NamedTuple):
    """One call that is under way."""

    what: str
    options: CaptureOptions
    endpoint: Endpoint
    provider: str
    method: str
    path: str
    sent: dict[str, Any]

    def on_response(self, answer: Any) -> None:
        """Settle the call, at once or when its reader has read the answer."""
        response = _response_in(answer)
        if response is None:
            self._settle_model(answer)
            return
        call = self._call(
            headers=response.headers,
            status=response.status_code,
            request_id=request_id_in(response.headers),
        )
        options, endpoint = self.options, self.endpoint
        content_type = response.headers.get("content-type", "")
        if not has_cost_fields(content_type, endpoint):
            options.finish_call(endpoint, call, {})
            return

        reader = body_reader(content_type, endpoint, self._settling(call))
        if response.is_closed:
            reader.feed(response.content)
            reader.finish(exhausted=True)
        else:
            observe_body(self.what, response, reader)
            _watch_lines(answer, response)

    def _settle_model(self, answer: object) -> None:
        options, endpoint = self.options, self.endpoint
        call = self._call(request_id=getattr(answer, "_request_id", None))
        if endpoint.is_json_lines and isinstance(answer, str):
            reader = body_reader("", endpoint, self._settling(call))
            reader.feed(answer.encode())
            reader.finish(exhausted=True)
        else:
            options.finish_call(endpoint, call, read_fields(answer, endpoint.fields))

    def _settling(self, call: Call) -> FinishResponse:
        def settle(answer: dict[str, Any], complete: bool) -> None:  # noqa: FBT001
            self.options.finish_call(self.endpoint, call, answer, complete=complete)

        return settle

    def _call(self, **facts: Any) -> Call:
        model = self.sent.get("model")
        return Call(
            provider=self.provider,
            method=self.method,
            path=self.path,
            request=self.sent,
            model=model if isinstance(model, str) else None,
            **facts,
        )


def _watch_lines(answer: Any, response: Any) -> None:
    """Let a decoder of JSON Lines, which reads a body that is not watched, begin anew.

    Other streams begin when they are first read.
    """
    lines = getattr(answer, "_raw_iterator", None)
    if isinstance(lines, GeneratorType):
        answer._raw_iterator = response.iter_bytes(_LINES_CHUNK)  # noqa: SLF001 - see above
    elif isinstance(lines, AsyncGeneratorType):
        answer._raw_iterator = response.aiter_bytes(_LINES_CHUNK)  # noqa: SLF001


_LINES_CHUNK: Final = 64  # bytes, as the libraries have it


def _response_in(answer: Any) -> Any | None:
    """Return the HTTP response that an answer is, or holds; None: it is a model."""
    if is_model(answer):
        return None  # asked for an attribute that it has not, a model takes its time
    for name in ("http_response", "response"):
        response = getattr(answer, name, None)
        if hasattr(response, "iter_bytes"):
            return response
    return answer if hasattr(answer, "iter_bytes") else None
