"""Log lines say each trouble, and do not flood."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from outlay._model.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from tests.support.clock import ManualClock


@pytest.fixture
def limited(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> RateLimitedLog:
    """Notices by the test's clock; all that is logged is captured."""
    caplog.set_level(logging.DEBUG, logger="outlay")
    return RateLimitedLog(clock)


def test_a_trouble_is_said_once_a_minute(
    limited: RateLimitedLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand failed requests are one trouble; after a minute it is still one."""
    elapsed = 0.0
    for seconds in (0.0, 0.0, 59.5, 0.5, 0.5, 59.5):
        clock.advance(seconds)
        elapsed += seconds
        limited.warn("trouble", "at %g s", elapsed)

    assert caplog.messages == ["at 0 s", "at 60 s", "at 120 s"]


def test_one_trouble_does_not_hide_another(
    limited: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Each kind has its own minute."""
    limited.warn("disk", "the disk is full")
    limited.warn("trouble", "the server is away")

    assert caplog.messages == ["the disk is full", "the server is away"]


def test_what_is_said_once_is_not_said_again(
    limited: RateLimitedLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Advice to the programmer does not become truer by repetition."""
    for seconds in (0.0, 60.0, 86_400.0):
        clock.advance(seconds)
        limited.warn_once("random key", "pass an operation id")

    assert caplog.messages == ["pass an operation id"]


def test_the_end_of_a_trouble_is_said_only_if_it_was_there(
    limited: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Every request that works is not worth a line; the first one after trouble is."""
    limited.resolved("trouble", "the server answers again")
    limited.warn("trouble", "the server is away")
    limited.resolved("trouble", "the server answers again")
    limited.resolved("trouble", "the server answers again")

    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "the server is away"),
        ("INFO", "the server answers again"),
    ]


def test_a_trouble_that_comes_back_is_said_again_at_once(
    limited: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Once it was over, the next time is news."""
    limited.warn_once("paused", "wrong key")
    limited.resolved("paused", "shipping resumes")
    limited.warn_once("paused", "wrong key")

    assert caplog.messages == ["wrong key", "shipping resumes", "wrong key"]


def test_a_handler_may_cause_the_same_trouble(
    limited: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that tracks what logging costs must not wait for itself for ever."""

    class Tracks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            limited.warn("trouble", "again, because of %s", record.getMessage())

    handler = Tracks()
    logger = logging.getLogger("outlay")
    logger.addHandler(handler)
    try:
        limited.warn("trouble", "the server is away")
    finally:
        logger.removeHandler(handler)

    assert caplog.messages == ["the server is away"]


def test_a_trouble_that_comes_and_goes_does_not_flood(
    limited: RateLimitedLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that answers every second request is no news after the third time."""
    for _ in range(1000):
        limited.warn("trouble", "the server is away")
        limited.resolved("trouble", "the server answers again")
    first = len(caplog.messages)
    clock.advance(60)
    limited.warn("trouble", "the server is away")

    assert (first, len(caplog.messages)) == (6, 7)


def test_an_end_is_not_told_of_what_was_not_said(
    limited: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be the end of nothing."""
    for _ in range(3):
        limited.warn("trouble", "the server is away")
        limited.resolved("trouble", "the server answers again")
    limited.warn("trouble", "the server is away")
    limited.resolved("trouble", "the server answers again")

    assert caplog.messages.count("the server answers again") == 3


def test_troubles_without_number_share_a_line(
    limited: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Some are named after what the application sends, which may be anything."""
    for number in range(10_000):
        limited.warn(f"parked {number}", "events of %d are parked", number)

    assert len(caplog.messages) == 101


def test_a_failure_is_logged_with_its_trace_and_as_rarely(
    limited: RateLimitedLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A hook that fails for every event is one bug."""
    error = ZeroDivisionError("in the hook")
    for _ in range(3):
        for _ in range(100):
            limited.exception("on_drop", error, "the hook %s failed", "on_drop")
        clock.advance(60)

    assert caplog.messages == ["the hook on_drop failed"] * 3
    assert caplog.text.count("ZeroDivisionError: in the hook") == 3


class _Broken(logging.Handler):
    """A handler as applications write them: it does not expect to fail."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError(f"no log server for {record.getMessage()}")


def test_a_handler_that_raises_fails_nobody(
    limited: RateLimitedLog, caplog: pytest.LogCaptureFixture
) -> None:
    """What tracks or ships must not end because a line cannot be logged."""
    logger = logging.getLogger("outlay")
    broken = _Broken()
    logger.addHandler(broken)
    try:
        limited.warn("disk", "the disk is full")
        limited.warn_once("advice", "pass operation_id")
        limited.resolved("disk", "the disk has room")
        limited.exception("hook", ValueError("no"), "the hook failed")
    finally:
        logger.removeHandler(broken)
    limited.warn("trouble", "the server is away")

    assert caplog.messages[-1] == "the server is away"
