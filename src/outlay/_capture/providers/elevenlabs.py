"""Extract costs from ElevenLabs: by the billed character, or by the second of audio.

A header contains the billed characters.
Source: https://elevenlabs.io/docs/api-reference/introduction, on generation costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import to_quantity
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.instrumentation.uncaptured import uncaptured
from outlay._capture.observation import Observation
from outlay._capture.providers.generators.fern import http_client_of, library

Response = Mapping[str, Any]


LIBRARY: Final = library(
    "elevenlabs",
    extra_modules={
        "elevenlabs.realtime_tts": uncaptured(
            "ElevenLabs' speech of streamed texts", "convert_realtime", http_client_of
        ),
        # It does not know its client. So there is a warning if all are captured.
        "elevenlabs.realtime.scribe": uncaptured(
            "ElevenLabs' realtime transcriptions", "connect", lambda _: None
        ),
        "elevenlabs.conversational_ai.conversation": uncaptured(
            "ElevenLabs' conversations",
            "start_session",
            lambda conversation: http_client_of(conversation.client),
        ),
    },
)


def generation(_response: Response, call: Call) -> Observation:
    """Read speech, sounds or music, by the header that counts billed characters."""
    characters = to_quantity(next(filter(None, map(call.headers.get, _COSTS)), None))
    model = call.request.get("model_id")
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        request_id=call.request_id,
        model=model if isinstance(model, str) else None,
        usage={} if characters is None else {"character": characters},
        is_complete=characters is not None,
    )


def transcription(response: Response, call: Call) -> Observation:
    """Read a transcription: by the second of audio, once it is there."""
    seconds = to_quantity(response.get("audio_duration_secs"))
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        operation_id=response.get("transcription_id"),
        request_id=call.request_id,
        model="speech-to-text",
        usage={} if seconds is None else {"second": seconds},
        price_pending=seconds is None,
    )


_COSTS: Final = ("character-cost", "x-character-count")
_GENERATED: Final = (
    "audio-isolation",
    "audio-isolation/stream",
    "music",
    "music/detailed",
    "music/detailed/stream",
    "music/stem-separation",
    "music/stream",
    "music/video-to-music",
    "sound-generation",
    "speech-to-speech/{voice}",
    "speech-to-speech/{voice}/stream",
    "text-to-dialogue",
    "text-to-dialogue/stream",
    "text-to-dialogue/stream/with-timestamps",
    "text-to-dialogue/with-timestamps",
    "text-to-speech/{voice}",
    "text-to-speech/{voice}/stream",
    "text-to-speech/{voice}/stream/with-timestamps",
    "text-to-speech/{voice}/with-timestamps",
    "text-to-voice/create-previews",
    "text-to-voice/design",
    "text-to-voice/{voice}/remix",
    "voice-changer/{voice}",
    "voice-changer/{voice}/stream",
)

ENDPOINTS: Final = {
    **dict.fromkeys(
        (f"POST /v1/{path}" for path in _GENERATED), Endpoint(generation, ())
    ),
    "POST /v1/speech-to-text": Endpoint(
        transcription, ("transcription_id", "audio_duration_secs")
    ),
}
"""Other operations cost nothing, or are not captured: web sockets, dubbing, agents, and
retrieved transcriptions, which contain no time."""

for _pattern, _endpoint in ENDPOINTS.items():
    register("elevenlabs", _pattern, _endpoint)
