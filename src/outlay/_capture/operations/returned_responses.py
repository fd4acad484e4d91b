"""Read the cost off a provider library's response that a function returned.

It serves functions that return such an object unchanged. Only the response is read. A
cost that depends on the request, such as the number of images, needs an instrumented
client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._capture.extraction.fields import read_fields
from outlay._capture.extraction.registry import Call, find_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outlay._capture.extraction.registry import Extracted

_OPENAI: Final = {
    "ChatCompletion": "/chat/completions",
    "Completion": "/completions",
    "CreateEmbeddingResponse": "/embeddings",
    "Response": "/responses",
}
_ANTHROPIC: Final = {"Message": "/v1/messages", "BetaMessage": "/v1/messages"}

_PATHS: Final[Mapping[str, Mapping[str, str]]] = {
    "anthropic": _ANTHROPIC,
    "groq": _OPENAI,
    "openai": _OPENAI,
    "together": _OPENAI,
}
"""The endpoint of each response class, by package and class name.

These packages have the names of their providers."""


def observations_in(response: Any, provider: str | None) -> Extracted:
    """Return what a response says about its cost, or None if it is not a response.

    Args:
        response: Any object.
        provider: The provider, if the user names one. If None, the one of its library.
    """
    for kind in type(response).__mro__:
        package = kind.__module__.partition(".")[0]
        path = _PATHS.get(package, {}).get(kind.__name__)
        if path is not None:
            return _read(response, package, path, provider or package)
    return None


def _read(response: Any, package: str, path: str, provider: str) -> Extracted:
    endpoint = find_endpoint(provider, "POST", path) or find_endpoint(
        package, "POST", path
    )
    if endpoint is None:
        return None
    request_id = getattr(response, "_request_id", None)
    call = Call(provider=provider, path=path, request_id=request_id)
    return endpoint.extract(read_fields(response, endpoint.fields), call)
