"""Nested calls and operations: each piece of money is counted once, by the rule."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

import outlay
from outlay._capture.recorder import Recorder
from outlay.testing import recording

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES = st.sampled_from(["cost.a", "cost.b"])
PROVIDERS = st.sampled_from(["acme", "other"])
LINES = st.sampled_from([None, "pages"])


class Money(NamedTuple):
    """What a cost is about: who sends the bill, for what, and which part of it."""

    provider: str | None
    event_type: str
    line: str | None


class Seen(NamedTuple):
    """A call that an instrumented client makes, or that a span tells of."""

    money: Money
    amount: int


class Called(NamedTuple):
    """A call of a tracked function."""

    money: Money
    amount: int
    inside: list[Step]


class Begun(NamedTuple):
    """An operation, to which one cost is added at its end."""

    money: Money
    amount: int
    inside: list[Step]


Step: TypeAlias = Seen | Called | Begun

AMOUNTS = st.integers(1, 10**6)
SEEN = st.builds(Seen, st.builds(Money, PROVIDERS, TYPES, LINES), AMOUNTS)


def around(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    """Return steps around steps."""
    money = st.builds(Money, st.none() | PROVIDERS, TYPES, LINES)
    inside = st.lists(steps, max_size=3)
    return st.builds(Called, money, AMOUNTS, inside) | st.builds(
        Begun, money, AMOUNTS, inside
    )


STEPS = st.lists(st.recursive(SEEN, around, max_leaves=8), max_size=4)


def play(steps: list[Step], names: Iterator[int]) -> None:
    """Do what the steps say."""
    for step in steps:
        money, name = step.money, f"name-{next(names)}"
        if isinstance(step, Seen):
            Recorder.for_client().record(
                outlay.extractors.Observation(
                    provider=money.provider or "",
                    event_type=money.event_type,
                    line=money.line,
                    operation_id=name,
                    amount=Decimal(step.amount),
                )
            )
        elif isinstance(step, Called):
            tracked = outlay.track_call(
                money.event_type,
                provider=money.provider,
                line=money.line,
                amount=step.amount,
                operation_id=lambda name=name: name,
            )
            tracked(play)(step.inside, names)
        else:
            with outlay.operation(money.event_type, operation_id=name) as op:
                play(step.inside, names)
                op.add(step.amount, line=money.line, provider=money.provider)


def expected(steps: list[Step]) -> tuple[int, set[Money]]:
    """Return what the steps come to, and what was counted."""
    total, counted = 0, set[Money]()
    for step in steps:
        inside: set[Money] = set()
        if not isinstance(step, Seen):
            below, inside = expected(step.inside)
            total += below
        if not (isinstance(step, Called) and is_counted(step.money, inside)):
            total += step.amount
            counted.add(step.money)
        counted |= inside
    return total, counted


def is_counted(money: Money, inside: set[Money]) -> bool:
    """Return what the pages say: same provider, or else same type; and same line."""
    if money.provider is not None:
        return any(
            (money.provider, money.line) == (other.provider, other.line)
            for other in inside
        )
    return any(
        (money.event_type, money.line) == (other.event_type, other.line)
        for other in inside
    )


@settings(max_examples=150)
@given(steps=STEPS)
def test_each_piece_of_money_is_counted_once(steps: list[Step]) -> None:
    """However calls, operations and captured calls are nested."""
    with recording() as costs:
        play(steps, itertools.count())

    costs.assert_total(expected(steps)[0])
