"""The counts of what arrived are bounded, whatever senders do."""

from __future__ import annotations

from outlay.server._services.ingest_activity import (
    MINUTES,
    OTHER_REFUSALS,
    ActivityLog,
)
from outlay.server._services.sessions import AttemptLimit
from outlay.server._wire.problems import unmatched_event_type

MINUTE = 60_000_000


def test_reasons_are_bounded() -> None:
    """A sender may make up types."""
    activity = ActivityLog(lambda: 0).of("org_1")
    for at in range(1000):
        activity.refuse(unmatched_event_type(f"type.{at}"), 0)
    assert len(activity.refusals) == 101
    assert activity.refusals[OTHER_REFUSALS] == 900
    assert activity.refusals.total() == 1000


def test_minutes_are_bounded() -> None:
    """Only the last hour is kept."""
    activity = ActivityLog(lambda: 0).of("org_1")
    for minute in range(500):
        activity.refuse(unmatched_event_type("one"), minute * MINUTE)
    assert len(activity.minutes) <= MINUTES
    assert max(activity.minutes) == 499


def test_organizations_are_bounded() -> None:
    """The oldest counts are dropped."""
    log = ActivityLog(lambda: 0)
    first = log.of("org_0")
    for at in range(1, 1500):
        log.of(f"org_{at}")
    assert log.of("org_0") is not first


def test_addresses_with_failed_attempts_are_bounded() -> None:
    """Memory does not grow with guesses from many addresses."""
    limit = AttemptLimit(lambda: 0)
    for at in range(10_000):
        limit.record_failure(f"10.0.{at // 256}.{at % 256}")
    assert len(limit._failures) <= 4096
