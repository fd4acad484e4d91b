"""Libraries that Speakeasy generates: mistralai, and a part of google-genai.

Every call of every part of such a client goes through ``do_request`` once, after the
library's own retries, and gets the HTTP response back. The parts share one object that
holds the user's hooks: by it they are known to belong to one client.
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
        name: what users call it.
        module: holds ``basesdk``.
        provider: who answers.
    """

    def seams_of(package: ModuleType, scope: InstrumentedClients) -> Iterable[Patch]:
        return seams(package.basesdk, scope, provider, common)

    def common(part: Any) -> object:
        return vars(part.sdk_configuration)["_hooks"]

    return Library(
        name, seams_of, module=module, patched_objects=lambda client: (common(client),)
    )


def seams(
    basesdk: Any,
    scope: InstrumentedClients,
    provider: str,
    common: Callable[[Any], object],
) -> Iterable[Patch]:
    """Return where a generated ``basesdk`` module is hooked.

    Args:
        basesdk: the module.
        scope: which clients are captured.
        provider: who answers.
        common: returns what all parts of a client have in common.
    """

    def on_response(response: Any, part: Any, *_args: Any, **_kwargs: Any) -> None:
        options = scope.options_for(common(part))
        if options is not None:
            observe_httpx_response(
                provider, options, options.provider or provider, response
            )

    for owner in (basesdk.BaseSDK, getattr(basesdk, "AsyncBaseSDK", None)):
        if hasattr(owner, "do_request"):
            yield Patch(owner, "do_request", observe_result(provider, on_response))
        if hasattr(owner, "do_request_async"):
            yield Patch(
                owner, "do_request_async", observe_result(provider, on_response)
            )
