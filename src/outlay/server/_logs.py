"""Format the server's log for people or for programs, and limit what repeats."""

from __future__ import annotations

import json
import logging
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ACCESS_LOGGER: Final = "outlay.server.access"
"""The logger with a line for each request. Its lines are never left out."""

UPDATE_LOGGER: Final = "outlay.server.update"
"""The logger of an update of the database, which operators see also without others."""

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def formatter(kind: str) -> logging.Formatter:
    """Return the formatter for ``text`` or ``json``."""
    return JsonFormatter() if kind == "json" else logging.Formatter(_TEXT)


class JsonFormatter(logging.Formatter):
    """Writes each record as one line of JSON, with the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {
            name: value
            for name, value in vars(record).items()
            if name not in _STANDARD and name != "color_message"
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


class RepeatFilter(logging.Filter):
    """Leaves out records that repeat: with a full disk each request would log one.

    Records with one text, before their arguments, are alike. The next one that is
    logged says how many were left out. Records below a warning pass: they tell of
    progress, such as the steps of an update, and no request logs one here.

    Thread safety: any thread.

    Args:
        most: The number of alike records that are logged in one period.
        period: The length of a period, in seconds.
        monotonic: A function that returns seconds since some fixed instant.
    """

    def __init__(
        self,
        most: int = 5,
        period: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._most = most
        self._period = period
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # Of each text: the start of its period, and its records since.
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        if record.levelno < logging.WARNING:
            return True
        text = (record.name, str(record.msg))
        now = self._monotonic()
        with self._lock:
            start, count = self._seen.get(text, (now, 0))
            left_out = 0
            if now - start >= self._period:
                left_out = max(count - self._most, 0)
                start, count = now, 0
            self._seen[text] = (start, count + 1)
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} more were left out)"
            record.args = None
        return count < self._most


REPEATS: Final = RepeatFilter()
"""The filter of the process. A logger takes the same filter only once."""


def limit_repeats() -> None:
    """Limit the repetitions of the server's loggers, but not of the access log."""
    for name in ("outlay.server", "uvicorn.error"):
        logging.getLogger(name).addFilter(REPEATS)
