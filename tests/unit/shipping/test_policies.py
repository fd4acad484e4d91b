"""What decides and never acts: outcomes, the gate, backoff, pacing."""

from __future__ import annotations

import math
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay._model.clock import from_ms
from outlay._shipping.congestion import INITIAL
from outlay._shipping.gate import Gate, GateState
from outlay._shipping.outcomes import UNMATCHED, Counted, Effect, Outcome, judge
from outlay._shipping.pacing import Pacing
from outlay._shipping.retrying import (
    MAX_RETRY_AFTER,
    RetryPolicy,
    retry_after_seconds,
)
from tests.support.clock import NOON_MS

if TYPE_CHECKING:
    from collections.abc import Callable

_DELIVERED = (Outcome.DELIVERED, Effect.NONE, Counted.YES)
_DEAD = (Outcome.DEAD, Effect.NONE, Counted.NO)
_PARKED = (Outcome.PARKED, Effect.NONE, Counted.NO)
_PAUSE = (Outcome.RETRY, Effect.PAUSE, Counted.NO)
_FEWER = (Outcome.RETRY, Effect.FEWER, Counted.NO)
_LATER = (Outcome.RETRY, Effect.SLOW_DOWN, Counted.NO)
_UNSURE = (Outcome.RETRY, Effect.SLOW_DOWN, Counted.MAYBE)
_ALONE = (Outcome.RETRY, Effect.NONE, Counted.MAYBE)


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
    assert judge(status)[:3] == expected


@given(st.integers(min_value=0, max_value=10_000), st.text(max_size=30))
def test_only_what_was_surely_refused_is_given_up(status: int, error: str) -> None:
    """An event that may have been counted is never a dead letter."""
    verdict = judge(status, error)

    if verdict.outcome in {Outcome.DEAD, Outcome.PARKED}:
        assert verdict.counted is Counted.NO
    assert (verdict.outcome is Outcome.DELIVERED) == (verdict.counted is Counted.YES)


def test_an_unmatched_event_type_is_parked_and_any_other_422_is_dead() -> None:
    """The metric may be created tomorrow; a malformed event stays malformed."""
    assert judge(422, "invalid_event_type") is UNMATCHED
    assert UNMATCHED.outcome is Outcome.PARKED
    assert judge(422, "validation_error").outcome is Outcome.DEAD
    assert judge(400, "invalid_event_type").outcome is Outcome.DEAD


# The gate.


def test_after_trouble_one_probe_goes_first_and_all_others_wait() -> None:
    """A server that comes back must not meet everything that has piled up."""
    gate = Gate()
    assert gate.admit(0.0) == 0.0
    gate.trouble()
    gate.shut_until(10.0)

    waits = [gate.admit(4.0), gate.admit(10.0), gate.admit(10.0), gate.admit(99.0)]

    assert waits == [6.0, 0.0, math.inf, math.inf]
    gate.success()
    assert [gate.admit(99.0), gate.admit(99.0)] == [0.0, 0.0]


def test_a_probe_that_fails_shuts_the_gate_again() -> None:
    """Until one succeeds, there is never more than one request under way."""
    gate = Gate()
    gate.trouble()
    gate.admit(0.0)

    failures = gate.trouble()
    gate.shut_until(5.0)

    assert failures == 2
    assert gate.admit(0.0) == 5.0


def test_requests_that_fail_together_are_one_failure() -> None:
    """Eight senders must not make the backoff grow eight times as fast."""
    gate = Gate()

    assert [gate.trouble() for _ in range(8)] == [1] * 8


def test_success_forgets_all_failures() -> None:
    """The next outage starts with a short wait again."""
    gate = Gate()
    gate.trouble()
    gate.success()

    assert gate.failures == 0
    assert gate.trouble() == 1


def test_a_hurry_lets_one_probe_through_at_once() -> None:
    """Somebody waits in a flush; nobody is helped by more than one request."""
    gate = Gate()
    gate.trouble()
    gate.shut_until(1000.0)

    gate.hurry()

    assert [gate.admit(1.0), gate.admit(1.0)] == [0.0, math.inf]


def test_a_success_that_was_under_way_ends_a_wait_that_was_our_guess() -> None:
    """One worker of eight that fails is no outage."""
    gate = Gate()
    gate.trouble()
    gate.shut_until(10.0)

    gate.success()

    assert gate.admit(1.0) == 0.0
    assert gate.failures == 0


def test_nothing_ends_a_wait_that_the_server_asked_for_but_time() -> None:
    """It knows why; what was under way meanwhile has slipped through."""
    gate = Gate()
    gate.trouble()
    gate.shut_until(10.0, asked=True)

    gate.success()
    gate.trouble()
    gate.shut_until(2.0)

    assert [gate.admit(5.0), gate.admit(10.0)] == [5.0, 0.0]
    assert gate.failures == 1, "the herd counts once"
    assert gate.state is GateState.PROBING


def test_the_latest_time_that_the_server_asks_for_holds() -> None:
    """It may have changed its mind, in either direction."""
    gate = Gate()
    gate.trouble()
    gate.shut_until(10.0, asked=True)
    gate.trouble()
    gate.shut_until(4.0, asked=True)

    assert gate.admit(1.0) == 3.0


@given(st.lists(st.sampled_from(["admit", "trouble", "asked", "success", "hurry"])))
def test_no_order_of_events_breaks_the_gate(steps: list[str]) -> None:
    """Answers come back in any order; a missing row of the table would raise."""
    gate, now = Gate(), 0.0

    def trouble(*, asked: bool = False) -> None:
        gate.trouble()
        gate.shut_until(now + 1.0, asked=asked)

    calls: dict[str, Callable[[], object]] = {
        "admit": lambda: gate.admit(now),
        "trouble": trouble,
        "asked": lambda: trouble(asked=True),
        "success": gate.success,
        "hurry": gate.hurry,
    }

    for step in steps:
        calls[step]()
        now += 0.7

    assert gate.state in GateState


# Backoff.


@pytest.mark.parametrize("attempts", [1, 2, 5, 30, 10_000])
def test_backoff_grows_and_is_capped(attempts: int) -> None:
    """A long outage must not overflow, nor make anybody wait for hours."""
    policy = RetryPolicy(initial=0.5, maximum=60.0)

    delays = [policy.delay(attempts) for _ in range(200)]

    limit = min(60.0, 0.5 * 2 ** min(attempts - 1, 50))
    assert min(delays) >= 0.0
    assert max(delays) <= limit
    assert max(delays) > limit / 2, "full jitter uses the whole range"
    assert len(set(delays)) > 100, "clients must not come back in step"


def test_the_server_knows_better_when_to_come_back() -> None:
    """Retry-After is obeyed to the second, whatever our own schedule says."""
    policy = RetryPolicy(initial=0.5, maximum=60.0)

    assert policy.delay(9, retry_after=1.0) == 1.0
    assert policy.delay(1, retry_after=300.0) == 300.0


def test_retry_after_zero_is_no_licence_to_hammer() -> None:
    """Some proxies send it with every 503; our own backoff then decides."""
    policy = RetryPolicy(initial=0.5, maximum=60.0)

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
    assert Pacing(8).senders == 1


def _exchange(
    pacing: Pacing,
    wall: float,
    cpu: float = 0.0,
    *,
    status: int | None = 202,
    now: float = 1000.0,
) -> None:
    """Have as many requests under way as there may be, and end one."""
    pacing.busy = pacing.senders - 1
    pacing.began()
    pacing.ended(status, now, wall=wall, cpu=cpu, alike=True)


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

    assert pacing.senders == senders


def test_pacing_follows_a_server_that_becomes_slow() -> None:
    """A moving average: some requests later, the number fits again."""
    pacing = Pacing(8)
    _exchange(pacing, 0.001, 0.001)

    for second in range(60):
        _exchange(pacing, 0.2, 0.001, now=1001.0 + second)

    assert pacing.senders == 8


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

    assert pacing.senders == senders


def test_the_lower_limit_holds() -> None:
    """A quick server does not make a busy interpreter quicker."""
    pacing = Pacing(8)
    for second in range(60):
        _exchange(pacing, 0.2, 0.1, now=1000.0 + second)

    assert pacing.senders == 2
