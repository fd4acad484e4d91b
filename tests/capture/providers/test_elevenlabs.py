"""ElevenLabs' package: what its headers say that is billed."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from elevenlabs.client import AsyncElevenLabs, ElevenLabs
from elevenlabs.core.api_error import ApiError
from elevenlabs.core.http_client import HttpClient

from outlay._capture.observation import Observation
from outlay._capture.providers.elevenlabs import LIBRARY
from tests.capture.providers.api import ProviderApi, Scripted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.capture.providers.conftest import Capture

SECRET: Final = "to be or not to be"
TOLD: Final = {"character-cost": "9", "request-id": "req_1"}
AUDIO: Final = Scripted([b"ID3", b"more"], headers=TOLD, kind="audio/mpeg")
SPOKEN: Final = Observation(
    provider="elevenlabs",
    event_type="cost.ai.audio",
    request_id="req_1",
    model="eleven_flash_v2_5",
    usage={"character": 9},
)


def client_of(*answers: Scripted) -> ElevenLabs:
    """Return a client that knows only what it is told."""
    return ElevenLabs(api_key="test", httpx_client=ProviderApi(*answers).client())


def speak(client: Any) -> Any:
    """Have something said."""
    return client.text_to_speech.convert(
        "voice", text=SECRET, model_id="eleven_flash_v2_5"
    )


def test_speech_is_observed_by_what_its_header_bills(capture: Capture) -> None:
    """Not by the text, which is longer, and private."""
    client = client_of(AUDIO)
    with capture(LIBRARY, client) as observed:
        assert b"".join(speak(client)) == b"ID3more"

    assert observed == [SPOKEN]
    assert SECRET not in repr(observed)


def test_asynchronous_speech_is_observed_alike(capture: Capture) -> None:
    """As the other."""

    async def hear() -> bytes:
        return b"".join([part async for part in speak(client)])

    client = AsyncElevenLabs(
        api_key="test", httpx_client=ProviderApi(AUDIO).async_client()
    )
    with capture(LIBRARY, client) as observed:
        assert asyncio.run(hear()) == b"ID3more"

    assert observed == [SPOKEN]


def test_speech_that_nobody_hears_to_its_end_is_billed_alike(capture: Capture) -> None:
    """It was made: the header tells so before the first byte."""
    client = client_of(AUDIO)
    with capture(LIBRARY, client) as observed:
        next(speak(client))

    assert observed == [SPOKEN]


def test_a_raw_response_is_observed_alike(capture: Capture) -> None:
    """For code that wants to see the headers."""
    client = client_of(AUDIO)
    with capture(LIBRARY, client) as observed:
        raw = client.text_to_speech.with_raw_response
        with speak(type("Raw", (), {"text_to_speech": raw})) as response:
            assert response.headers["character-cost"] == "9"

    assert observed == [SPOKEN]


WAYS: Final[Mapping[str, Callable[[ElevenLabs], Any]]] = {
    "stream": lambda client: client.text_to_speech.stream("voice", text=SECRET),
    "dialogue": lambda client: client.text_to_dialogue.convert(inputs=[]),
    "sounds": lambda client: client.text_to_sound_effects.convert(text=SECRET),
    "music": lambda client: client.music.compose(prompt=SECRET),
    "other voice": lambda client: client.speech_to_speech.convert("v", audio=b"1"),
    "isolation": lambda client: client.audio_isolation.convert(audio=b"1"),
}


@pytest.mark.parametrize("way", WAYS)
def test_everything_that_is_made_is_observed(way: str, capture: Capture) -> None:
    """By the same header."""
    client = client_of(AUDIO)
    with capture(LIBRARY, client) as observed:
        b"".join(WAYS[way](client))

    assert [one.usage for one in observed] == [{"character": 9}]


@pytest.mark.parametrize(
    ("headers", "usage"),
    [({"x-character-count": "9"}, {"character": 9}), ({}, {})],
    ids=["other name", "absent"],
)
def test_without_its_header_what_is_billed_is_not_known(
    headers: dict[str, str], usage: dict[str, int], capture: Capture
) -> None:
    """Counting the text would be a guess: models bill parts of a character."""
    client = client_of(Scripted(b"ID3", headers=headers, kind="audio/mpeg"))
    with capture(LIBRARY, client) as observed:
        list(speak(client))

    assert [(one.usage, one.is_complete) for one in observed] == [(usage, bool(usage))]


def test_a_transcription_is_observed_by_the_second(capture: Capture) -> None:
    """To the digit that the answer has."""
    answer = {
        "text": SECRET,
        "words": [],
        "language_code": "en",
        "language_probability": 1,
        "transcription_id": "tr_1",
        "audio_duration_secs": 61.234567890123,
    }
    client = client_of(Scripted(answer, headers={"request-id": "req_1"}))
    with capture(LIBRARY, client) as observed:
        client.speech_to_text.convert(model_id="scribe_v2", file=b"1")

    assert observed == [
        Observation(
            provider="elevenlabs",
            event_type="cost.ai.audio",
            operation_id="tr_1",
            request_id="req_1",
            model="speech-to-text",
            usage={"second": Decimal("61.234567890123")},
        )
    ]


def test_a_transcription_that_is_called_back_with_is_pending(capture: Capture) -> None:
    """Until it is handed over."""
    queued = {"message": "queued", "request_id": "r", "transcription_id": "tr_1"}
    client = client_of(Scripted(queued))
    with capture(LIBRARY, client) as observed:
        client.speech_to_text.convert(model_id="scribe_v2", file=b"1", webhook=True)

    assert [(one.operation_id, one.price_pending) for one in observed] == [
        ("tr_1", True)
    ]


def test_lists_and_errors_cost_nothing(capture: Capture) -> None:
    """And an error is the caller's."""
    refused = Scripted({"detail": SECRET}, 401)
    client = client_of(Scripted({"voices": []}), refused)
    with capture(LIBRARY, client) as observed:
        client.voices.get_all()
        with pytest.raises(ApiError):
            list(speak(client))

    assert observed == []


def test_all_clients_can_be_captured_and_released(capture: Capture) -> None:
    """No trace stays."""
    before = [vars(HttpClient)[name] for name in ("request", "stream")]
    client = client_of(AUDIO, AUDIO)
    with capture(LIBRARY) as observed:
        list(speak(client))
    list(speak(client))

    assert observed == [SPOKEN]
    assert [vars(HttpClient)[name] for name in ("request", "stream")] == before
