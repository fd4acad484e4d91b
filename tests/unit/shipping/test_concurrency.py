"""The limit on requests in flight: what changes it, and where it settles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay._shipping.concurrency import DECREASE, INITIAL, ConcurrencyLimit
from tests.support.queueing import SECONDS, FullServer

if TYPE_CHECKING:
    from collections.abc import Callable

MAXIMUM: Final = 32
QUICK: Final = 0.1
"""Seconds of a request."""


class Driver:
    """One client that learns of one response after another."""

    def __init__(self, maximum: int = MAXIMUM) -> None:
        self.limiter = ConcurrencyLimit(maximum)
        self.now = 1000.0
        self.end(202)  # the CPU share is known from now on

    @property
    def limit(self) -> int:
        """The limit as it is now."""
        return self.limiter.limit

    def end(
        self,
        status: int | None,
        *,
        wall: float = QUICK,
        cpu: float = 0.0,
        in_flight: int | None = None,
        count: int = 1,
    ) -> None:
        """End ``count`` requests that were sent together, all room in use."""
        self.now += wall
        for _ in range(count):
            self.limiter.in_flight = self.limit if in_flight is None else in_flight
            self.limiter.on_end(status, self.now, wall=wall, cpu=cpu)

    def round(self) -> None:
        """End as many successes as the limit allows."""
        self.end(202, count=self.limit)

    def settle_at(self, limit: int) -> None:
        """Leave the fast beginning, and grow to ``limit`` one by one."""
        self.end(429)
        while self.limit < limit:
            self.round()


def _after(limit: int, act: Callable[[Driver], object]) -> int:
    driver = Driver()
    driver.settle_at(limit)
    act(driver)
    return driver.limit


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(lambda _: None, 12, id="nothing"),
        pytest.param(lambda one: one.round(), 13, id="a full round"),
        pytest.param(lambda one: one.end(202), 12, id="a single response"),
        pytest.param(
            lambda one: one.end(202, in_flight=3, count=99), 12, id="room unused"
        ),
        pytest.param(lambda one: one.end(400, count=99), 12, id="an event's own fault"),
        pytest.param(lambda one: one.end(500, count=99), 12, id="one may be at fault"),
        pytest.param(lambda one: one.end(429), 6, id="refused"),
        pytest.param(lambda one: one.end(503), 6, id="unavailable"),
        pytest.param(
            lambda one: [one.end(429) for _ in range(99)], 1, id="refused for long"
        ),
        pytest.param(lambda one: one.end(502), 1, id="bad gateway"),
        pytest.param(lambda one: one.end(None), 1, id="no response"),
    ],
)
def test_each_situation_changes_the_limit_in_its_way(
    act: Callable[[Driver], object], expected: int
) -> None:
    """One more a round; half of it away at once."""
    assert _after(12, act) == expected


def test_shipping_starts_with_one_sender() -> None:
    """Nothing is known yet. A burst of connections is of no use."""
    assert ConcurrencyLimit(8).limit == 1


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

    driver.end(429, count=before)

    assert driver.limit == int(before * DECREASE)


def test_successes_of_requests_sent_before_the_decrease_do_not_count() -> None:
    """They were sent under the limit that proved too high."""
    driver = Driver()
    driver.settle_at(16)
    driver.end(429)
    before = driver.limit

    driver.limiter.in_flight = 99
    driver.limiter.on_end(202, driver.now + 1, wall=9.0, cpu=0.0)

    assert driver.limit == before


def test_after_an_outage_it_begins_with_one_and_hurries_to_what_went_well() -> None:
    """A server that comes back meets a probe; but it was not the probe's fault."""
    driver = Driver()
    driver.settle_at(16)
    driver.end(None, wall=10.0)
    driver.now += 1
    limits = [driver.limit]

    for _ in range(6):
        driver.round()
        limits.append(driver.limit)

    assert limits == [1, 2, 4, 8, 9, 10, 11]


# The share of the CPU.


@pytest.mark.parametrize(
    ("wall", "cpu", "senders"),
    [(0.2, 0.001, INITIAL), (0.003, 0.001, 3), (0.001, 0.001, 1), (0.2, 0.0, INITIAL)],
    ids=["far away", "near", "loopback", "no clock resolution"],
)
def test_senders_fill_the_time_that_requests_wait(
    wall: float, cpu: float, senders: int
) -> None:
    """More would only fight for the interpreter lock of the application."""
    limiter = ConcurrencyLimit(8)

    limiter.on_start()
    limiter.on_end(202, 1000.0, wall=wall, cpu=cpu)

    assert limiter.limit == senders


def test_it_follows_a_server_that_becomes_slow() -> None:
    """A moving average: some requests later, the number fits again."""
    driver = Driver(8)
    driver.end(202, wall=0.001, cpu=0.001, count=60)
    near = driver.limit

    for _ in range(60):
        driver.end(202, wall=0.2, cpu=0.001)

    assert (near, driver.limit) == (1, 8)


def test_the_lower_limit_holds() -> None:
    """A quick server does not make a busy interpreter quicker."""
    driver = Driver(8)

    for _ in range(99):
        driver.end(202, wall=0.2, cpu=0.09)

    assert driver.limit == 2


@given(
    st.integers(1, 32),
    st.lists(
        st.tuples(
            st.sampled_from([None, 202, 400, 429, 500, 502, 503]),
            st.floats(0, 100),
            st.floats(0, 100),
            st.integers(0, 40),
        )
    ),
)
def test_whatever_happens_the_limit_stays_within_its_bounds(
    maximum: int, steps: list[tuple[int | None, float, float, int]]
) -> None:
    """A limit of zero would stop shipping for ever."""
    driver = Driver(maximum)

    for status, gap, seconds, in_flight in steps:
        driver.now += gap
        driver.end(status, wall=seconds, in_flight=in_flight)
        assert 1 <= driver.limit <= maximum


# A server that refuses.


@pytest.mark.parametrize("room", [2, 5, 12])
def test_it_settles_below_the_room_of_a_server_that_refuses(room: int) -> None:
    """Most of the room is in use, and refusals stay rare."""
    server = FullServer([ConcurrencyLimit(MAXIMUM)], room=room)
    server.run(20)

    rate = server.run(60)

    assert 0 < server.refusals < server.served.total() / (2 * room)
    assert rate >= 0.7 * room / SECONDS


@pytest.mark.parametrize(("before", "after"), [(8, 2), (2, 8)], ids=["less", "more"])
def test_it_finds_the_new_room_when_the_capacity_changes(
    before: int, after: int
) -> None:
    """Servers are restarted with fewer workers, and scaled up at night."""
    server = FullServer([ConcurrencyLimit(MAXIMUM)], room=before)
    server.run(30)

    server.room = after
    server.run(30)
    rate = server.run(30)

    assert rate >= 0.7 * after / SECONDS
    assert server.refusals < server.served.total() / (2 * after)


def test_clients_come_to_equal_shares_though_one_was_there_first() -> None:
    """What additive increase and multiplicative decrease are for."""
    clients = [ConcurrencyLimit(MAXIMUM), ConcurrencyLimit(MAXIMUM)]
    alone = FullServer(clients[:1], room=12)
    alone.run(30)
    server = FullServer(clients, room=12)
    clients[0].in_flight = 0
    server.run(60)

    server.run(120)

    first, second = server.served[0], server.served[1]
    assert 0.8 < first / second < 1.25
