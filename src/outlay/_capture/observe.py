"""The doors for answers that come by another way: `observe`, `observe_batch`."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from outlay._capture.extraction.registry import Endpoint
    from outlay._client import Client

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_WEBHOOK: Final = "CALLBACK /"


def observe(
    answer: object,
    *,
    provider: str,
    endpoint: str | None = None,
    headers: Mapping[str, str] = _NOTHING,
    request: Mapping[str, Any] = _NOTHING,
    client: Client | None = None,
) -> None:
    """Track what a provider's answer says, however it reached you.

    For what providers tell afterwards, by calling a web hook of yours, and for HTTP
    libraries that `instrument` does not know. The same extractor reads the answer, so
    its operation has the same key, and counts once, whoever else observes it.

    The cost belongs to the customer of the running code (`attribute`), or to whoever
    made the call, if that was in this process a while ago.

    Thread safety: any thread.

    Args:
        answer: JSON as bytes or text, a mapping, or an object of the provider's
            library.
        provider: who answered, such as ``replicate``.
        endpoint: that was called, such as ``POST /v1/enrich``. None: the provider
            calls back with ``answer``.
        headers: of the answer, if its extractor reads some.
        request: the JSON that was sent, if its extractor looks at it.
        client: tracks the cost; None: the default client.

    Raises:
        ConfigError: no extractor reads such an answer, or it is no JSON object.
    """
    from outlay._capture.extraction.registry import Call, find_endpoint  # noqa: PLC0415
    from outlay._capture.guard import guarded  # noqa: PLC0415 - see __init__
    from outlay._capture.instrumentation.library import CaptureOptions  # noqa: PLC0415
    from outlay._capture.recorder import Recorder  # noqa: PLC0415

    method, _, path = (endpoint or _WEBHOOK).partition(" ")
    found = find_endpoint(provider, method, path)
    if found is None:
        raise ConfigError(
            f"nothing reads {endpoint or 'a callback'} of {provider!r}; see the table "
            "in docs/providers.md, or register an outlay.extractors.extractor"
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
    read = _response_fields(answer, found.fields)
    options = CaptureOptions(record=lambda seen: Recorder.of(client).record(seen))
    guarded(provider, options.finish_call, found, call, read)


def observe_batch(
    lines: str | bytes | Iterable[object],
    *,
    provider: str,
    model: str | None = None,
    customer_of: Callable[[str], str | None] | None = None,
    client: Client | None = None,
) -> int:
    """Track what the requests of a batch cost, by the output that you have of it.

    `instrument` does the same whenever a client that is captured reads such an output.
    Each response counts once by its id, however often its line is read, by whichever
    way, as long as it is read for the same customer; errors cost nothing.

    Thread safety: any thread.

    Args:
        lines: the output: OpenAI's file, what Anthropic's ``batches.results`` returns,
            or what Bedrock wrote. As text or bytes, or line by line: text, bytes,
            mappings, or objects of the provider's library.
        provider: who answered, such as ``openai``.
        model: what answered, where the output does not tell, as Amazon's does not.
        customer_of: tells whose a request is, by its ``custom_id`` or ``recordId``;
            None: whoever the running code's costs belong to. So is what it returns
            None for.
        client: tracks the costs; None: the default client.

    Returns:
        How many lines could be read, those of errors among them.

    Raises:
        ConfigError: nothing reads batches of the provider.
    """
    from outlay._capture.extraction.registry import Call, find_endpoint  # noqa: PLC0415
    from outlay._capture.guard import guarded  # noqa: PLC0415 - see __init__
    from outlay._capture.instrumentation.library import CaptureOptions  # noqa: PLC0415
    from outlay._capture.recorder import Recorder  # noqa: PLC0415

    endpoint = _first_found(
        find_endpoint(provider, "GET", path) for path in _BATCH_PATHS
    )
    if endpoint is None:
        raise ConfigError(f"nothing reads batches of {provider!r}")
    call = Call(provider=provider, method="GET", model=model)
    options = CaptureOptions(
        record=lambda seen: Recorder.of(client).record(seen), customer_of=customer_of
    )
    count = 0
    for line in lines.splitlines() if isinstance(lines, str | bytes) else lines:
        if isinstance(line, str | bytes) and not line.strip():
            continue
        read = guarded(provider, _response_fields, line, endpoint.fields)
        if read:
            guarded(provider, options.finish_call, endpoint, call, read)
            count += 1
    return count


def _first_found(found: Iterable[Endpoint | None]) -> Endpoint | None:
    return next(filter(None, found), None)


_BATCH_PATHS: Final = ("/files/{id}/content", "/v1/messages/batches/{id}/results")


def _response_fields(answer: object, names: tuple[str, ...] | None) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415 - see __init__

    from outlay._capture.extraction.fields import read_fields, read_json_fields  # noqa: PLC0415

    if not isinstance(answer, str | bytes):
        return read_fields(answer, names)
    try:
        body = answer.encode() if isinstance(answer, str) else answer
        return read_json_fields(body, names)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the answer is no JSON object: {error}") from None
