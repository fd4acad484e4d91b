"""Describe the libraries that Speakeasy generates: mistralai, a part of google-genai.

Every call of every part of such a client goes through ``do_request`` once, around the
library's own retries. It returns the HTTP response. The parts share one object that
holds the user's hooks. It identifies the client that they belong to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outlay._capture.instrumentation.http_exchange import observe_httpx_response
from outlay._capture.instrumentation.library import InstrumentedClients, Library, Patch
from outlay._capture.instrumentation.wrappers import observe_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType


def library(name: str, *, module: str, provider: str) -> Library:
    """Return the description of a library that Speakeasy generated.

    Args:
        name: The library's name for users.
        module: The module that contains ``basesdk``.
        provider: The provider that responds.
    """

    def patches_of(package: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
        return patches(package.basesdk, scope, provider, shared)

    def shared(part: Any) -> object:
        return vars(part.sdk_configuration)["_hooks"]

    return Library(
        name,
        patches_of,
        module=module,
        patched_objects=lambda client: (shared(client),),
    )


def patches(
    basesdk: Any,
    scope: InstrumentedClients,
    provider: str,
    shared: Callable[[Any], object],
) -> Iterable[Patch]:
    """Return the patches of a generated ``basesdk`` module.

    Args:
        basesdk: The module.
        scope: The captured clients.
        provider: The provider that responds.
        shared: A function that returns the object that all parts of a client share.
    """

    def on_response(response: Any, part: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_for(shared(part))
        if options is not None:
            observe_httpx_response(
                provider, options, options.provider or provider, response
            )

    for owner in (basesdk.BaseSDK, getattr(basesdk, "AsyncBaseSDK", None)):
        for name in ("do_request", "do_request_async"):
            if hasattr(owner, name):
                yield Patch(owner, name, observe_result(provider, on_response))
