"""Find the extractor that reads the response to a call.

An endpoint of a provider, such as ``("openai", "POST /chat/completions")``, is
registered with its extractor. Sources look it up by provider, method and path.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from outlay._capture.extraction.hosts import APIS, HOSTS
from outlay._capture.observation import Observation
from outlay._model.bounded import BoundedDict


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """The call that a response belongs to, as an extractor sees it.

    Attributes:
        provider: The provider's canonical name.
        method: The HTTP method. Defaults to ``POST``.
        path: The URL's path, without the query. Defaults to ``/``.
        host: The URL's host, where the client knows it.
        query: The URL's query. Of names that occur twice, the last value counts. Never
            store it.
        request: The JSON object that was sent, or nothing. Read models, tiers and
            lengths from it, and never store it.
        model: The requested model, or its name in the options of `instrument`.
        headers: The headers of the response, by lower-case name.
        status: The HTTP status of the response. Defaults to 200.
        region: The region that the call ran in, where the client knows it.
        request_id: The provider's id of the request, where its library knows it.
    """

    provider: str
    method: str = "POST"
    path: str = "/"
    host: str | None = None
    query: Mapping[str, str] = {}
    request: Mapping[str, Any] = {}
    model: str | None = None
    headers: Mapping[str, str] = {}
    status: int = 200
    region: str | None = None
    request_id: str | None = None


Extracted = Observation | Iterable[Observation] | None
"""The result of an extractor: one cost, several, or none."""

Extractor = Callable[[Mapping[str, Any], Call], Extracted]
"""Reads the cost of a call from its response. Pure: no I/O, no clock, no state.

It need not catch errors. An error is counted and logged, and the call goes on."""

Fold = Callable[[dict[str, Any], Mapping[str, Any]], bool]
"""Merges an event of a stream into the response so far. Returns whether the response
now contains the final cost, even if the rest of the stream is not read."""


class Endpoint(NamedTuple):
    """The way to read the responses of one endpoint.

    Attributes:
        extract: The extractor.
        fields: The fields of the response that ``extract`` reads. No other field is
            read from the provider's objects, so content cannot leak. If None, all
            fields. If empty, none, because the call alone contains the cost.
        merge_stream_event: Merges a stream's events into a response. If None, the
            endpoint does not stream.
        markers: Bytes of which an event contains at least one, if it matters. Other
            events are not parsed, except the first.
        with_usage_requested: A function that returns a request that also asks for the
            usage of its stream. If None, streams contain their usage anyway.
        is_json_lines: Whether the response is JSON Lines, of which each line is read by
            itself. A body without a marker in its first line is skipped.
    """

    extract: Extractor
    fields: tuple[str, ...] | None = None
    merge_stream_event: Fold | None = None
    markers: tuple[bytes, ...] = ()
    with_usage_requested: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    is_json_lines: bool = False


class _Route(NamedTuple):
    method: str
    path: re.Pattern[str]
    endpoint: Endpoint


# Re-entrant: a finaliser may make a call during a registration.
_lock: Final = threading.RLock()
_routes: Final[dict[str, list[_Route]]] = {}  # guarded by _lock for writing
_hosts: Final = dict(HOSTS)  # guarded by _lock for writing
_aliases: Final[dict[str, str]] = {}  # guarded by _lock for writing
# Some paths contain ids, so the number of entries is bounded.
_cache: Final[BoundedDict[tuple[str, str, str], Endpoint | None]] = BoundedDict(4096)

E = TypeVar("E", bound=Extractor)


def extractor(
    provider: str, *endpoints: str, host: str | None = None
) -> Callable[[E], E]:
    """Register a function that reads the cost of calls from their responses.

    Args:
        provider: The provider that charges. It is part of the idempotency key.
        *endpoints: Methods and paths, such as ``"POST /v1/enrich"``. A path matches the
            end of the called path, whatever a proxy adds before it. ``{name}`` stands
            for one part.
        host: The host of the provider's API, such as ``api.acme.com``. It identifies
            the provider in calls of HTTP clients. If None, pass ``provider=`` to
            `instrument`.

    Returns:
        A decorator that registers the function, and returns it unchanged. A later
        registration of an endpoint goes before an earlier one.

    Raises:
        ValueError: An endpoint is not a method and a path.

    Example:
        >>> @outlay.extractors.extractor("acme", "POST /v1/enrich", host="api.acme.com")
        ... def acme(response, call):
        ...     return outlay.extractors.Observation(
        ...         provider="acme",
        ...         event_type="cost.enrichment",
        ...         operation_id=response["id"],
        ...         usage={"call": 1},
        ...     )
    """
    _load(provider)  # built-in extractors must not go before the user's

    def register_it(extract: E) -> E:
        for endpoint in endpoints:
            fields = getattr(extract, "fields", None)
            register(provider, endpoint, Endpoint(extract, fields))
        if host is not None:
            register_host(host, provider)
        return extract

    return register_it


def register(provider: str, pattern: str, endpoint: Endpoint) -> None:
    """Register the way to read the responses of a provider's endpoint.

    Raises:
        ValueError: ``pattern`` is not a method and a path.
    """
    method, _, path = pattern.partition(" ")
    if not method.isalpha() or not path.startswith("/"):
        raise ValueError(
            f"{pattern!r} is not an endpoint; write a method and a path, "
            'such as "POST /v1/enrich"'
        )
    parts = (re.escape(part) for part in re.split(r"\{\w+\}", path))
    route = _Route(method.upper(), re.compile("[^/]+".join(parts) + r"/?$"), endpoint)
    with _lock:
        _routes.setdefault(provider, []).insert(0, route)
        _cache.clear()


def register_host(host: str, provider: str) -> None:
    """Register a provider's host. ``.example.com`` stands for all hosts that end so."""
    with _lock:
        _hosts[host.lower()] = provider


def register_alias(provider: str, model: str) -> None:
    """Let a provider have the endpoints of another one, in addition to its own."""
    with _lock:
        _aliases[provider] = model
        _cache.clear()


def provider_of(host: str) -> str | None:
    """Return the provider whose API is at ``host``, or None if it is not known."""
    host = host.lower()
    exact = _hosts.get(host)
    if exact is not None:
        return exact
    while "." in host:
        host = host.partition(".")[2]
        provider = _hosts.get("." + host)
        if provider is not None:
            return provider
    return None


def has_unique_ids(provider: str) -> bool:
    """Return whether a provider's ids of responses and requests never repeat.

    Known providers and those of the user's extractors promise it. Other servers, such
    as Ollama, may repeat them.
    """
    return provider in APIS or provider in _routes


def find_endpoint(provider: str, method: str, path: str) -> Endpoint | None:
    """Return the endpoint of a call, or None if the call costs nothing.

    Thread safety: any thread. Endpoints found before need no lock.
    """
    key = (provider, method, path)
    try:
        return _cache[key]
    except KeyError:
        pass
    _load(provider)
    # Under the lock. Otherwise a search that started before a registration could be
    # cached after it.
    with _lock:
        routes = (
            *_routes.get(provider, ()),
            *_routes.get(_aliases.get(provider, ""), ()),
        )
        endpoint = _search(routes, method.upper(), path)
        _cache[key] = endpoint
    return endpoint


def _load(provider: str) -> None:
    """Import the module that registers a provider's endpoints, if outlay has one.

    Never hold the lock here: the imported module registers its endpoints.
    """
    api = APIS.get(provider)
    if api is not None:
        import_module(f"outlay._capture.providers.{api.module}")


def _search(routes: Iterable[_Route], method: str, path: str) -> Endpoint | None:
    for route in routes:
        if route.method == method and route.path.search(path):
            return route.endpoint
    return None
