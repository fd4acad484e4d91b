"""How long to wait before trying again. Decides, never waits."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import tenacity

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RETRY_AFTER: Final = 3600.0
"""Longest wait in seconds that a server may ask for: a wrong header must not stop
shipping for days."""


class Backoff:
    """Capped exponential backoff with full jitter, unless the server says when.

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
        """Return seconds to wait after ``attempts`` failures in a row (1 or more).

        Args:
            attempts: how often it has failed.
            retry_after: seconds the server asked for; it knows better than we do.
                Zero is no answer to when: a proxy that always sends it would be
                hammered.
        """
        if retry_after:
            return retry_after
        state = tenacity.RetryCallState(_UNUSED, None, (), {})
        state.attempt_number = attempts
        return self._wait(state)


# A wait strategy looks at the attempt's number only; the state wants a retrying object.
_UNUSED: Any = tenacity.Retrying()


def retry_after_seconds(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Return the wait that ``Retry-After`` asks for, or None without a usable one.

    Args:
        headers: of the answer; names in any case if the mapping takes them so.
        now_ms: wall time, for the header's date form.

    Source: RFC 9110, section 10.2.3: delay-seconds or an HTTP date. Some servers send
    fractions of a second, which we take too.
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
        moment = parsedate_to_datetime(http_date)
    except (ValueError, OverflowError):
        return float("nan")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return max(0.0, (moment - now).total_seconds())
