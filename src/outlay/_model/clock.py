"""The only module that reads the time.

Wall time (UTC, milliseconds since 1970) dates events and attempts; monotonic time
(seconds) measures waits, because a wall clock may step.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

NS_PER_MS: Final = 1_000_000
HOUR_MS: Final = 3600 * 1000

# A finaliser may track while Python takes its modules down. CPython 3.13 then crashes
# in sums of datetimes whose module is gone.
_KEEP_ALIVE: Final = sys.modules.get("_datetime")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Where outlay gets the time from; tests bring their own."""

    def now_ns(self) -> int:
        """Return wall time in nanoseconds since 1970-01-01T00:00:00Z."""
        ...

    def now_ms(self) -> int:
        """Return wall time in milliseconds since 1970-01-01T00:00:00Z."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some fixed instant; never steps back."""
        ...


class SystemClock:
    """The machine's clocks. Thread safety: any thread."""

    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    def now_ms(self) -> int:
        """Return wall time in milliseconds since 1970-01-01T00:00:00Z."""
        return time.time_ns() // NS_PER_MS


def thread_cpu_seconds() -> float:
    """Return CPU seconds that the calling thread has used so far."""
    return time.thread_time()


def to_ms(moment: datetime) -> int:
    """Return an aware ``moment`` in milliseconds since 1970, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Return the aware UTC datetime of ``ms`` milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def format_rfc3339(ms: int) -> str:
    """Return ``ms`` since 1970 as RFC 3339 in UTC: ``2026-01-01T12:00:00.123Z``."""
    return from_ms(ms).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
