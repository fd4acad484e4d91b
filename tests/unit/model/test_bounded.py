"""A dictionary with a limit keeps the newest entries, and never grows past it."""

from __future__ import annotations

import threading

from outlay._model.bounded import BoundedDict


def test_the_older_half_goes_when_the_limit_is_passed() -> None:
    """The limit holds, and what was added last stays."""
    bounded: BoundedDict[int, int] = BoundedDict(8)

    for number in range(8):
        bounded[number] = number
    assert list(bounded) == [*range(8)]

    bounded[8] = 8
    assert list(bounded) == [5, 6, 7, 8]


def test_a_default_counts_as_an_entry() -> None:
    """It returns the first value, and keeps to the limit."""
    bounded: BoundedDict[int, str] = BoundedDict(2)

    assert bounded.setdefault(1, "first") == "first"
    assert bounded.setdefault(1, "second") == "first"
    for number in range(100):
        assert bounded.setdefault(number, str(number))
        assert len(bounded) <= 2


def test_threads_may_add_at_the_same_time() -> None:
    """No error, and the limit holds afterwards."""
    bounded: BoundedDict[tuple[int, int], None] = BoundedDict(16)

    def add(thread: int) -> None:
        for number in range(2_000):
            bounded[thread, number] = None

    threads = [threading.Thread(target=add, args=(each,)) for each in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    bounded[0, -1] = None
    assert (0, -1) in bounded
    assert len(bounded) <= 16
