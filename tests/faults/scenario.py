"""What a fault is tried with, and what a trial comes to.

The tests play each scenario a few times; ``make faults`` plays them by the hundred.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from decimal import Decimal

Play: TypeAlias = "Callable[[random.Random, int], Tally]"
"""Plays a scenario once: with that chance, and about so many events."""


class Tally(NamedTuple):
    """What trials came to, in events.

    Attributes:
        events: whose callers were told that they are tracked.
        lost: of these, how many are neither on the server nor kept anywhere.
        doubled: how many were counted twice, sent again although the answer had come,
            or counted though no process can have tracked them.
        quarantined: kept, because they may have been counted.
        trials: how many trials these are.
    """

    events: int = 0
    lost: int = 0
    doubled: int = 0
    quarantined: int = 0
    trials: int = 1

    def plus(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(*map(sum, zip(self, other, strict=True)))

    @property
    def is_sound(self) -> bool:
        """Whether no money vanished, and none was counted twice."""
        return not self.lost and not self.doubled


NOTHING = Tally(trials=0)


class Books(NamedTuple):
    """Both sides of a trial, by idempotency key.

    Attributes:
        told: the amounts that callers were told are tracked.
        counted: how often the server counted each event.
        total: what the server says that comes to.
        kept: events in the journal folder, with their states.
    """

    told: Mapping[str, Decimal]
    counted: Mapping[str, int]
    total: Decimal
    kept: Mapping[str, str]

    def tally(
        self, *, untold: Mapping[str, Decimal] | None = None, at_most: int = 0
    ) -> Tally:
        """Compare them to the last digit.

        Args:
            untold: the amounts of events whose caller may have died before it knew.
            at_most: how many such callers there were.

        Raises:
            AssertionError: the server's total is not the sum of what it counted.
        """
        amounts = {**(untold or {}), **self.told}
        strangers = self.counted.keys() - self.told.keys()
        expected = sum(
            (times * amounts[key] for key, times in self.counted.items()),
            start=type(self.total)(0),
        )
        assert self.total == expected, "the server's total is inexact"
        again = sum(times - 1 for times in self.counted.values())
        return Tally(
            events=len(self.told),
            lost=len(self.told.keys() - self.counted.keys() - self.kept.keys()),
            doubled=again + max(0, len(strangers) - at_most),
            quarantined=_count(self.kept.values(), "quarantined"),
        )


def _count(states: Collection[str], wanted: str) -> int:
    return sum(state == wanted for state in states)


@dataclass(frozen=True)
class Scenario:
    """A fault, and how to try it.

    Attributes:
        name: says which.
        play: plays it once.
        trials: how often the full form plays it.
        bounded: how often the tests do. 0 leaves it to ``make faults``.
        size: about how many events a trial has.
        needs: why it cannot be played here, or ''.
    """

    name: str
    play: Play
    trials: int = 50
    bounded: int = 1
    size: int = 20
    needs: Callable[[], str] = lambda: ""

    def trial(self, seed: str, number: int) -> Tally:
        """Play one trial; the same seed and number play the same."""
        chance = random.Random(f"{seed}/{self.name}/{number}")  # noqa: S311
        return self.play(chance, self.size)
