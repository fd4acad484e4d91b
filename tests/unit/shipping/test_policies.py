"""What decides and never acts: outcomes, the gate, backoff, pacing."""

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
from outlay._shipping.concurrency import INITIAL
from outlay._shipping.concurrency_pacing import Pacing
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
    verdict = decide(status, error)

    if verdict.outcome in {Outcome.DEAD, Outcome.PARKED}:
        assert verdict.counted is Received.NO
    assert (verdict.outcome is Outcome.DELIVERED) == (verdict.counted is Received.YES)


def test_an_unmatched_event_type_is_parked_and_any_other_422_is_dead() -> None:
    """The metric may be created tomorrow; a malformed event stays malformed."""
    assert decide(422, "invalid_event_type") is UNMATCHED
    assert UNMATCHED.outcome is Outcome.PARKED
    assert decide(422, "validation_error").outcome is Outcome.DEAD
    assert decide(400, "invalid_event_type").outcome is Outcome.DEAD


# The gate.


def test_after_trouble_one_probe_goes_first_and_all_others_wait() -> None:
    """A server that comes back must not meet everything that has piled up."""
    gate = CircuitBreaker()
    assert gate.seconds_until_allowed(0.0) == 0.0
    gate.record_failure()
    gate.open_until(10.0)

    waits = [
        gate.seconds_until_allowed(4.0),
        gate.seconds_until_allowed(10.0),
        gate.seconds_until_allowed(10.0),
        gate.seconds_until_allowed(99.0),
    ]

    assert waits == [6.0, 0.0, math.inf, math.inf]
    gate.record_success()
    assert [gate.seconds_until_allowed(99.0), gate.seconds_until_allowed(99.0)] == [
        0.0,
        0.0,
    ]


def test_a_probe_that_fails_shuts_the_gate_again() -> None:
    """Until one succeeds, there is never more than one request under way."""
    gate = CircuitBreaker()
    gate.record_failure()
    gate.seconds_until_allowed(0.0)

    failures = gate.record_failure()
    gate.open_until(5.0)

    assert failures == 2
    assert gate.seconds_until_allowed(0.0) == 5.0


def test_requests_that_fail_together_are_one_failure() -> None:
    """Eight senders must not make the backoff grow eight times as fast."""
    gate = CircuitBreaker()

    assert [gate.record_failure() for _ in range(8)] == [1] * 8


def test_success_forgets_all_failures() -> None:
    """The next outage starts with a short wait again."""
    gate = CircuitBreaker()
    gate.record_failure()
    gate.record_success()

    assert gate.failures == 0
    assert gate.record_failure() == 1


def test_a_hurry_lets_one_probe_through_at_once() -> None:
    """Somebody waits in a flush; nobody is helped by more than one request."""
    gate = CircuitBreaker()
    gate.record_failure()
    gate.open_until(1000.0)

    gate.allow_probe()

    assert [gate.seconds_until_allowed(1.0), gate.seconds_until_allowed(1.0)] == [
        0.0,
        math.inf,
    ]


def test_a_success_that_was_under_way_ends_a_wait_that_was_our_guess() -> None:
    """One worker of eight that fails is no outage."""
    gate = CircuitBreaker()
    gate.record_failure()
    gate.open_until(10.0)

    gate.record_success()

    assert gate.seconds_until_allowed(1.0) == 0.0
    assert gate.failures == 0


def test_nothing_ends_a_wait_that_the_server_asked_for_but_time() -> None:
    """It knows why; what was under way meanwhile has slipped through."""
    gate = CircuitBreaker()
    gate.record_failure()
    gate.open_until(10.0, asked=True)

    gate.record_success()
    gate.record_failure()
    gate.open_until(2.0)

    assert [gate.seconds_until_allowed(5.0), gate.seconds_until_allowed(10.0)] == [
        5.0,
        0.0,
    ]
    assert gate.failures == 1, "the herd counts once"
    assert gate.state is BreakerState.HALF_OPEN


def test_the_latest_time_that_the_server_asks_for_holds() -> None:
    """It may have changed its mind, in either direction."""
    gate = CircuitBreaker()
    gate.record_failure()
    gate.open_until(10.0, asked=True)
    gate.record_failure()
    gate.open_until(4.0, asked=True)

    assert gate.seconds_until_allowed(1.0) == 3.0


@given(st.lists(st.sampled_from(["admit", "trouble", "asked", "success", "hurry"])))
def test_no_order_of_events_breaks_the_gate(steps: list[str]) -> None:
    """Answers come back in any order; a missing row of the table would raise."""
    gate, now = CircuitBreaker(), 0.0

    def trouble(*, asked: bool = False) -> None:
        gate.record_failure()
        gate.open_until(now + 1.0, asked=asked)

    calls: dict[str, Callable[[], object]] = {
        "admit": lambda: gate.seconds_until_allowed(now),
        "trouble": trouble,
        "asked": lambda: trouble(asked=True),
        "success": gate.record_success,
        "hurry": gate.allow_probe,
    }

    for step in steps:
        calls[step]()
        now += 0.7

    assert gate.state in BreakerState


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


# Pacing.


def test_shipping_starts_with_one_sender() -> None:
    """Nothing is known yet; a burst of connections helps nobody."""
    assert Pacing(8).limit == 1


def _exchange(
    pacing: Pacing,
    wall: float,
    cpu: float = 0.0,
    *,
    status: int | None = 202,
    now: float = 1000.0,
) -> None:
    """Have as many requests under way as there may be, and end one."""
    pacing.in_flight = pacing.limit - 1
    pacing.on_start()
    pacing.on_end(status, now, wall=wall, cpu=cpu, alike=True)


@pytest.mark.parametrize(
    ("wall", "cpu", "senders"),
    [(0.2, 0.001, INITIAL), (0.003, 0.001, 3), (0.001, 0.001, 1), (0.2, 0.0, INITIAL)],
    ids=["far away", "near", "loopback", "no clock resolution"],
)
def test_senders_fill_the_time_that_requests_wait(
    wall: float, cpu: float, senders: int
) -> None:
    """More would only fight for the interpreter lock of the application."""
    pacing = Pacing(8)

    _exchange(pacing, wall, cpu)

    assert pacing.limit == senders


def test_pacing_follows_a_server_that_becomes_slow() -> None:
    """A moving average: some requests later, the number fits again."""
    pacing = Pacing(8)
    _exchange(pacing, 0.001, 0.001)

    for second in range(60):
        _exchange(pacing, 0.2, 0.001, now=1001.0 + second)

    assert pacing.limit == 8


@pytest.mark.parametrize(
    ("status", "senders"),
    [
        (202, 8),
        (400, 8),
        (422, 8),
        (500, 8),
        (429, 4),
        (503, 4),
        (502, 1),
        (504, 1),
        (None, 1),
    ],
)
def test_what_the_server_says_changes_how_many_send(
    status: int | None, senders: int
) -> None:
    """An event's own fault says nothing about how much the server can take."""
    pacing = Pacing(8)
    for second in range(20):
        _exchange(pacing, 0.2, now=1000.0 + second)

    _exchange(pacing, 0.2, status=status, now=1020.0)

    assert pacing.limit == senders


def test_the_lower_limit_holds() -> None:
    """A quick server does not make a busy interpreter quicker."""
    pacing = Pacing(8)
    for second in range(60):
        _exchange(pacing, 0.2, 0.1, now=1000.0 + second)

    assert pacing.limit == 2
