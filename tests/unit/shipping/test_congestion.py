"""The limit on requests under way: what changes it, and where it settles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay._shipping.concurrency import (
    DECREASE,
    FAR,
    GRACE,
    INITIAL,
    MEMORY,
    SAMPLE,
    ConcurrencyLimit,
)
from tests.support.queueing import QueueServer

if TYPE_CHECKING:
    from collections.abc import Callable

MOST: Final = 32
QUICK: Final = 0.1
"""Seconds of an answer without a queue."""


class Driver:
    """One client, told of one answer after the other, all rounds full."""

    def __init__(self, most: int = MOST) -> None:
        self.congestion = ConcurrencyLimit(most)
        self.now = 1000.0

    @property
    def limit(self) -> int:
        """The limit as it is now."""
        return self.congestion.limit

    def answer(self, seconds: float = QUICK, *, busy: int | None = None) -> None:
        """Take in an answer after ``seconds``; by default all room is in use."""
        started, self.now = self.now, self.now + seconds
        busy = self.limit if busy is None else busy
        self.congestion.on_success(started, self.now, busy=busy)

    def round(self, seconds: float = QUICK) -> None:
        """Take in as many answers as were sent together."""
        started, self.now = self.now, self.now + seconds
        for _ in range(self.limit):
            self.congestion.on_success(started, self.now, busy=self.limit)

    def refuse(self, seconds: float = QUICK) -> None:
        """Take in a refusal."""
        started, self.now = self.now, self.now + seconds
        self.congestion.on_overload(started, self.now)

    def settle_at(self, limit: int) -> None:
        """Leave the hasty beginning, and grow to ``limit`` one by one."""
        self.refuse()
        while self.limit < limit:
            self.round()


def _after(limit: int, act: Callable[[Driver], None]) -> int:
    driver = Driver()
    driver.settle_at(limit)
    act(driver)
    return driver.limit


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(lambda _: None, 12, id="nothing"),
        pytest.param(lambda one: one.round(), 13, id="a round in good time"),
        pytest.param(lambda one: one.answer(), 12, id="a single answer"),
        pytest.param(
            lambda one: [one.answer(busy=3) for _ in range(99)], 12, id="room unused"
        ),
        pytest.param(lambda one: one.round(QUICK * 1.4), 13, id="a little slower"),
        pytest.param(lambda one: one.round(QUICK * 3), 6, id="a queue"),
        pytest.param(
            lambda one: [one.answer(QUICK * 9) for _ in range(SAMPLE - 1)],
            12,
            id="a few that are slow",
        ),
        pytest.param(
            lambda one: [one.answer(QUICK * (1 + 9 * (n % 7 > 0))) for n in range(28)],
            14,
            id="most are slow but not all",
        ),
        pytest.param(lambda one: one.refuse(), 6, id="refused"),
        pytest.param(
            lambda one: [one.refuse() for _ in range(99)], 1, id="refused for long"
        ),
        pytest.param(
            lambda one: one.congestion.lost(one.now, one.now + 1), 1, id="lost"
        ),
    ],
)
def test_each_situation_changes_the_limit_in_its_way(
    act: Callable[[Driver], None], expected: int
) -> None:
    """One more a round; half of it away at once."""
    assert _after(12, act) == expected


def test_it_begins_small_and_doubles_each_round_until_the_first_trouble() -> None:
    """Slow start: the first seconds should not be spent on counting up by one."""
    driver = Driver()
    limits = [driver.limit]

    for _ in range(4):
        driver.round()
        limits.append(driver.limit)

    assert limits == [INITIAL, 8, 16, 32, 32]


def test_what_was_refused_together_is_one_sign() -> None:
    """Sixteen requests of one round meet the same full server."""
    driver = Driver()
    driver.settle_at(16)
    before = driver.limit

    for _ in range(before):
        driver.congestion.on_overload(driver.now, driver.now + QUICK)

    assert driver.limit == int(before * DECREASE)


def test_slow_answers_to_what_was_sent_before_the_decrease_do_not_count() -> None:
    """They stood in the queue that the decrease is there to empty."""
    driver = Driver()
    driver.settle_at(16)
    early = driver.now
    driver.refuse(1.0)
    before = driver.limit

    driver.congestion.on_success(early, driver.now + 9, busy=driver.limit)

    assert driver.limit == before


def test_after_an_outage_it_begins_with_one_and_hurries_to_what_went_well() -> None:
    """A server that comes back meets a probe; but it was not the probe's fault."""
    driver = Driver()
    driver.settle_at(16)
    driver.congestion.on_outage(driver.now, driver.now + 10)
    driver.now += 11
    limits = [driver.limit]

    for _ in range(6):
        driver.round()
        limits.append(driver.limit)

    assert limits == [1, 2, 4, 8, 9, 10, 11]


def test_a_longer_way_is_learnt_after_a_while() -> None:
    """A new route or region is no queue; it must not hold the limit down for ever."""
    driver = Driver()
    driver.settle_at(8)
    for _ in range(3):
        driver.round(QUICK * 3)
    held_down = driver.limit

    for _ in range(int(2 * MEMORY / (QUICK * 3))):
        driver.round(QUICK * 3)

    assert held_down < 8
    assert driver.limit == MOST


def test_jitter_of_the_scheduler_is_no_queue() -> None:
    """On loopback an answer takes 0.3 ms, and any pause of the interpreter more."""
    driver = Driver()
    driver.answer(0.0003)

    for _ in range(20):
        driver.round(GRACE)

    assert driver.limit == MOST


def test_answers_that_do_not_compare_tell_nothing_of_a_queue() -> None:
    """A batch of a thousand takes longer than one of three."""
    congestion = ConcurrencyLimit(8)
    congestion.on_success(0.0, 0.001, busy=4, alike=False)

    for second in range(1, 20):
        congestion.on_success(second, second + 0.9, busy=congestion.limit, alike=False)

    assert congestion.limit == 8


@given(
    st.integers(1, 32),
    st.lists(
        st.tuples(
            st.sampled_from(["answered", "refused", "lost"]),
            st.floats(0, 100),
            st.floats(0, 100),
            st.integers(0, 40),
        )
    ),
)
def test_whatever_happens_the_limit_stays_within_its_bounds(
    most: int, steps: list[tuple[str, float, float, int]]
) -> None:
    """A limit of zero would stop shipping for ever."""
    congestion, now = ConcurrencyLimit(most), 0.0

    for kind, gap, seconds, busy in steps:
        now += gap
        if kind == "answered":
            congestion.on_success(now - seconds, now, busy=busy)
        else:
            getattr(congestion, kind)(now - seconds, now)
        assert 1 <= congestion.limit <= most


# A server with a queue. Its knee: as many requests as keep all workers busy.


def _knee(server: QueueServer, seconds: float) -> float:
    return server.workers * (server.way + seconds) / seconds


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_it_settles_near_the_knee_of_a_server_that_queues(workers: int) -> None:
    """The workers are busy, and nobody waits for twice as long as need be."""
    congestion = ConcurrencyLimit(MOST)
    server = QueueServer([congestion], workers=workers)
    server.run(20)

    rate = server.run(60)

    assert rate >= 0.9 * workers / 0.02
    knee = _knee(server, 0.02)
    assert knee * DECREASE <= congestion.limit <= knee * FAR * 1.2


@pytest.mark.parametrize("room", [2, 5, 12])
def test_it_settles_below_the_room_of_a_server_that_refuses(room: int) -> None:
    """Most of the room is in use, and refusals stay rare."""
    congestion = ConcurrencyLimit(MOST)
    server = QueueServer([congestion], workers=room, room=room)
    server.run(20)

    rate = server.run(60)

    assert 0 < server.refusals < server.served.total() / (2 * room)
    assert rate >= 0.7 * room / 0.05


@pytest.mark.parametrize(("before", "after"), [(8, 2), (2, 8)], ids=["less", "more"])
def test_it_finds_the_new_knee_when_the_capacity_changes(
    before: int, after: int
) -> None:
    """Servers are restarted with fewer workers, and scaled up at night."""
    congestion = ConcurrencyLimit(MOST)
    server = QueueServer([congestion], workers=before)
    server.run(30)

    server.workers = after
    server.run(30)
    rate = server.run(30)

    assert rate >= 0.9 * after / 0.02
    assert congestion.limit <= FAR * 1.2 * _knee(server, 0.02)


def test_clients_come_to_equal_shares_though_one_was_there_first() -> None:
    """What additive increase and multiplicative decrease are for."""
    clients = [ConcurrencyLimit(MOST), ConcurrencyLimit(MOST)]
    server = QueueServer(clients, workers=12, room=12)
    while clients[0].limit < 10:
        clients[0].on_success(0.0, 0.05, busy=MOST)
    server.run(60)

    server.run(120)

    first, second = server.served[0], server.served[1]
    assert 0.8 < first / second < 1.25
