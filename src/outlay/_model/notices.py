"""Log lines that neither flood nor repeat: at most one a minute of each kind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outlay._model.clock import Clock

_logger: Final = logging.getLogger("outlay")
_INTERVAL: Final = 60.0  # seconds; a person reads the first line, a machine counts


class Notices:
    """Says things on the logger ``outlay``.

    Thread safety: any thread; no lock is held while a handler runs, so a handler may
    track a cost. Losing a race costs one extra line.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said_at: dict[str, float] = {}

    def warn(self, topic: str, message: str, *args: object) -> None:
        """Log a warning, unless one of the same topic was logged within a minute."""
        now = self._clock.monotonic()
        said_at = self._said_at.get(topic)
        if said_at is not None and now - said_at < _INTERVAL:
            return
        self._said_at[topic] = now
        _logger.warning(message, *args)

    def warn_once(self, topic: str, message: str, *args: object) -> None:
        """Log a warning, unless one of the same topic was logged since `resolved`."""
        if topic not in self._said_at:
            self._said_at[topic] = self._clock.monotonic()
            _logger.warning(message, *args)

    def resolved(self, topic: str, message: str, *args: object) -> None:
        """Log that a trouble which was warned about is over."""
        if self._said_at.pop(topic, None) is not None:
            _logger.info(message, *args)
