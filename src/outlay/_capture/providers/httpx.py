"""Clients of httpx and httpx2, for providers without a package of their own.

Every request of such a client goes through its ``send``. Host and path tell what was
called, and the registry who reads the answer.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay._capture.guard import guarded
from outlay._capture.instrumenting import Library, Scope, Seam
from outlay._capture.providers.stainless import PendingCall
from outlay._capture.registry import find, provider_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

_FIRST_ERROR: Final = 400  # HTTP status: from here on, nothing was done


def seams(module: ModuleType, scope: Scope) -> Iterable[Seam]:
    """Return where the clients of the module are hooked."""
    yield Seam(module.Client, "send", functools.partial(_around, scope))
    yield Seam(module.AsyncClient, "send", functools.partial(_around_async, scope))


def _around(scope: Scope, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(client: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        call = guarded("httpx", _begin, scope, client, request)
        response = original(client, request, *args, **kwargs)
        if call is not None and response.status_code < _FIRST_ERROR:
            guarded("httpx", call.answered, response)
        return response

    return send


def _around_async(scope: Scope, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def send(client: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        call = guarded("httpx", _begin, scope, client, request)
        response = await original(client, request, *args, **kwargs)
        if call is not None and response.status_code < _FIRST_ERROR:
            guarded("httpx", call.answered, response)
        return response

    return send


def _begin(scope: Scope, client: object, request: Any) -> PendingCall | None:
    """Return the call if its answer will be read, or None: it costs nothing."""
    options = scope.options_of(client)
    if options is None:
        return None
    provider = options.provider or provider_of(request.url.host)
    if provider is None:
        return None
    method, path = request.method.upper(), request.url.path
    endpoint = find(provider, method, path)
    if endpoint is None:
        return None
    return PendingCall(
        "httpx", options, endpoint, provider, method, path, _sent(request)
    )


def _sent(request: Any) -> dict[str, Any]:
    """Return the JSON object that is sent, or nothing: it is none."""
    if "json" not in request.headers.get("content-type", ""):
        return {}
    try:
        body = msgspec.json.decode(request.content)
    except (RuntimeError, msgspec.DecodeError):
        return {}  # a body that is sent in parts is not there to be read
    return body if isinstance(body, dict) else {}


LIBRARY: Final = Library("httpx", seams, by_client_only=True)
