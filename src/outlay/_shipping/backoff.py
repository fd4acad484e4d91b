"""Decide how long to wait before the next attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import tenacity

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RETRY_AFTER: Final = 3600.0
"""The longest wait in seconds that a server may ask for. A wrong header must not stop
shipping for days."""


class Backoff:
    """Capped exponential backoff with full jitter, unless the server names the time.

    Full jitter spreads the clients of a server that comes back best, see
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.

    Thread safety: any thread.
    """

    def __init__(self, *, initial: float, maximum: float) -> None:
        """Grow from ``initial`` to ``maximum`` seconds, doubling each time."""
        self._wait = tenacity.wait_random_exponential(
            multiplier=initial, max=maximum, exp_base=2
        )

    def delay(self, attempts: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait after failures in a row.

        Args:
            attempts: The number of failures in a row, 1 or more.
            retry_after: The seconds that the server asked for. Zero counts as None: a
                proxy that always sends zero must not be hammered. Defaults to None.
        """
        if retry_after:
            return retry_after
        state = tenacity.RetryCallState(_UNUSED, None, (), {})
        state.attempt_number = attempts
        return self._wait(state)


# A wait strategy reads only the attempt's number, but the state needs a retrying
# object.
_UNUSED: Any = tenacity.Retrying()


def retry_after_seconds(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Return the wait that ``Retry-After`` asks for, or None without a usable one.

    Args:
        headers: The response's headers.
        now_ms: The wall time in milliseconds, for the header's date form.

    Source: RFC 9110, section 10.2.3: delay-seconds or an HTTP date. Some servers send
    fractions of a second. They are accepted, too.
    """
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value, now_ms)
    if not 0 <= seconds < float("inf"):  # also refuses NaN
        return None
    return min(seconds, MAX_RETRY_AFTER)


def _seconds_until(http_date: str, now_ms: int) -> float:
    try:
        instant = parsedate_to_datetime(http_date)
    except (ValueError, OverflowError):
        return float("nan")
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return max(0.0, (instant - now).total_seconds())
