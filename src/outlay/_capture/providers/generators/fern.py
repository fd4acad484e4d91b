"""Describe the libraries that Fern generates: cohere, elevenlabs, deepgram.

Every call goes through ``request`` or ``stream`` of the one ``HttpClient`` that a
client and its parts share. So do raw responses (``with_raw_response``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from outlay._capture.instrumentation.http_exchange import observe_httpx_response
from outlay._capture.instrumentation.library import (
    NO_EXTRA_MODULES,
    InstrumentedClients,
    Library,
    Patch,
    PatchProvider,
)
from outlay._capture.instrumentation.wrappers import observe_context, observe_result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType


def library(
    name: str, extra_modules: Mapping[str, PatchProvider] = NO_EXTRA_MODULES
) -> Library:
    """Return the description of a library that Fern generated.

    Args:
        name: The library's name, which is the provider's, too.
        extra_modules: More modules that have patches, as in `Library`.
    """

    def patches(package: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
        core = import_module(f"{package.__name__}.core.http_client")

        def on_response(response: Any, client: Any, *_args: Any, **kwargs: Any) -> None:
            options = scope.options_for(client)
            # To retry, it calls itself. The outermost call gets the response, too.
            if options is not None and not kwargs.get("retries"):
                observe_httpx_response(
                    name, options, options.provider or name, response
                )

        for owner in (core.HttpClient, core.AsyncHttpClient):
            yield Patch(owner, "request", observe_result(name, on_response))
            yield Patch(owner, "stream", observe_context(name, on_response))

    return Library(
        name,
        patches,
        patched_objects=lambda client: (http_client_of(client),),
        extra_modules=extra_modules,
    )


def http_client_of(client: Any) -> object:
    """Return the HTTP client that a client and its parts share."""
    return client._client_wrapper.httpx_client  # noqa: SLF001 - the patches get it
