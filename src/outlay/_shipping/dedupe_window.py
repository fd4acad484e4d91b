"""Decide whether sending an event again could count it twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._model.clock import HOUR_MS

if TYPE_CHECKING:
    from outlay._journal.segment_reader import PendingEvent
    from outlay._model.clock import Clock
    from outlay._model.settings import Settings


class DedupeWindow:
    """Knows how long the server recognizes the key of an event.

    An event is in doubt after an attempt that the server may have counted. Past the
    window, the server no longer recognizes its key.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Use the window of ``settings``, less its margin."""
        self._seconds: Final = max(0.0, settings.dedupe_window - settings.dedupe_margin)
        self._clock: Final = clock

    def note_attempt(self, events: list[PendingEvent]) -> None:
        """Note when the events' doubt began, by a clock that cannot be set back."""
        wall_ms, now = self._clock.now_ms(), self._clock.monotonic()
        for event in events:
            if not event.first_attempt_ms:
                event.in_doubt_since = now
            elif event.in_doubt_since is None:
                age = max(0, wall_ms - event.first_attempt_ms) / 1000
                event.in_doubt_since = now - age

    def is_past(self, event: PendingEvent) -> bool:
        """Return whether sending ``event`` again might count it twice."""
        first = event.first_attempt_ms
        if first == 0:
            return False
        since = event.in_doubt_since
        if since is not None and self._clock.monotonic() - since > self._seconds:
            return True  # whatever the wall clock says
        now = self._clock.now_ms()
        # A first attempt in the future means that the clock was set back, and the age
        # is unknown. One hour is allowed for time synchronization.
        if first is None or first > now + HOUR_MS:
            return True
        return now - first > 1000 * self._seconds
