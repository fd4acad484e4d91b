"""Returned objects: what the answer of a provider's library tells of its cost.

For functions that return such an answer as it is. What cannot be read off the answer
alone, such as how many images were asked for, needs an instrumented client.
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

_LIBRARIES: Final[Mapping[str, Mapping[str, str]]] = {
    "anthropic": _ANTHROPIC,
    "groq": _OPENAI,
    "openai": _OPENAI,
    "together": _OPENAI,
}
"""By the package that it is of, and by its name: the endpoint that a class answers.

These packages are called as their providers are."""


def observations_in(answer: Any, provider: str | None) -> Extracted:
    """Return what an answer says that its call cost, or None: it is no answer.

    Args:
        answer: of any kind.
        provider: who gave it, where the user says so; None: whose library it is of.
    """
    for kind in type(answer).__mro__:
        package = kind.__module__.partition(".")[0]
        path = _LIBRARIES.get(package, {}).get(kind.__name__)
        if path is not None:
            return _read(answer, package, path, provider or package)
    return None


def _read(answer: Any, package: str, path: str, provider: str) -> Extracted:
    from outlay._capture.providers import library  # noqa: PLC0415 - all of them

    library(package)  # registers how its answers are read
    endpoint = find_endpoint(provider, "POST", path) or find_endpoint(
        package, "POST", path
    )
    if endpoint is None:
        return None
    request_id = getattr(answer, "_request_id", None)
    call = Call(provider=provider, path=path, request_id=request_id)
    return endpoint.extract(read_fields(answer, endpoint.fields), call)
