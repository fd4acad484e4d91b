"""The server's log: one line of JSON for each record, and no floods."""

from __future__ import annotations

import json
import logging
import sys

from outlay.server._logs import JsonFormatter, RepeatFilter
from tests.support.clock import ManualClock


def record(text: str, *args: object, **extra: object) -> logging.LogRecord:
    """Return a record of the server's logger."""
    made = logging.LogRecord("outlay.server", 40, __file__, 1, text, args, None)
    vars(made).update(extra)
    return made


def test_a_record_is_one_line_of_json_with_its_fields() -> None:
    """Collectors of logs read lines."""
    made = record("failed:\n%s", "x", status=503)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        made.exc_info = sys.exc_info()

    line = JsonFormatter().format(made)

    fields = json.loads(line)
    assert "\n" not in line
    assert (fields["level"], fields["logger"]) == ("error", "outlay.server")
    assert (fields["message"], fields["status"]) == ("failed:\nx", 503)
    assert "ZeroDivisionError" in fields["exception"]
    assert fields["time"].endswith("+00:00")


def test_what_repeats_is_left_out_and_counted() -> None:
    """A full disk would fill the other disk with its log."""
    clock = ManualClock()
    limit = RepeatFilter(most=2, period=10, monotonic=clock.monotonic)

    first = [limit.filter(record("disk is full: %s", n)) for n in range(100)]
    other = limit.filter(record("something else"))
    clock.advance(10)
    later = record("disk is full: %s", 100)

    assert first == [True, True] + [False] * 98
    assert other
    assert limit.filter(later)
    assert later.getMessage() == "disk is full: 100 (98 more were left out)"
    assert limit.filter(record("disk is full: %s", 101))


def test_progress_is_never_left_out() -> None:
    """Each step of an update is logged, however many there are."""
    limit = RepeatFilter(most=2)
    steps = [record("step %s", n) for n in range(10)]
    for step in steps:
        step.levelno = logging.INFO

    assert all(limit.filter(step) for step in steps)
