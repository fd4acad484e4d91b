"""Clients of httpx and httpx2, for providers without a package of their own.

Every request of such a client goes through its ``send``, redirects included. Host and
path tell what was called, and the registry who reads the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._capture.extraction.registry import provider_of
from outlay._capture.instrumentation.http_exchange import observe_httpx_response
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.wrappers import awaiting, returning

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType


def seams(module: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
    """Return where the clients of the module are hooked."""

    def on_response(response: Any, client: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_for(client)
        if options is None or any(map(response.extensions.get, _CACHED)):
            return
        provider = options.provider or provider_of(response.request.url.host)
        if provider is not None:
            observe_httpx_response("httpx", options, provider, response)

    yield Patch(module.Client, "send", returning("httpx", on_response))
    yield Patch(module.AsyncClient, "send", awaiting("httpx", on_response))


# How transports that cache, such as hishel's, mark what cost nothing this time.
_CACHED: Final = ("from_cache", "hishel_from_cache")

LIBRARY: Final = Library("httpx", seams, by_client_only=True)
