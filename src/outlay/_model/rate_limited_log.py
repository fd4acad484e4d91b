"""Log lines that neither flood nor repeat.

At most one a minute while a trouble lasts, and a few a minute of one that comes and
goes. So what a process logs is bounded by the kinds of trouble there are.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outlay._model.clock import Clock

_logger: Final = logging.getLogger("outlay")
_INTERVAL: Final = 60.0  # seconds; a person reads the first line, a machine counts
_MOST_RETURNS: Final = 3  # of one trouble in an interval: more is not news, but noise
_MOST_TOPICS: Final = 100  # some name what the application does, such as event types
_OTHERS: Final = "others"


class _TopicState:
    """What was said of one kind of trouble.

    Attributes:
        said_at: when the last line was logged, in monotonic seconds.
        lasts: whether the trouble has been said, and not its end.
        returns: how often it was said since ``began_at``.
    """

    __slots__ = ("began_at", "ongoing", "recurrences", "said_at")

    def __init__(self) -> None:
        self.said_at = -math.inf
        self.began_at = -math.inf
        self.recurrences = 0
        self.ongoing = False

    def should_log(self, now: float) -> bool:
        """Return whether a line is due, and take it for said then."""
        if self.ongoing:
            due = now - self.said_at >= _INTERVAL
        else:
            if now - self.began_at >= _INTERVAL:
                self.began_at, self.recurrences = now, 0
            self.recurrences += 1
            due = self.recurrences <= _MOST_RETURNS
        if due:
            self.said_at, self.ongoing = now, True
        return due


class RateLimitedLog:
    """Says things on the logger ``outlay``.

    Raises nothing, whatever handlers do. Thread safety: any thread; no lock is held
    while a handler runs, so it may track a cost. Losing a race costs one extra line.
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
        known = self._topic(topic)
        if not known.ongoing and known.should_log(self._clock.monotonic()):
            _log(logging.WARNING, message, args)

    def exception(
        self, topic: str, error: Exception, message: str, *args: object
    ) -> None:
        """Log an error with its trace, as rarely as `warn` does a trouble."""
        if self._topic(topic).should_log(self._clock.monotonic()):
            _log(logging.ERROR, message, args, error)

    def resolved(self, topic: str, message: str, *args: object) -> None:
        """Log that a trouble which was warned about is over."""
        known = self._topics.get(topic)
        if known is not None and known.ongoing:
            known.ongoing = False
            _log(logging.INFO, message, args)

    def _topic(self, name: str) -> _TopicState:
        topics = self._topics
        if name not in topics and len(topics) >= _MOST_TOPICS:
            name = _OTHERS
        return topics.setdefault(name, _TopicState())


def _log(
    level: int, message: str, args: tuple[object, ...], error: Exception | None = None
) -> None:
    # A handler of the application's that raises has nobody to tell it to: it must fail
    # neither the call that tracks nor the thread that ships.
    with contextlib.suppress(Exception):
        _logger.log(level, message, *args, exc_info=error)
