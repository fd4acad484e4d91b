"""Deepgram's package: seconds, characters and tokens."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest
from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.core.http_client import HttpClient
from deepgram.transport import restore_transport

import outlay
from outlay._capture.observation import Observation
from outlay._capture.providers.deepgram import LIBRARY
from tests.capture.providers.api import ProviderApi, Scripted
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Callable,
        Iterator,
        Mapping,
        Sequence,
    )
    from pathlib import Path

    from tests.capture.providers.conftest import Capture

# The package imports what websockets is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")

SECRET: Final = "to be or not to be"
METADATA: Final = {
    "transaction_key": "deprecated",
    "request_id": "req_1",
    "sha256": "0" * 64,
    "created": "2026-11-20T08:00:00.000Z",
    "duration": 25.933313,
    "channels": 2,
    "models": ["uuid-1"],
    "model_info": {"uuid-1": {"name": "general-nova-3", "arch": "nova-3"}},
}
HEARD: Final = {
    "metadata": METADATA,
    "results": {"channels": [{"alternatives": [{"transcript": SECRET}]}]},
}
SECONDS: Final = Decimal("25.933313")
METADATA_MESSAGE: Final = {"type": "Metadata", **METADATA}


def client_of(*answers: Scripted) -> DeepgramClient:
    """Return a client that knows only what it is told."""
    return DeepgramClient(api_key="test", httpx_client=ProviderApi(*answers).client())


def seen(**fields: Any) -> Observation:
    """Return what is observed of the transcription."""
    common: dict[str, Any] = {
        "provider": "deepgram",
        "event_type": "cost.ai.audio",
        "operation_id": "req_1",
        "model": "nova-3",
    }
    return Observation(**{**common, **fields})


def listen(client: Any, **options: Any) -> Any:
    """Have something written down."""
    return client.listen.v1.media.transcribe_url(
        url="https://example.test/a.wav", model="nova-3-general", **options
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, seen(usage={"second": SECONDS})),
        ({"multichannel": True}, seen(usage={"second": 2 * SECONDS})),
        (
            {"language": "multi"},
            seen(usage={"second": SECONDS}, service_tier="multilingual"),
        ),
    ],
    ids=["plain", "by channel", "multilingual"],
)
def test_a_transcription_is_observed_by_the_second(
    options: dict[str, Any], expected: Observation, capture: Capture
) -> None:
    """Of each channel, if they are read apart; by the model that answered."""
    client = client_of(Scripted(HEARD))
    with capture(LIBRARY, client) as observed:
        listen(client, **options)

    assert observed == [expected]
    assert SECRET not in repr(observed)


def test_an_asynchronous_transcription_is_observed_alike(capture: Capture) -> None:
    """As the other."""
    client = AsyncDeepgramClient(
        api_key="test", httpx_client=ProviderApi(Scripted(HEARD)).async_client()
    )
    with capture(LIBRARY, client) as observed:
        asyncio.run(listen(client))

    assert observed == [seen(usage={"second": SECONDS})]


def test_what_is_analysed_of_a_transcription_is_a_cost_line_of_its_own(
    capture: Capture,
) -> None:
    """By the tokens of all its models."""
    report = {"model_uuid": "u", "input_tokens": 40, "output_tokens": 5}
    metadata = {**METADATA, "summary_info": report, "topics_info": report}
    client = client_of(Scripted({**HEARD, "metadata": metadata}))
    with capture(LIBRARY, client) as observed:
        listen(client, summarize="v2")

    assert observed == [
        seen(usage={"second": SECONDS}),
        seen(
            event_type="cost.ai.inference",
            line="intelligence",
            model="intelligence",
            usage={"input_tokens": 80, "output_tokens": 10},
        ),
    ]


def test_a_transcription_that_is_called_back_with_is_tracked_once(
    tmp_path: Path,
) -> None:
    """Pending until then, and for the customer of the code that asked."""
    book = tmp_path / "prices.toml"
    book.write_text(
        '[[price]]\nprovider = "deepgram"\nmodel = "nova-3*"\nfrom = 2026-01-01\n'
        "units.second = { price = 0.0043, per = 60 }\nrounding = { places = 6 }\n"
    )
    client = client_of(Scripted({"request_id": "req_1"}))
    with Recorded(price_book=book) as tracked:
        outlay.instrument(client, client=tracked.client)
        with outlay.attribute(customer_id="cus_2"):
            listen(client, callback="https://example.test/hook")
        outlay.uninstrument(client)
        assert tracked.client.stats().unpriced == 1
        for _ in range(2):
            outlay.observe(HEARD, provider="deepgram", client=tracked.client)

        event = tracked.only()
        assert (event.subject, event.data["amount"]) == ("cus_2", Decimal("0.001859"))
        assert tracked.client.stats().unpriced == 0
        assert SECRET not in tracked.text()


HEARD_LIVE: Final = {
    "type": "Results",
    "duration": 1.5,
    "channel": {"alternatives": [{"transcript": SECRET}]},
    "metadata": {
        "request_id": "req_1",
        "model_info": {"name": "general-nova-3", "version": "1", "arch": "nova-3"},
    },
}
LIVE: Final = ({**HEARD_LIVE}, {**HEARD_LIVE, "duration": 2}, METADATA_MESSAGE)


class Socket:
    """Deepgram's own seam for connections of the user's."""

    messages: ClassVar[Sequence[Mapping[str, Any]]] = LIVE

    def __init__(self, _url: str, _headers: Mapping[str, str]) -> None:
        self._left = [json.dumps(each) for each in self.messages]

    def send(self, data: object) -> None:
        """Take audio."""

    def recv(self) -> str:
        """Return the next message."""
        return self._left.pop(0)

    def __iter__(self) -> Iterator[str]:
        while self._left:
            yield self.recv()

    def close(self) -> None:
        """Be closed."""


class AsyncSocket(Socket):
    """The same for an event loop."""

    async def send(self, data: object) -> None:  # type: ignore[override]
        """Take audio."""

    async def recv(self) -> str:  # type: ignore[override]
        """Return the next message."""
        return super().recv()

    async def __aiter__(self) -> AsyncIterator[str]:
        while self._left:
            yield super().recv()

    async def close(self) -> None:  # type: ignore[override]
        """Be closed."""


class CutSocket(Socket):
    """A connection that ends without its last message."""

    messages = LIVE[:-1]


@pytest.fixture
def restored() -> Iterator[None]:
    """Take the transports of this test out of the package again."""
    yield
    restore_transport()


def live_client(socket: type[Socket]) -> DeepgramClient:
    """Return a client whose connections are ``socket``."""
    return DeepgramClient(api_key="test", transport_factory=socket)


def by_iterating(connection: Any) -> None:
    """Read all messages, some before a break."""
    for _ in connection:
        break
    assert [each.type for each in connection] == ["Results", "Metadata"]


def by_receiving(connection: Any) -> None:
    """Read message by message."""
    connection.send_media(b"audio")
    assert [connection.recv().type for _ in LIVE] == ["Results", "Results", "Metadata"]


def by_listening(connection: Any) -> None:
    """Let the package call back, in another thread."""
    said: list[Any] = []
    connection.on(EventType.MESSAGE, said.append)
    listener = threading.Thread(target=connection.start_listening)
    listener.start()
    listener.join()
    assert len(said) == len(LIVE)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("read", [by_iterating, by_receiving, by_listening])
def test_live_audio_is_observed_by_the_second_at_its_end(
    read: Callable[[Any], None], capture: Capture
) -> None:
    """However the messages are read. Live audio has another price than a recording."""
    client = live_client(Socket)
    with (
        capture(LIBRARY, client) as observed,
        client.listen.v1.connect(model="nova-3", multichannel=True) as connection,
    ):
        read(connection)
        assert observed == [seen(usage={"streamed_second": 2 * SECONDS})]

    assert observed == [seen(usage={"streamed_second": 2 * SECONDS})]
    assert SECRET not in repr(observed)


@pytest.mark.usefixtures("restored")
def test_asynchronous_live_audio_is_observed_alike(capture: Capture) -> None:
    """As the other."""
    client = AsyncDeepgramClient(api_key="test", transport_factory=AsyncSocket)

    async def hear() -> None:
        async with client.listen.v1.connect(model="nova-3") as connection:
            await connection.send_media(b"audio")
            await connection.recv()
            assert [each.type async for each in connection] == ["Results", "Metadata"]

    with capture(LIBRARY, client) as observed:
        asyncio.run(hear())

    assert observed == [seen(usage={"streamed_second": SECONDS})]


@pytest.mark.usefixtures("restored")
def test_live_audio_belongs_to_the_code_that_connected(tmp_path: Path) -> None:
    """The listening thread knows no customer. Its price is that of the book."""
    book = tmp_path / "prices.toml"
    book.write_text(
        '[[price]]\nprovider = "deepgram"\nmodel = "nova-3*"\nfrom = 2026-01-01\n'
        "units.streamed_second = { price = 0.0077, per = 60 }\n"
        "rounding = { places = 6 }\n"
    )
    client = live_client(Socket)
    with Recorded(price_book=book) as tracked:
        outlay.instrument(client, client=tracked.client)
        with (
            outlay.attribute(customer_id="cus_2"),
            client.listen.v1.connect(model="nova-3") as connection,
        ):
            by_listening(connection)
        outlay.uninstrument(client)

        event = tracked.only()
        assert (event.subject, event.data["amount"]) == ("cus_2", Decimal("0.003328"))


@pytest.mark.usefixtures("restored")
def test_live_audio_without_its_last_message_waits_for_an_amount(
    capture: Capture,
) -> None:
    """The seconds are not known, so no price is right."""
    client = live_client(CutSocket)
    with capture(LIBRARY, client) as observed:
        with client.listen.v1.connect(model="nova-3") as connection:
            assert len([*connection]) == 2
        del connection
        gc.collect()

    assert observed == [seen(usage={}, is_complete=False)]


@pytest.mark.parametrize(
    "headers",
    [
        {
            "dg-char-count": "32",
            "dg-model-name": "aura-asteria-en",
            "dg-request-id": "req_2",
        },
        {
            "x-dg-characters": "32",
            "x-dg-model-name": "aura-asteria-en",
            "x-dg-request-id": "req_2",
        },
    ],
    ids=["older", "newer"],
)
def test_speech_is_observed_by_the_character(
    headers: dict[str, str], capture: Capture
) -> None:
    """By whichever headers the model has."""
    client = client_of(Scripted([b"ID3"], headers=headers, kind="audio/mpeg"))
    with capture(LIBRARY, client) as observed:
        list(client.speak.v1.audio.generate(text=SECRET))

    assert observed == [
        Observation(
            provider="deepgram",
            event_type="cost.ai.audio",
            request_id="req_2",
            model="aura-asteria-en",
            usage={"character": 32},
        )
    ]


def test_an_analysis_of_a_text_is_observed_by_the_token(capture: Capture) -> None:
    """It has no audio, and so no seconds."""
    report = {"model_uuid": "u", "input_tokens": 40, "output_tokens": 5}
    answer = {"metadata": {"request_id": "req_3", "summary_info": report}}
    client = client_of(Scripted({**answer, "results": {"summary": {"text": SECRET}}}))
    with capture(LIBRARY, client) as observed:
        client.read.v1.text.analyze(request={"text": SECRET}, summarize=True)

    assert observed == [
        seen(
            event_type="cost.ai.inference",
            operation_id="req_3",
            model="intelligence",
            usage={"input_tokens": 40, "output_tokens": 5},
        )
    ]


def test_an_error_costs_nothing(capture: Capture) -> None:
    """And is the caller's."""
    client = client_of(Scripted({"err_code": "INVALID_AUTH", "err_msg": SECRET}, 401))
    with capture(LIBRARY, client) as observed, pytest.raises(ApiError):
        listen(client)

    assert observed == []


def test_all_clients_can_be_captured_and_released(capture: Capture) -> None:
    """No trace stays."""
    before = [vars(HttpClient)[name] for name in ("request", "stream")]
    client = client_of(Scripted(HEARD), Scripted(HEARD))
    with capture(LIBRARY) as observed:
        listen(client)
    listen(client)

    assert observed == [seen(usage={"second": SECONDS})]
    assert [vars(HttpClient)[name] for name in ("request", "stream")] == before
