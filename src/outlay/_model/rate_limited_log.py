"""Write log lines that neither flood nor repeat.

While a problem lasts, at most one line a minute is logged. A problem that comes and
goes is logged a few times a minute. So the number of kinds of problems bounds the lines
of a process.
"""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outlay._model.clock import Clock

_logger: Final = logging.getLogger("outlay")
_INTERVAL: Final = 60.0  # seconds; a person reads the first line, a machine counts
_MAX_RECURRENCES: Final = 3  # of one problem in an interval; more are noise
_MAX_TOPICS: Final = 100  # some name parts of the application, such as event types
_OTHERS: Final = "others"


class _TopicState:
    """The log lines of one kind of problem so far.

    Attributes:
        logged_at: The monotonic time of the last line, in seconds.
        interval_start: The start of the interval that ``recurrences`` counts in.
        recurrences: The number of times that the problem began in this interval.
        ongoing: Whether the problem was logged, and its end was not.
    """

    __slots__ = ("interval_start", "logged_at", "ongoing", "recurrences")

    def __init__(self) -> None:
        self.logged_at = -math.inf
        self.interval_start = -math.inf
        self.recurrences = 0
        self.ongoing = False

    def should_log(self, now: float) -> bool:
        """Return whether to log a line now, and note that it is logged."""
        if self.ongoing:
            due = now - self.logged_at >= _INTERVAL
        else:
            if now - self.interval_start >= _INTERVAL:
                self.interval_start, self.recurrences = now, 0
            self.recurrences += 1
            due = self.recurrences <= _MAX_RECURRENCES
        if due:
            self.logged_at, self.ongoing = now, True
        return due


class RateLimitedLog:
    """Logs to ``outlay`` at a limited rate.

    It never raises, whatever log handlers do.

    Thread safety: any thread. No lock is held while a handler runs, so a handler may
    track a cost. A lost race costs one extra line.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._topics: dict[str, _TopicState] = {}

    def warn(self, topic: str, message: str, *args: object) -> None:
        """Log a warning, unless one of the same topic was logged within a minute."""
        if self._topic(topic).should_log(self._clock.monotonic()):
            _log(logging.WARNING, message, args)

    def warn_once(self, topic: str, message: str, *args: object) -> None:
        """Log a warning, unless one of the same topic was logged since `resolved`."""
        state = self._topic(topic)
        if not state.ongoing and state.should_log(self._clock.monotonic()):
            _log(logging.WARNING, message, args)

    def exception(
        self, topic: str, error: BaseException, message: str, *args: object
    ) -> None:
        """Log an error with its traceback, at the same rate as `warn`."""
        if self._topic(topic).should_log(self._clock.monotonic()):
            _log(logging.ERROR, message, args, error)

    def resolved(self, topic: str, message: str, *args: object) -> None:
        """Log that a problem is over, if it was logged before."""
        state = self._topics.get(topic)
        if state is not None and state.ongoing:
            state.ongoing = False
            _log(logging.INFO, message, args)

    def _topic(self, name: str) -> _TopicState:
        topics = self._topics
        if name not in topics and len(topics) >= _MAX_TOPICS:
            name = _OTHERS
        return topics.setdefault(name, _TopicState())


_threads_of_ours: Final = threading.local()


def contain_handler_errors() -> None:
    """Let no log handler end the calling thread, not even by SystemExit.

    A thread of the application keeps these: they may be meant for its own code.
    """
    _threads_of_ours.contains = True


def _log(
    level: int,
    message: str,
    args: tuple[object, ...],
    error: BaseException | None = None,
) -> None:
    # An error of the application's handler must not fail the call that tracks, or the
    # thread that ships.
    try:
        _logger.log(level, message, *args, exc_info=error)
    except Exception:  # noqa: BLE001, S110 - see above
        pass
    except BaseException:
        if not getattr(_threads_of_ours, "contains", False):
            raise
