"""Every store counts corrections and late events as their entries say."""

from __future__ import annotations

import itertools
from collections import defaultdict
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay.server._records import (
    Aggregation,
    ClosedPeriod,
    Correction,
    CorrectionKind,
    CostMetric,
)
from outlay.server._services.corrections import Order, decide, decide_closing
from outlay.server._storage.page import Page
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.request_models import Window
from tests.support.stores import (
    ALL_LANES,
    EMBEDDED,
    HOUR,
    START,
    compiled,
    finish_background_work,
    make_cost,
    make_event,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outlay.server._storage.store import Store

DAY = 24 * HOUR
SUM = make_cost()
_numbers = itertools.count()


def spend(
    store: Store, amount: str, hour: int = 0, *, now: int = 0, customer: str = "cus_1"
) -> str:
    """Store an event of an hour, and return its id."""
    key = f"e{next(_numbers)}"
    event = make_event(
        key,
        data=f'{{"amount":"{amount}","provider":"p"}}',
        at=START + hour * HOUR,
        subject=customer,
    )
    store.append([event], START + now * HOUR)
    return event.id


def order(
    store: Store,
    kind: CorrectionKind,
    event_id: str,
    now: int = 0,
    **fields: Any,  # noqa: ANN401 - any field
) -> Correction:
    """Give an order about an event, which must be accepted."""
    at = START + now * HOUR
    fields = {"reason": "test", "key": None, "by": "finance", "now": at, **fields}
    given = Order(kind, **fields)
    [correction] = store.correct("org_a", [event_id], partial(decide, given), at)
    assert correction is not None
    return correction


def void(
    store: Store,
    event_id: str,
    now: int = 0,
    **fields: Any,  # noqa: ANN401 - any field
) -> Correction:
    """Void an event."""
    return order(store, CorrectionKind.VOID, event_id, now, **fields)


def adjust(
    store: Store,
    event_id: str,
    delta: str,
    now: int = 0,
    **fields: Any,  # noqa: ANN401 - any field
) -> Correction:
    """Adjust an event of the metric `SUM`."""
    fields = {"cost": SUM, "delta": Decimal(delta), **fields}
    return order(store, CorrectionKind.ADJUST, event_id, now, **fields)


def revert(store: Store, one: Correction, now: int = 0) -> Correction:
    """Revert a correction."""
    return order(store, CorrectionKind.REVERT, one.event_id, now, reverts=one.id)


def close(store: Store, day: int, now: int) -> None:
    """Close a day."""
    start, at = START + day * DAY, START + now * HOUR
    store.close_period(
        "org_a", partial(decide_closing, start, start + DAY, "finance", at)
    )


def total(
    store: Store,
    cost: CostMetric = SUM,
    start: int = 0,
    end: int = 24,
    **options: Any,  # noqa: ANN401 - any option
) -> Decimal | None:
    """Return a quantity from ``start`` to ``end`` hours after the start."""
    metric = compiled(cost)
    accumulator = metric.new_accumulator()
    bounds = (START + start * HOUR, START + end * HOUR)
    with store.reading() as reader:
        for one in reader.contributions(metric, *bounds, **options):
            accumulator.add(one)
    return accumulator.result()


@pytest.fixture
def stored(store: Store) -> Store:
    """Return a store with the metric `SUM`."""
    store.add_cost(SUM)
    return store


# -- against a model


class Booked(NamedTuple):
    """An amount that a step put into a day."""

    event: str
    day: int
    amount: Decimal


class Ledger:
    """The plain model: every step books amounts into days, and removes none."""

    def __init__(self) -> None:
        self.booked: dict[str, list[Booked]] = {}  # by step
        self.closed: set[int] = set()
        self.reverted: set[str] = set()
        self.void: dict[str, str] = {}  # step by event

    def book(self, step: str, now: int, amounts: Sequence[Booked]) -> None:
        """Book amounts, those of closed days today."""
        self.booked[step] = [
            one._replace(day=now // 24 if one.day in self.closed else one.day)
            for one in amounts
        ]

    def present(self, event: str) -> list[Booked]:
        """Return what an event amounts to by day."""
        days: defaultdict[int, Decimal] = defaultdict(Decimal)
        for booked in self.booked.values():
            for one in booked:
                if one.event == event:
                    days[one.day] += one.amount
        return [Booked(event, day, amount) for day, amount in days.items()]

    def total(self, day: int) -> Decimal:
        """Return the sum of a day."""
        return sum(
            (
                one.amount
                for booked in self.booked.values()
                for one in booked
                if one.day == day
            ),
            Decimal(),
        )


def taken_back(amounts: Sequence[Booked]) -> list[Booked]:
    """Return the amounts that cancel others."""
    return [one._replace(amount=-one.amount) for one in amounts]


_steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["spend", "spend", "spend", "void", "adjust", "revert", "close"]
        ),
        st.integers(0, 30),
        st.decimals(-100, 100, places=9).map(str),
    ),
    max_size=14,
)


class Player:
    """Does each step in a store and in the model, if it makes sense."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ledger = Ledger()

    def play(self, step: tuple[str, int, str], now: int) -> None:
        """Do one step at an hour."""
        action, pick, amount = step
        getattr(self, f"_{action}")(pick, amount, now)

    def _spend(self, pick: int, amount: str, now: int) -> None:
        hour = pick % (now + 1)
        event = spend(self.store, amount, hour, now=now)
        self.ledger.book(event, now, [Booked(event, hour // 24, Decimal(amount))])

    def _close(self, pick: int, _: str, now: int) -> None:
        day = pick % (now // 24 + 1)
        if (day + 1) * 24 <= now and day not in self.ledger.closed:
            close(self.store, day, now)
            self.ledger.closed.add(day)

    def _void(self, pick: int, _: str, now: int) -> None:
        event = self._event(pick)
        if event is not None:
            present = self.ledger.present(event)
            done = void(self.store, event, now)
            self.ledger.book(done.id, now, taken_back(present))
            self.ledger.void[event] = done.id

    def _adjust(self, pick: int, amount: str, now: int) -> None:
        event = self._event(pick)
        if event is not None:
            [home] = self.ledger.booked[event]
            done = adjust(self.store, event, amount, now)
            delta = home._replace(amount=Decimal(amount))
            self.ledger.book(done.id, now, [delta])

    def _revert(self, pick: int, _: str, now: int) -> None:
        ledger = self.ledger
        with self.store.reading() as reader:
            found, count = reader.corrections("org_a", Page(100, 0))
        one = found[pick % count] if count else None
        if one is None or one.id not in ledger.booked or one.id in ledger.reverted:
            return
        if ledger.void.get(one.event_id) in {None, one.id}:
            done = revert(self.store, one, now)
            back = taken_back(ledger.booked[one.id])
            ledger.book(f"revert of {done.reverts}", now, back)
            ledger.reverted.add(one.id)
            ledger.void.pop(one.event_id, None)

    def _event(self, pick: int) -> str | None:
        """Return an event that is not void, or None."""
        events = [name for name in self.ledger.booked if name.startswith("evt_")]
        event = events[pick % len(events)] if events else None
        return None if event in self.ledger.void else event


@pytest.mark.parametrize("lane", EMBEDDED)
@settings(max_examples=40, deadline=None)
@given(steps=_steps)
def test_every_day_is_what_the_plain_model_says_at_every_moment(
    lane: str, steps: list[tuple[str, int, str]]
) -> None:
    """With voids, adjustments, reverts, closings and late events, in any order.

    The past is asked again at the end: what was true then must still be found.
    """
    with opened(lane) as store:
        store.add_cost(SUM)
        player = Player(store)
        ledger = player.ledger
        moments: list[tuple[int, list[Decimal]]] = []
        for number, step in enumerate(steps, 1):
            now = 7 * number
            player.play(step, now)
            if number % 3 == 0:
                finish_background_work(store, START + now * HOUR)
            days = [ledger.total(day) for day in range(6)]
            moments.append((now, days))
            found = [total(store, SUM, 24 * day, 24 * day + 24) for day in range(6)]
            assert found == days
        for now, days in moments:
            found = [
                total(store, SUM, 24 * d, 24 * d + 24, as_of=START + now * HOUR)
                for d in range(6)
            ]
            assert found == days


@pytest.mark.slow
@pytest.mark.parametrize("lane", sorted({*ALL_LANES} - {*EMBEDDED}))
@settings(max_examples=8, deadline=None)
@given(steps=_steps)
def test_a_server_says_of_every_day_what_the_plain_model_says(
    lane: str, steps: list[tuple[str, int, str]]
) -> None:
    """With fewer examples, because each needs a database of its own."""
    test_every_day_is_what_the_plain_model_says_at_every_moment.hypothesis.inner_test(
        lane, steps
    )


@pytest.mark.parametrize("lane", EMBEDDED)
@pytest.mark.parametrize(
    "aggregation",
    [
        Aggregation.MAX,
        Aggregation.MIN,
        Aggregation.LATEST,
        Aggregation.UNIQUE_COUNT,
        Aggregation.COUNT,
        Aggregation.AVG,
    ],
)
@settings(max_examples=15, deadline=None)
@given(
    amounts=st.lists(st.tuples(st.integers(0, 30), st.integers(-5, 5)), max_size=7),
    voided=st.sets(st.integers(0, 6)),
    reverted=st.sets(st.integers(0, 6)),
)
def test_a_voided_event_is_in_no_aggregate(
    lane: str,
    aggregation: Aggregation,
    amounts: list[tuple[int, int]],
    voided: set[int],
    reverted: set[int],
) -> None:
    """Extremes are read again, and a reverted void counts as if it never was."""
    cost = make_cost("cst_2", aggregation=aggregation)
    with opened(lane) as store, opened(lane) as clean:
        for one in (store, clean):
            one.add_cost(cost)
        for place, (hour, amount) in enumerate(amounts):
            event = spend(store, str(amount), hour)
            if place in voided:
                correction = void(store, event)
                if place in reverted:
                    revert(store, correction)
            if place not in voided - reverted:
                spend(clean, str(amount), hour)
        finish_background_work(store)
        for start, end in ((0, 24), (0, 48), (3, 9)):
            assert total(store, cost, start, end) == total(clean, cost, start, end)
        gross = total(store, cost, 0, 48, gross=True)
        if not voided:
            assert gross == total(store, cost, 0, 48)


# -- single rules


def test_gross_leaves_corrections_out(stored: Store) -> None:
    """Net, gross and the difference must be explainable."""
    first, second = spend(stored, "5"), spend(stored, "7")
    void(stored, first)
    adjust(stored, second, "-0.5")

    assert total(stored) == Decimal("6.5")
    assert total(stored, gross=True) == 12


def test_a_correction_counts_for_the_customer_and_hour_of_its_event(
    stored: Store,
) -> None:
    """So that a chart and a ranking stay right as well."""
    event = spend(stored, "5", 3, customer="cus_2")
    spend(stored, "1", 4)
    adjust(stored, event, "2")

    only = {CUSTOMER_NAME: frozenset(["cus_2"])}
    by_provider = {"provider": frozenset(["p"])}
    assert total(stored, SUM, 3, 4) == 7
    assert total(stored, where=only, window=Window.HOUR) == 7
    assert total(stored, where=by_provider) == 8
    assert total(stored, where={"provider": frozenset(["q"])}) == 0


def test_an_adjustment_changes_the_named_metric_only(stored: Store) -> None:
    """Another metric may count pages of the same events."""
    other = make_cost("cst_2", aggregation=Aggregation.COUNT)
    stored.add_cost(other)
    adjust(stored, spend(stored, "5"), "2")

    assert (total(stored), total(stored, other)) == (Decimal(7), Decimal(1))


def test_an_order_that_comes_again_is_one_correction(stored: Store) -> None:
    """Its response may have been lost."""
    event = spend(stored, "5")
    given = [adjust(stored, event, "2", key="k") for _ in range(2)]
    done = [void(stored, event, key="v") for _ in range(2)]

    assert given[0] == given[1]
    assert done[0] == done[1]
    assert total(stored) == 0
    with pytest.raises(HttpProblem, match="another correction"):
        adjust(stored, event, "3", key="k")


def test_a_voided_event_accepts_only_the_revert(stored: Store) -> None:
    """A second void would count it as less than nothing."""
    event = spend(stored, "5")
    adjustment = adjust(stored, event, "1")
    done = void(stored, event)

    for refused in (
        partial(void, stored, event),
        partial(adjust, stored, event, "1"),
        partial(revert, stored, adjustment),
    ):
        with pytest.raises(HttpProblem, match="is void since") as problem:
            refused()
        assert problem.value.body.details == {"correctionId": done.id}
    back = revert(stored, done)
    assert total(stored) == 6
    for refused in (partial(revert, stored, done), partial(revert, stored, back)):
        with pytest.raises(HttpProblem, match="correct the event again"):
            refused()


def test_a_refused_order_about_many_events_corrects_none(stored: Store) -> None:
    """All of them are one step."""
    first, second = spend(stored, "5"), spend(stored, "7")
    void(stored, second)
    given = Order(CorrectionKind.VOID, "test", None, "finance", START)

    with pytest.raises(HttpProblem):
        stored.correct("org_a", [first, second], partial(decide, given), START)
    assert total(stored) == 5


def test_an_event_of_another_organization_is_not_found(stored: Store) -> None:
    """An id is no permission."""
    event = spend(stored, "5")
    given = Order(CorrectionKind.VOID, "test", None, "finance", START)
    results = [
        stored.correct(namespace, [event_id], partial(decide, given), START)
        for namespace, event_id in (("org_b", event), ("org_a", "evt_none"))
    ]

    assert results == [[None], [None]]
    assert total(stored) == 5


def test_corrections_are_listed_with_who_and_when(stored: Store) -> None:
    """The newest first, of one event or of all."""
    first, second = spend(stored, "5"), spend(stored, "7")
    made = [adjust(stored, first, "1", 2), void(stored, second, 3)]

    with stored.reading() as reader:
        assert reader.corrections("org_a", Page(9, 0)) == (made[::-1], 2)
        assert reader.corrections("org_a", Page(9, 0), event_id=first) == (made[:1], 1)
        assert reader.corrections("org_b", Page(9, 0)) == ([], 0)
        many = [first, *(f"evt_{number}" for number in range(1200))]
        assert reader.corrections_of("org_a", many) == made[:1]
        assert reader.corrections_of("org_a", []) == []
        assert reader.corrections_of("org_b", many) == []
        assert reader.correction("org_a", made[0].id) == made[0]
        assert reader.correction("org_b", made[0].id) is None
    assert (made[1].created_by, made[1].created_at) == ("finance", START + 3 * HOUR)


# -- closed periods


def test_a_late_event_counts_when_it_arrives_as_an_adjustment(stored: Store) -> None:
    """The closed figure is in the books of a company."""
    spend(stored, "5")
    close(stored, 0, 24)
    spend(stored, "7", 3, now=30)
    void(stored, spend(stored, "1", 4, now=31), 32)

    metric = compiled(SUM)
    with stored.reading() as reader:
        closed = [
            (start, one.value)
            for start, one in reader.closed_adjustments(
                metric, START + DAY, START + 2 * DAY
            )
        ]
    assert total(stored) == 5
    assert total(stored, SUM, 24, 48) == 7
    assert total(stored, SUM, 24, 48, gross=True) == 8
    assert {start for start, _ in closed} == {START}
    assert sum(value for _, value in closed if isinstance(value, Decimal)) == 7


def test_a_closed_extreme_stays_and_a_late_one_counts_later(store: Store) -> None:
    """A maximum cannot be adjusted by a difference."""
    cost = make_cost(aggregation=Aggregation.MAX)
    store.add_cost(cost)
    biggest = spend(store, "9")
    close(store, 0, 24)
    void(store, biggest, 30)
    spend(store, "11", 3, now=31)
    finish_background_work(store, START + 40 * HOUR)

    assert total(store, cost) == 9
    assert total(store, cost, 24, 48) == 11


def test_a_period_is_closed_once_and_after_its_end(stored: Store) -> None:
    """Closing it again changes nothing. Its first time counts."""
    with pytest.raises(HttpProblem, match="close it after that"):
        close(stored, 0, 23)
    close(stored, 0, 24)
    close(stored, 0, 50)

    with stored.reading() as reader:
        assert reader.closed_periods("org_a") == [
            ClosedPeriod(START, START + DAY, START + 24 * HOUR, "finance")
        ]
        assert reader.closed_periods("org_b") == []


def test_a_void_takes_every_digit_back(stored: Store) -> None:
    """Every digit of an absurd number comes back with the opposite sign."""
    amount = "1" * 50 + "." + "1" * 50
    event = spend(stored, amount)
    finish_background_work(stored)
    before = total(stored)
    void(stored, event)

    assert before == Decimal(amount)
    assert total(stored) == 0
