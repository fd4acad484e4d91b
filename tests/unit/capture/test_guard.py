"""The guard: failures of capture are counted and logged, and never reach the call."""

from __future__ import annotations

import logging
import os
import threading
from typing import NoReturn

import pytest

from outlay._capture.guard import guarded
from outlay._model.error_counts import capture_errors

PROMPT = "to be or not to be"


def fail() -> NoReturn:
    """Fail as an extractor does that met a surprise, and quotes it."""
    raise LookupError(PROMPT)


def count(what: str) -> int:
    """Return how often something failed."""
    return capture_errors.snapshot().get(f"{what}: LookupError", 0)


def test_a_failure_is_counted_by_what_failed_and_how() -> None:
    """An operator must see which provider it is about."""
    for _ in range(3):
        assert guarded("count", fail) is None

    assert count("count") == 3


def test_a_kind_of_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A library that changed fails with each call. Thousands of lines are of no use."""
    for what in ("one", "one", "other", "one"):
        guarded(what, fail)

    said = [each.getMessage() for each in caplog.records]
    assert [each.partition(";")[0] for each in said] == [
        "a cost was not captured (one: LookupError)",
        "a cost was not captured (other: LookupError)",
    ]
    assert {each.levelno for each in caplog.records} == {logging.ERROR}
    assert all("in fail" in each and "stats().capture_errors" in each for each in said)


def test_no_line_quotes_what_an_error_says(caplog: pytest.LogCaptureFixture) -> None:
    """Parsers quote their input, and that may be what a model was asked."""
    guarded("quoting", fail)

    assert PROMPT not in caplog.text
    assert caplog.records[0].exc_info is None


def test_a_log_handler_that_fails_is_nobody_s_problem() -> None:
    """It is the application's, and runs inside of a user's call."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record)

    logger, broken = logging.getLogger("outlay"), Broken()
    logger.addHandler(broken)
    try:
        assert guarded("handler", fail) is None
    finally:
        logger.removeHandler(broken)

    assert count("handler") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_passes(error: type[BaseException]) -> None:
    """It is not about capture: it was only there when it came."""

    def interrupted() -> NoReturn:
        raise error

    with pytest.raises(error):
        guarded("passing", interrupted)


def test_threads_miss_no_failure() -> None:
    """Eight of them at once."""

    def fail_often() -> None:
        for _ in range(200):
            guarded("threads", fail)

    threads = [threading.Thread(target=fail_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert count("threads") == 1600


def test_a_forked_child_counts_its_own() -> None:
    """Its parent tells of the others; both would be twice as many."""
    guarded("parent", fail)
    child = os.fork()
    if child == 0:
        try:
            guarded("child", fail)
            os._exit(len(capture_errors.snapshot()))
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 1
    assert count("parent") == 1
