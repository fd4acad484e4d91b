"""Libraries that Fern generates: cohere, elevenlabs, deepgram.

Every call goes through ``request`` or ``stream`` of the one ``HttpClient`` that a
client and its parts share; raw responses (``with_raw_response``) do, too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from outlay._capture.exchanges import settle_response
from outlay._capture.hooks import awaiting, entering, entering_async, returning
from outlay._capture.instrumenting import Library, Scope, Seam

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType


def library(name: str) -> Library:
    """Return the description of a library that Fern generated, by its provider."""

    def seams(package: ModuleType, scope: Scope) -> Iterable[Seam]:
        core = import_module(f"{package.__name__}.core.http_client")

        def answered(response: Any, client: Any, *_args: Any, **kwargs: Any) -> None:
            options = scope.options_of(client)
            # To try again, it calls itself: the outermost call has the answer, too.
            if options is not None and not kwargs.get("retries"):
                settle_response(name, options, options.provider or name, response)

        yield Seam(core.HttpClient, "request", returning(name, answered))
        yield Seam(core.HttpClient, "stream", entering(name, answered))
        yield Seam(core.AsyncHttpClient, "request", awaiting(name, answered))
        yield Seam(core.AsyncHttpClient, "stream", entering_async(name, answered))

    return Library(name, seams, inside=_http_client)


def _http_client(client: Any) -> Iterable[object]:
    return (client._client_wrapper.httpx_client,)  # noqa: SLF001 - the seam is there
