"""Libraries that Fern generates: cohere, elevenlabs, deepgram.

Every call goes through ``request`` or ``stream`` of the one ``HttpClient`` that a
client and its parts share; raw responses (``with_raw_response``) do, too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from outlay._capture.instrumentation.http_exchange import observe_httpx_response
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.wrappers import observe_context, observe_result

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType


def library(name: str) -> Library:
    """Return the description of a library that Fern generated, by its provider."""

    def seams(package: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
        core = import_module(f"{package.__name__}.core.http_client")

        def on_response(response: Any, client: Any, *_args: Any, **kwargs: Any) -> None:
            options = scope.options_for(client)
            # To try again, it calls itself: the outermost call has the answer, too.
            if options is not None and not kwargs.get("retries"):
                observe_httpx_response(
                    name, options, options.provider or name, response
                )

        yield Patch(core.HttpClient, "request", observe_result(name, on_response))
        yield Patch(core.HttpClient, "stream", observe_context(name, on_response))
        yield Patch(core.AsyncHttpClient, "request", observe_result(name, on_response))
        yield Patch(core.AsyncHttpClient, "stream", observe_context(name, on_response))

    return Library(name, seams, patched_objects=_http_client)


def _http_client(client: Any) -> Iterable[object]:
    return (client._client_wrapper.httpx_client,)  # noqa: SLF001 - the seam is there
