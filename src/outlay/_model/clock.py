"""Read the time. No other module does.

Wall time (UTC, milliseconds since 1970) dates events and attempts. Monotonic time, in
seconds, measures waits, because a wall clock may step.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

NS_PER_MS: Final = 1_000_000
HOUR_MS: Final = 3600 * 1000

# A finaliser may track while Python tears its modules down. CPython 3.13 then crashes
# in sums of datetimes whose module is gone.
_KEEP_ALIVE: Final = sys.modules.get("_datetime")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """The source of time. Tests bring their own."""

    def now_ns(self) -> int:
        """Return wall time in nanoseconds since 1970-01-01T00:00:00Z."""
        ...

    def now_ms(self) -> int:
        """Return wall time in milliseconds since 1970-01-01T00:00:00Z."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some fixed instant. The value never decreases."""
        ...


class SystemClock:
    """The machine's clocks. Thread safety: any thread."""

    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    def now_ms(self) -> int:
        """Return wall time in milliseconds since 1970-01-01T00:00:00Z."""
        return time.time_ns() // NS_PER_MS


def thread_cpu_seconds() -> float:
    """Return the CPU time of the calling thread in seconds."""
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
