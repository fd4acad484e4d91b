"""Extract costs from AssemblyAI: transcriptions, by the second of audio.

AssemblyAI is called through an HTTP client. A transcription does not contain the time
of its end, so a retrieved one may be of last month. Only transcriptions that were
created, or came by callback, are counted.
Source: https://www.assemblyai.com/docs/api-reference/transcripts
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._capture import event_types
from outlay._capture.extraction.fields import to_quantity
from outlay._capture.extraction.registry import Call, Endpoint, register
from outlay._capture.observation import Observation

if TYPE_CHECKING:
    from collections.abc import Mapping


def transcription(response: Mapping[str, Any], call: Call) -> Observation:
    """Read a transcription, which is queued when it is created."""
    is_done = response.get("status") == "completed"
    seconds = to_quantity(response.get("audio_duration")) if is_done else None
    return Observation(
        provider=call.provider,
        event_type=event_types.AUDIO,
        operation_id=response.get("id"),
        model=response.get("speech_model_used") or response.get("speech_model"),
        usage={} if seconds is None else {"second": seconds},
        price_pending=seconds is None,
        is_lookup=seconds is not None,
    )


_TRANSCRIPTION: Final = Endpoint(
    transcription,
    ("id", "status", "audio_duration", "speech_model", "speech_model_used"),
)
for _pattern in ("POST /v2/transcript", "CALLBACK /"):
    register("assemblyai", _pattern, _TRANSCRIPTION)
