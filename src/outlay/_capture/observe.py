"""Track responses that reach the program in other ways: `observe`, `observe_batch`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay._capture.extraction.fields import read_fields, read_json_fields
from outlay._capture.extraction.registry import Call, find_endpoint
from outlay._capture.guard import guarded
from outlay._capture.instrumentation.library import CaptureOptions
from outlay._capture.recorder import Recorder
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from outlay._capture.extraction.registry import Endpoint
    from outlay._client import Client

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})
_WEBHOOK: Final = "CALLBACK /"


def observe(
    response: object,
    *,
    provider: str,
    endpoint: str | None = None,
    headers: Mapping[str, str] = _EMPTY,
    request: Mapping[str, Any] = _EMPTY,
    client: Client | None = None,
) -> None:
    """Track the cost in a provider's response, however it reached the program.

    Use it for responses that come later, to a web hook, and for HTTP libraries that
    `instrument` does not support. The same extractor reads the response. So its
    operation has the same key, and counts once, also if another source observes it.

    The cost belongs to the customer of the running code (`attribute`). If this process
    made the call before, it belongs to the customer of that call.

    Thread safety: any thread.

    Args:
        response: The response: JSON as bytes or text, a mapping, or an object of the
            provider's library.
        provider: The provider, such as ``replicate``.
        endpoint: The endpoint that was called, such as ``POST /v1/enrich``. If None,
            the response is the body of the provider's web hook.
        headers: The headers of the response, if its extractor reads some.
        request: The JSON that was sent, if its extractor reads it.
        client: The client that tracks the cost. Defaults to the default client.

    Raises:
        ConfigError: No extractor reads such a response, or it is not a JSON object.
    """
    method, _, path = (endpoint or _WEBHOOK).partition(" ")
    found = find_endpoint(provider, method, path)
    if found is None:
        raise ConfigError(
            f"no extractor reads {endpoint or 'a web hook'} of {provider!r}; see the "
            "table in docs/providers.md, or register an outlay.extractors.extractor"
        )
    model = request.get("model")
    call = Call(
        provider=provider,
        method=method.upper(),
        path=path,
        request=request,
        model=model if isinstance(model, str) else None,
        headers={name.lower(): value for name, value in headers.items()},
    )
    fields = _response_fields(response, found.fields)
    guarded(provider, _options(client).finish_call, found, call, fields)


def observe_batch(
    lines: str | bytes | Iterable[object],
    *,
    provider: str,
    model: str | None = None,
    customer_of: Callable[[str], str | None] | None = None,
    client: Client | None = None,
) -> int:
    """Track the costs of the requests of a batch, given the batch's output.

    `instrument` does the same when a captured client reads such an output. Each
    response counts once by its id, however often its line is read for one customer.
    Errors cost nothing.

    Thread safety: any thread.

    Args:
        lines: The output: OpenAI's file, the result of Anthropic's ``batches.results``,
            or Bedrock's output. As text or bytes, or line by line: text, bytes,
            mappings, or objects of the provider's library.
        provider: The provider, such as ``openai``.
        model: The model, if the output does not name it, as Amazon's does not.
        customer_of: A function that returns the customer of a request, by its
            ``custom_id`` or ``recordId``. If it is not given or returns None, the
            customer of the running code.
        client: The client that tracks the costs. Defaults to the default client.

    Returns:
        The number of lines that could be read, those with errors included.

    Raises:
        ConfigError: No extractor reads batches of the provider.
    """
    endpoint = _first_found(
        find_endpoint(provider, "GET", path) for path in _BATCH_PATHS
    )
    if endpoint is None:
        raise ConfigError(
            f"no extractor reads batches of {provider!r}; see docs/providers.md"
        )
    call = Call(provider=provider, method="GET", model=model)
    options = _options(client, customer_of)
    count = 0
    for line in lines.splitlines() if isinstance(lines, str | bytes) else lines:
        if isinstance(line, str | bytes) and not line.strip():
            continue
        fields = guarded(provider, _response_fields, line, endpoint.fields)
        if fields:
            guarded(provider, options.finish_call, endpoint, call, fields)
            count += 1
    return count


def _options(
    client: Client | None, customer_of: Callable[[str], str | None] | None = None
) -> CaptureOptions:
    return CaptureOptions(
        record=lambda observation: Recorder.for_client(client).record(observation),
        customer_of=customer_of,
    )


def _first_found(found: Iterable[Endpoint | None]) -> Endpoint | None:
    return next(filter(None, found), None)


_BATCH_PATHS: Final = ("/files/{id}/content", "/v1/messages/batches/{id}/results")


def _response_fields(response: object, names: tuple[str, ...] | None) -> dict[str, Any]:
    if not isinstance(response, str | bytes):
        return read_fields(response, names)
    try:
        body = response.encode() if isinstance(response, str) else response
        return read_json_fields(body, names)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the response is not a JSON object: {error}") from None
