"""Ship with a transport that remembers why something was not delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._shipping.outcomes import ServerEffect
from outlay._shipping.wire import read_event_response
from outlay.api._responses import UNAUTHORIZED_REMEDY
from outlay.errors import UnavailableError
from outlay.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay._model.settings import Settings
    from outlay.transport import TransportResponse

SETTLE_SECONDS: Final = 0.5
"""Seconds to write the outcome of a response that has arrived into the journal."""

_FIRST_TIMEOUT: Final = 1.0  # seconds; each flush waits twice as long as the last one


class RecordingTransport:
    """A transport that remembers the last failure.

    Thread safety: The same as `HttpTransport`. Of concurrent failures, one is kept.

    Attributes:
        is_paused: Whether the server accepts nothing until a person acts.
        failure: The reason why something was not delivered, as far as it is known.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_response: Callable[[bytes, TransportResponse], None] | None = None,
    ) -> None:
        """Prepare to post.

        Args:
            settings: The address, the credential and the limits of requests.
            on_response: A function that is called with each body and its response.
        """
        self._inner = HttpTransport.from_settings(settings)
        self._address = settings.base_url
        self._on_response = on_response
        self.is_paused = False
        self.failure = ""

    def post(self, path: str, body: bytes) -> TransportResponse:
        """Post, and remember a failure; see `outlay.transport.Transport`."""
        try:
            response = self._inner.post(path, body)
        except UnavailableError as error:
            self.failure = f"no response from {self._address} ({error})"
            raise
        decision, message = read_event_response(response, body).results[0]
        self.is_paused = decision.effect is ServerEffect.PAUSE
        if response.status >= 300:
            self.failure = message
        if response.status == 401:
            self.failure = f"{message}; {UNAUTHORIZED_REMEDY}"
        if self._on_response is not None:
            self._on_response(body, response)
        return response

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()


def flush_repeatedly(
    flush: Callable[[float], bool], transport: RecordingTransport, timeout: float
) -> bool:
    """Flush until all is settled, the server refuses everything, or time is up.

    Each call of ``flush`` skips the backoff, so that it sends once more.

    Args:
        flush: A function that waits a number of seconds for delivery, and returns
            whether nothing is left.
        transport: The transport that the flush sends with.
        timeout: The limit in seconds.

    Returns:
        Whether nothing is left.
    """
    for seconds in _increasing_timeouts(timeout):
        if flush(seconds):
            return True
        if transport.is_paused:
            break
    return False


def _increasing_timeouts(timeout: float) -> Iterator[float]:
    """Yield waiting times in seconds, each twice the last, ``timeout`` in all."""
    seconds = _FIRST_TIMEOUT
    while timeout > seconds:
        yield seconds
        timeout -= seconds
        seconds *= 2
    yield max(0.0, timeout)
