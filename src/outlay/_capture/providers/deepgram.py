"""Extract costs from Deepgram: audio, speech and analyses of texts.

Audio costs by the second, speech by the character, analyses by the token.

Source: https://developers.deepgram.com/reference
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Context, Decimal
from typing import Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import to_quantity
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.instrumentation.uncaptured import uncaptured
from outlay._capture.observation import Observation
from outlay._capture.providers.deepgram_websockets import websocket_patches
from outlay._capture.providers.generators.fern import http_client_of, library

Response = Mapping[str, Any]


def transcription(response: Response, call: Call) -> Iterator[Observation]:
    """Read a transcription, or the announcement of its callback."""
    request_id = response.get("metadata.request_id") or response.get("request_id")
    seconds = _seconds(response, call)
    yield Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        operation_id=request_id,
        model=_model(response) or call.query.get("model"),
        service_tier=_tier(call),
        usage={} if seconds is None else {"second": seconds},
        price_pending=seconds is None,
        is_lookup=call.method == "CALLBACK",
    )
    yield from _analyses(response, call, request_id, "intelligence")


def live_transcription(response: Response, call: Call) -> Observation:
    """Read the last message of a WebSocket, or the first if the last never came.

    The seconds have a unit of their own, because live audio has another price.
    """
    is_last = response.get("type") == "Metadata"
    metadata = (
        {f"metadata.{name}": value for name, value in response.items()}
        if is_last
        else response
    )
    seconds = _seconds(metadata, call) if is_last else None
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        operation_id=metadata.get("metadata.request_id"),
        model=_model(metadata) or call.model,
        service_tier=_tier(call),
        usage={} if seconds is None else {"streamed_second": seconds},
        is_complete=is_last,
    )


def speech(_response: Response, call: Call) -> Observation:
    """Read speech. Older and newer models name the headers differently."""
    characters = to_quantity(_header(call, "dg-char-count", "x-dg-characters"))
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=_header(call, "dg-request-id", "x-dg-request-id"),
        model=_header(call, "dg-model-name", "x-dg-model-name"),
        usage={} if characters is None else {"character": characters},
        is_complete=characters is not None,
    )


def analysis(response: Response, call: Call) -> Iterator[Observation]:
    """Read the analysis of a text."""
    yield from _analyses(response, call, response.get("metadata.request_id"), None)


def _analyses(
    response: Response, call: Call, request_id: str | None, line: str | None
) -> Iterator[Observation]:
    reports = [response[name] for name in _REPORTS if response.get(name)]
    if reports:
        yield Observation(
            provider=call.provider,
            event_type=event_types.INFERENCE,
            operation_id=request_id,
            line=line,
            model="intelligence",
            usage={
                unit: sum(int(report.get(unit) or 0) for report in reports)
                for unit in ("input_tokens", "output_tokens")
            },
        )


def _seconds(response: Response, call: Call) -> Decimal | int | None:
    seconds = to_quantity(response.get("metadata.duration"))
    channels = to_quantity(response.get("metadata.channels"))
    if seconds is None or not channels or call.query.get("multichannel") != "true":
        return seconds
    return _EXACT.multiply(Decimal(seconds), Decimal(channels))


def _tier(call: Call) -> str | None:
    return "multilingual" if call.query.get("language") == "multi" else None


def _model(response: Response) -> str | None:
    """Return the name that price lists have for the model."""
    for known in (response.get("metadata.model_info") or {}).values():
        if isinstance(known, Mapping) and isinstance(known.get("arch"), str):
            return str(known["arch"])
    return None


def _header(call: Call, *names: str) -> str | None:
    return next(filter(None, map(call.headers.get, names)), None)


_EXACT: Final = Context(prec=100)
_REPORTS: Final = tuple(
    f"metadata.{kind}_info" for kind in ("summary", "sentiment", "topics", "intents")
)
_TRANSCRIPTION: Final = Endpoint(
    transcription,
    (
        "request_id",
        "metadata.request_id",
        "metadata.duration",
        "metadata.channels",
        "metadata.model_info",
        *_REPORTS,
    ),
)

_LIVE: Final = Endpoint(
    live_transcription,
    (
        "type",
        "request_id",
        "duration",
        "channels",
        "model_info",
        "metadata.request_id",
        "metadata.model_info",
    ),
)
_SOCKETS: Final = {
    "listen.v1": websocket_patches(_LIVE),
    **dict.fromkeys(
        ("listen.v2", "speak.v1", "speak.v2", "agent.v1"),
        uncaptured("Deepgram's other WebSockets", "connect", http_client_of),
    ),
}

LIBRARY: Final = library(
    "deepgram",
    extra_modules={
        f"deepgram.{part}.{kind}client": patches
        for part, patches in _SOCKETS.items()
        for kind in ("", "raw_")
    },
)

ENDPOINTS: Final = {
    "POST /v1/listen": _TRANSCRIPTION,
    "POST /v1/speak": Endpoint(speech, ()),
    "POST /v1/read": Endpoint(analysis, ("metadata.request_id", *_REPORTS)),
    "CALLBACK /": _TRANSCRIPTION,
}
"""Other operations cost nothing, or are not captured, such as WebSockets of speech."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("deepgram", _pattern, _endpoint)
