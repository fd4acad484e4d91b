"""What decides and never acts: outcomes, the circuit breaker, backoff."""

from __future__ import annotations

import math
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay._model.clock import from_ms
from outlay._shipping.backoff import (
    MAX_RETRY_AFTER,
    Backoff,
    retry_after_seconds,
)
from outlay._shipping.circuit_breaker import BreakerState, CircuitBreaker
from outlay._shipping.outcomes import UNMATCHED, Outcome, Received, ServerEffect, decide
from tests.support.clock import NOON_MS

if TYPE_CHECKING:
    from collections.abc import Callable

_DELIVERED = (Outcome.DELIVERED, ServerEffect.NONE, Received.YES)
_DEAD = (Outcome.DEAD, ServerEffect.NONE, Received.NO)
_PARKED = (Outcome.PARKED, ServerEffect.NONE, Received.NO)
_PAUSE = (Outcome.RETRY, ServerEffect.PAUSE, Received.NO)
_FEWER = (Outcome.RETRY, ServerEffect.FEWER, Received.NO)
_LATER = (Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.NO)
_UNSURE = (Outcome.RETRY, ServerEffect.SLOW_DOWN, Received.MAYBE)
_ALONE = (Outcome.RETRY, ServerEffect.NONE, Received.MAYBE)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, _DELIVERED),
        (201, _DELIVERED),
        (202, _DELIVERED),
        (204, _DELIVERED),
        (301, _PAUSE),
        (302, _PAUSE),
        (307, _PAUSE),
        (400, _DEAD),
        (401, _PAUSE),
        (403, _PAUSE),
        (404, _PARKED),
        (405, _PARKED),
        (407, _PAUSE),
        (408, _UNSURE),
        (409, _PARKED),
        (413, _DEAD),
        (415, _PARKED),
        (422, _DEAD),
        (425, _LATER),
        (429, _FEWER),
        (500, _ALONE),
        (501, _UNSURE),
        (502, _UNSURE),
        (503, _UNSURE),
        (504, _UNSURE),
        (599, _UNSURE),
        (101, _UNSURE),
        (999, _UNSURE),
    ],
)
def test_every_status_has_its_outcome(status: int, expected: object) -> None:
    """Permanent loss is decided by this table: it is written down twice on purpose."""
    assert decide(status)[:3] == expected


@given(st.integers(min_value=0, max_value=10_000), st.text(max_size=30))
def test_only_what_was_surely_refused_is_given_up(status: int, error: str) -> None:
    """An event that may have been counted is never a dead letter."""
    decision = decide(status, error)

    if decision.outcome in {Outcome.DEAD, Outcome.PARKED}:
        assert decision.received is Received.NO
    assert (decision.outcome is Outcome.DELIVERED) == (
        decision.received is Received.YES
    )


def test_an_unmatched_event_type_is_parked_and_any_other_422_is_dead() -> None:
    """The metric may be created tomorrow; a malformed event stays malformed."""
    assert decide(422, "invalid_event_type") is UNMATCHED
    assert UNMATCHED.outcome is Outcome.PARKED
    assert decide(422, "validation_error").outcome is Outcome.DEAD
    assert decide(400, "invalid_event_type").outcome is Outcome.DEAD


# The circuit breaker.


def test_after_trouble_one_probe_goes_first_and_all_others_wait() -> None:
    """A server that comes back must not meet everything that has piled up."""
    breaker = CircuitBreaker()
    assert breaker.seconds_until_allowed(0.0) == 0.0
    breaker.record_failure()
    breaker.open_until(10.0)

    waits = [
        breaker.seconds_until_allowed(4.0),
        breaker.seconds_until_allowed(10.0),
        breaker.seconds_until_allowed(10.0),
        breaker.seconds_until_allowed(99.0),
    ]

    assert waits == [6.0, 0.0, math.inf, math.inf]
    breaker.record_success()
    assert [
        breaker.seconds_until_allowed(99.0),
        breaker.seconds_until_allowed(99.0),
    ] == [
        0.0,
        0.0,
    ]


def test_a_probe_that_fails_shuts_the_breaker_again() -> None:
    """Until one succeeds, there is never more than one request under way."""
    breaker = CircuitBreaker()
    breaker.record_failure()
    breaker.seconds_until_allowed(0.0)

    failures = breaker.record_failure()
    breaker.open_until(5.0)

    assert failures == 2
    assert breaker.seconds_until_allowed(0.0) == 5.0


def test_requests_that_fail_together_are_one_failure() -> None:
    """Eight senders must not make the backoff grow eight times as fast."""
    breaker = CircuitBreaker()

    assert [breaker.record_failure() for _ in range(8)] == [1] * 8


def test_success_forgets_all_failures() -> None:
    """The next outage starts with a short wait again."""
    breaker = CircuitBreaker()
    breaker.record_failure()
    breaker.record_success()

    assert breaker.failures == 0
    assert breaker.record_failure() == 1


def test_a_hurry_lets_one_probe_through_at_once() -> None:
    """A caller waits in a flush. More than one request would not help."""
    breaker = CircuitBreaker()
    breaker.record_failure()
    breaker.open_until(1000.0)

    breaker.allow_probe()

    assert [breaker.seconds_until_allowed(1.0), breaker.seconds_until_allowed(1.0)] == [
        0.0,
        math.inf,
    ]


def test_a_success_that_was_under_way_ends_a_wait_that_was_our_guess() -> None:
    """One worker of eight that fails is no outage."""
    breaker = CircuitBreaker()
    breaker.record_failure()
    breaker.open_until(10.0)

    breaker.record_success()

    assert breaker.seconds_until_allowed(1.0) == 0.0
    assert breaker.failures == 0


def test_nothing_ends_a_wait_that_the_server_asked_for_but_time() -> None:
    """It knows why; what was under way meanwhile has slipped through."""
    breaker = CircuitBreaker()
    breaker.record_failure()
    breaker.open_until(10.0, asked=True)

    breaker.record_success()
    breaker.record_failure()
    breaker.open_until(2.0)

    assert [
        breaker.seconds_until_allowed(5.0),
        breaker.seconds_until_allowed(10.0),
    ] == [
        5.0,
        0.0,
    ]
    assert breaker.failures == 1, "the herd counts once"
    assert breaker.state is BreakerState.HALF_OPEN


def test_the_latest_time_that_the_server_asks_for_holds() -> None:
    """It may have changed its mind, in either direction."""
    breaker = CircuitBreaker()
    breaker.record_failure()
    breaker.open_until(10.0, asked=True)
    breaker.record_failure()
    breaker.open_until(4.0, asked=True)

    assert breaker.seconds_until_allowed(1.0) == 3.0


@given(st.lists(st.sampled_from(["admit", "trouble", "asked", "success", "hurry"])))
def test_no_order_of_events_breaks_the_breaker(steps: list[str]) -> None:
    """Answers come back in any order; a missing row of the table would raise."""
    breaker, now = CircuitBreaker(), 0.0

    def trouble(*, asked: bool = False) -> None:
        breaker.record_failure()
        breaker.open_until(now + 1.0, asked=asked)

    calls: dict[str, Callable[[], object]] = {
        "admit": lambda: breaker.seconds_until_allowed(now),
        "trouble": trouble,
        "asked": lambda: trouble(asked=True),
        "success": breaker.record_success,
        "hurry": breaker.allow_probe,
    }

    for step in steps:
        calls[step]()
        now += 0.7

    assert breaker.state in BreakerState


# Backoff.


@pytest.mark.parametrize("attempts", [1, 2, 5, 30, 10_000])
def test_backoff_grows_and_is_capped(attempts: int) -> None:
    """A long outage must not overflow, nor make anybody wait for hours."""
    policy = Backoff(initial=0.5, maximum=60.0)

    delays = [policy.delay(attempts) for _ in range(200)]

    limit = min(60.0, 0.5 * 2 ** min(attempts - 1, 50))
    assert min(delays) >= 0.0
    assert max(delays) <= limit
    assert max(delays) > limit / 2, "full jitter uses the whole range"
    assert len(set(delays)) > 100, "clients must not come back in step"


def test_the_server_knows_better_when_to_come_back() -> None:
    """Retry-After is obeyed to the second, whatever our own schedule says."""
    policy = Backoff(initial=0.5, maximum=60.0)

    assert policy.delay(9, retry_after=1.0) == 1.0
    assert policy.delay(1, retry_after=300.0) == 300.0


def test_retry_after_zero_is_no_licence_to_hammer() -> None:
    """Some proxies send it with every 503; our own backoff then decides."""
    policy = Backoff(initial=0.5, maximum=60.0)

    assert max(policy.delay(5, retry_after=0.0) for _ in range(100)) > 1.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (" 3 ", 3.0),
        (format_datetime(from_ms(NOON_MS + 90_000), usegmt=True), 90.0),
        (format_datetime(from_ms(NOON_MS - 90_000), usegmt=True), 0.0),
        ("Thursday, 01-Jan-26 12:00:05 GMT", 5.0),
        ("86400", MAX_RETRY_AFTER),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Fri, 31 Dec 2026 23:59:59 +99999999999999", None),
    ],
)
def test_retry_after_is_understood_in_both_forms(
    header: str, seconds: float | None
) -> None:
    """And what is not understood is as if it were not there."""
    assert retry_after_seconds({"retry-after": header}, NOON_MS) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_header_does_any_harm(header: str) -> None:
    """It comes from outside."""
    seconds = retry_after_seconds({"retry-after": header}, NOON_MS)

    assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER


def test_no_retry_after_header_means_our_own_schedule() -> None:
    """None, and not zero."""
    assert retry_after_seconds({}, NOON_MS) is None
