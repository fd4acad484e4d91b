"""Clients of httpx and httpx2, for providers without a package of their own.

Every request of such a client goes through its ``send``, redirects included. Host and
path tell what was called, and the registry who reads the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._capture.exchanges import settle_response
from outlay._capture.hooks import awaiting, returning
from outlay._capture.instrumenting import Library, Scope, Seam
from outlay._capture.registry import provider_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType


def seams(module: ModuleType, scope: Scope) -> Iterable[Seam]:
    """Return where the clients of the module are hooked."""

    def answered(response: Any, client: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_of(client)
        if options is None or any(map(response.extensions.get, _CACHED)):
            return
        provider = options.provider or provider_of(response.request.url.host)
        if provider is not None:
            settle_response("httpx", options, provider, response)

    yield Seam(module.Client, "send", returning("httpx", answered))
    yield Seam(module.AsyncClient, "send", awaiting("httpx", answered))


# How transports that cache, such as hishel's, mark what cost nothing this time.
_CACHED: Final = ("from_cache", "hishel_from_cache")

LIBRARY: Final = Library("httpx", seams, by_client_only=True)
