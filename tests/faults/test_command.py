"""``make faults`` itself: it must be able to fail, and say how to see it again."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.faults.__main__ import Report, main, play
from tests.faults.scenario import Books, Scenario, Tally

if TYPE_CHECKING:
    import random

_ONE = Decimal(1)


@pytest.mark.parametrize(
    ("tally", "sound"),
    [
        (Tally(events=3), True),
        (Tally(events=3, quarantined=1), True),
        (Tally(events=3, lost=1), False),
        (Tally(events=3, doubled=1), False),
    ],
    ids=["sound", "quarantined", "lost", "doubled"],
)
def test_the_table_tells_what_was_lost_or_doubled(
    capsys: pytest.CaptureFixture[str], tally: Tally, *, sound: bool
) -> None:
    """And only then it ends badly."""
    report = Report()

    play(Scenario("a fault", lambda *_: tally), "7", range(2), report)

    out, err = capsys.readouterr()
    assert report.is_sound == sound
    assert out.split()[2:] == [str(2 * figure) for figure in (1, *tally[:-1])]
    assert ("--seed 7 --first 1 --trials 1 'a fault'" in err) != sound


def test_a_trial_that_cannot_be_judged_is_no_success(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A hang or a crash of the trial must not pass for a sound one."""

    def crash(_: random.Random, __: int) -> Tally:
        raise AssertionError("a child hangs")

    report = Report()

    play(Scenario("a fault", crash), "7", range(2), report)

    assert not report.is_sound
    assert report.failed == 2
    assert "a child hangs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("counted", "kept", "found"),
    [
        ({"a": 1, "b": 1}, {}, (2, 0, 0, 0)),
        ({"a": 1}, {}, (2, 1, 0, 0)),
        ({"a": 1}, {"b": "quarantined"}, (2, 0, 0, 1)),
        ({"a": 1}, {"b": "dead"}, (2, 0, 0, 0)),
        ({"a": 2, "b": 1}, {}, (2, 0, 1, 0)),
        ({"a": 1, "b": 1, "c": 1}, {}, (2, 0, 0, 0)),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, {}, (2, 0, 1, 0)),
    ],
    ids=["all", "one lost", "kept", "dead", "twice", "died untold", "from nowhere"],
)
def test_both_sides_of_a_trial_are_compared(
    counted: dict[str, int], kept: dict[str, str], found: tuple[int, ...]
) -> None:
    """The judge is what all else rests on."""
    told = {"a": _ONE, "b": _ONE}
    untold = {"c": _ONE, "d": _ONE}
    books = Books(told, counted, Decimal(sum(counted.values())), kept)

    assert books.tally(untold=untold, at_most=1)[:-1] == found


def test_a_total_that_is_not_exact_cannot_be_judged() -> None:
    """To the last digit, or not at all."""
    books = Books({"a": _ONE}, {"a": 1}, _ONE + Decimal("1e-20"), {})

    with pytest.raises(AssertionError, match="inexact"):
        books.tally()


def test_a_trial_can_be_played_again() -> None:
    """The same seed and number give the same chance."""
    drawn: list[float] = []

    def draw(chance: random.Random, _: int) -> Tally:
        drawn.append(chance.random())
        return Tally()

    scenario = Scenario("a fault", draw)
    for seed, number in (("1", 0), ("1", 0), ("1", 1), ("2", 0)):
        scenario.trial(seed, number)

    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_a_name_that_no_fault_has_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistyped name must not look like a success."""
    assert main(["no such fault"]) == 2
    assert "no such fault" in capsys.readouterr().err
