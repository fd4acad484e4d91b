"""The registry: which extractor reads the answer to which call.

A provider's endpoint is a line here: ``("openai", "POST /chat/completions")`` and what
reads its answers. Doors look it up by what they see of a call: provider, method, path.
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
"""What an extractor returns: one cost, several, or none."""

Extractor = Callable[[Mapping[str, Any], Call], Extracted]
"""Reads an answer, and says what the call cost. Pure: no I/O, no clock, no state.

It need not be careful: whatever it raises is counted and logged, and the call that it
was about goes on."""

Fold = Callable[[dict[str, Any], Mapping[str, Any]], bool]
"""Puts an event of a stream into the answer so far. Returns whether the answer now
tells what the call costs in the end, even if nobody reads the rest of the stream."""


class Endpoint(NamedTuple):
    """How to read the answers of one endpoint.

    Attributes:
        extract: reads an answer.
        fields: the members of the answer that ``extract`` looks at. Nothing else is
            read from the provider's objects, so content cannot slip through. None:
            everything; empty: nothing, for the call alone tells.
        fold: how a stream's events make an answer; None: it does not stream.
        marks: an event of a stream without any of them is not even parsed, unless it
            is the first.
        lines: whether the answer is JSON Lines, of which each is read by itself. A body
            without a mark in its first line is something else, and is let be.
        asking: returns a request changed so that its stream will tell the usage; None:
            it does anyway.
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


# Re-entrant: a finaliser may make a call in the midst of a registration.
_lock: Final = threading.RLock()
_routes: Final[dict[str, list[_Route]]] = {}  # guarded by _lock for writing
_hosts: Final = dict(HOSTS)  # guarded by _lock for writing
_aliases: Final[dict[str, str]] = {}  # guarded by _lock for writing
_cache: Final[dict[tuple[str, str, str], Endpoint | None]] = {}  # same
_MAX_FOUND: Final = 4096
"""Paths remembered: some hold ids, and would fill the memory."""

E = TypeVar("E", bound=Extractor)


def extractor(
    provider: str, *endpoints: str, host: str | None = None
) -> Callable[[E], E]:
    """Let a function say what calls of a provider's endpoint cost.

    Args:
        provider: who charges; part of the idempotency key.
        *endpoints: such as ``"POST /v1/enrich"``. Matches the end of a path, whatever
            a proxy puts before it; ``{name}`` stands for one part of it.
        host: of the provider's API, such as ``api.acme.com``, by which calls through
            an HTTP client are known to be this provider's. None: `instrument` is told
            ``provider=``.

    Returns:
        A decorator that registers the function, and returns it as it is. A later
        registration of the same endpoint goes before an earlier one.

    Raises:
        ValueError: an endpoint is not a method and a path.

    Example:
        >>> @outlay.extractors.extractor("acme", "POST /v1/enrich", host="api.acme.com")
        ... def acme(answer, call):
        ...     return outlay.extractors.Observation(
        ...         provider="acme",
        ...         event_type="cost.enrichment",
        ...         operation_id=answer["id"],
        ...         usage={"call": 1},
        ...     )
    """
    _load(provider)  # what is built in must not go before the user's

    def register_it(extract: E) -> E:
        for endpoint in endpoints:
            fields = getattr(extract, "fields", None)
            register(provider, endpoint, Endpoint(extract, fields))
        if host is not None:
            register_host(host, provider)
        return extract

    return register_it


def register(provider: str, pattern: str, endpoint: Endpoint) -> None:
    """Say how the answers of a provider's endpoint are read; see `extractor`.

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
    """Say whose host it is; ``.example.com`` stands for every host that ends so."""
    with _lock:
        _hosts[host.lower()] = provider


def register_alias(provider: str, model: str) -> None:
    """Say that a provider's endpoints are like another's, where it has none itself."""
    with _lock:
        _aliases[provider] = model
        _cache.clear()


def provider_of(host: str) -> str | None:
    """Return whose API answers at ``host``, or None: not known here."""
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
    """Return how answers of the endpoint are read, or None: it costs nothing.

    Thread safety: any thread; without a lock for what was found before.
    """
    key = (provider, method, path)
    try:
        return _cache[key]
    except KeyError:
        pass
    _load(provider)
    # Under the lock, lest a search that began before a registration is remembered
    # after it.
    with _lock:
        routes = (
            *_routes.get(provider, ()),
            *_routes.get(_aliases.get(provider, ""), ()),
        )
        endpoint = _search(routes, method.upper(), path)
        if len(_cache) < _MAX_FOUND:
            _cache[key] = endpoint
    return endpoint


def _load(provider: str) -> None:
    """Import what registers a provider's endpoints, if it comes with outlay.

    Never under the lock: who imports a module, registers in there.
    """
    api = APIS.get(provider)
    if api is not None:
        import_module(f"outlay._capture.providers.{api.module}")


def _search(routes: Iterable[_Route], method: str, path: str) -> Endpoint | None:
    for route in routes:
        if route.method == method and route.path.search(path):
            return route.endpoint
    return None
