"""Calls of a captured client whose costs are not captured are named in the log once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import elevenlabs
import pytest
from deepgram import DeepgramClient
from deepgram.environment import DeepgramClientEnvironment
from google import genai

from tests.support.observing import observing

if TYPE_CHECKING:
    from collections.abc import Callable

# Deepgram's package imports names that websockets deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")

NOWHERE: Final = "127.0.0.1:1"  # no connection is made: the log must not wait for one


def deepgram_client() -> DeepgramClient:
    """Return a client of Deepgram."""
    address = f"ws://{NOWHERE}"
    return DeepgramClient(
        api_key="k",
        environment=DeepgramClientEnvironment(
            base=f"http://{NOWHERE}",
            production=address,
            agent=address,
            agent_rest=f"http://{NOWHERE}",
        ),
    )


def say(client: DeepgramClient) -> None:
    """Connect to have a text spoken while it is written."""
    with client.speak.v1.connect():
        pass


def elevenlabs_client() -> elevenlabs.ElevenLabs:
    """Return a client of ElevenLabs."""
    return elevenlabs.ElevenLabs(api_key="k", base_url=f"http://{NOWHERE}")


def speak(client: elevenlabs.ElevenLabs) -> None:
    """Have a text spoken while it is written."""
    [*client.text_to_speech.convert_realtime("voice", text=iter(["to be "]))]


def google_client() -> genai.Client:
    """Return a client of Google."""
    return genai.Client(api_key="k", http_options={"base_url": f"http://{NOWHERE}"})


def live(client: genai.Client) -> None:
    """Begin a live session."""

    async def begin() -> None:
        async with client.aio.live.connect(model="gemini-live"):
            pass

    asyncio.run(begin())


CASES: Final = {
    "deepgram": ("Deepgram's other WebSockets", deepgram_client, say),
    "elevenlabs": ("ElevenLabs' speech of streamed texts", elevenlabs_client, speak),
    "google": ("google-genai's live sessions", google_client, live),
}


@pytest.mark.parametrize(("subject", "make", "use"), CASES.values(), ids=CASES)
def test_a_session_that_is_not_captured_is_named_once(
    subject: str,
    make: Callable[[], Any],
    use: Callable[[Any], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only for a captured client. The call fails as it would without outlay."""
    captured, other = make(), make()
    logged: list[str] = []
    with observing(captured) as seen:
        for client in (other, captured, captured):
            with contextlib.suppress(OSError):
                use(client)
                pytest.fail("there is no server")
            logged = [each for each in caplog.messages if subject in each]
            assert len(logged) == (0 if client is other else 1)

    [message] = logged
    assert message.endswith("track them with outlay.track_cost (logged once)")
    assert not seen
