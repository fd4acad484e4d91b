"""A clock that only the test moves."""

from __future__ import annotations

from typing import Final

HOUR: Final = 3600.0
"""Seconds."""

NOON_MS: Final = 1_767_268_800_000
"""2026-01-01T12:00:00Z."""


class ManualClock:
    """Stands still until told. Thread safety: one thread moves it, any reads it."""

    def __init__(self) -> None:
        self._wall_ms = NOON_MS
        self._monotonic = 1000.0

    def now_ns(self) -> int:
        """Return wall time in nanoseconds since 1970."""
        return self._wall_ms * 1_000_000

    def now_ms(self) -> int:
        """Return wall time in milliseconds since 1970."""
        return self._wall_ms

    def monotonic(self) -> float:
        """Return seconds since some fixed instant."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._wall_ms += round(seconds * 1000)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock to another time, as an administrator would."""
        self._wall_ms += round(seconds * 1000)
