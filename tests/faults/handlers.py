"""Signal handlers and finalisers that track, in the middle of a call that tracks."""

from __future__ import annotations

import contextlib
import functools
import gc
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

from outlay import Client, ClosedError
from tests.faults.children import Child
from tests.faults.judge import DEADLINE, judging
from tests.faults.scenario import Scenario
from tests.support.interrupts import Interrupts

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from outlay._client_options import SettingsInput
    from tests.faults.children import Teller
    from tests.faults.scenario import Tally

    Deed = Callable[[Client, Teller], object]

_WATCHED: Final = (
    "outlay/_client.py",
    "outlay/_client_hooks.py",
    "outlay/_lifecycle.py",
    "outlay/_pipeline.py",
    "_journal/appender.py",
    "_journal/folders.py",
    "_journal/journal.py",
    "_journal/segment_opener.py",
    "_journal/segments.py",
    "_model/event_composer.py",
)
_FOREVER: Final = 10**9

_DEEPEST: Final = 3
"""Handlers inside of each other. On a slow machine signals come faster than their
handlers end, and would never let the program go on."""


def _track(client: Client, tell: Teller) -> None:
    tell.track(client, 1000)


def _track_and_flush(client: Client, tell: Teller) -> None:
    tell.track(client, 1000)
    assert client.flush(DEADLINE).complete


def _interrupted(
    tell: Teller, settings: SettingsInput, deed: Deed, at: int, count: int
) -> None:
    """Track some events, and do the deed before one instruction of that."""
    client = Client(**settings)
    interrupts = Interrupts(lambda: deed(client, tell), at, *_WATCHED)
    with interrupts.watching():
        for number in range(count):
            tell.track(client, number)
    tell.tell(interrupts.seen, "instructions")
    assert client.close(DEADLINE).complete


@functools.cache
def _instructions(count: int) -> int:
    with judging() as judge:
        Child(judge, _interrupted, judge.settings(), _track, _FOREVER, count).finish()
        return int(judge.told["instructions"] * 1000)


def _between_steps(chance: random.Random, size: int, *, deed: Deed) -> Tally:
    """Strike like a signal does; who waits for a lock here waits for ever."""
    at = chance.randrange(_instructions(size))
    with judging() as judge:
        settings = judge.settings(batching=chance.choice(["never", "always"]))
        Child(judge, _interrupted, settings, deed, at, size).finish()
        judge.told.pop("instructions")
        judge.inherit()
        return judge.tally()


def _in_a_storm(tell: Teller, settings: SettingsInput, count: int) -> None:
    # Measured on a busy machine: with a tracer such as coverage's, and signals that
    # wait for the main thread, the shipper's thread gets a hundredth of the time.
    sys.settrace(None)
    threading.settrace(None)
    client = Client(**settings)
    numbers = iter(range(100_000, 100_000 + 2 * count))
    depth = 0

    def strike(*_: object) -> None:
        nonlocal depth
        if depth == _DEEPEST:
            return
        depth += 1
        number = next(numbers, None)
        if number is None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            tell.track(client, number)
        depth -= 1

    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    for number in range(count):
        tell.track(client, number)
    client.flush(DEADLINE)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert client.close(DEADLINE).complete


class _Session:
    """Tracks when the garbage collector ends it."""

    def __init__(self, client: Client, tell: Teller, number: int) -> None:
        self.ends: Callable[[], None] = lambda: tell.track(client, number)
        self.itself = self  # only the collector finds it

    def __del__(self) -> None:
        # Those that are found only when the client is closed are refused, honestly.
        with contextlib.suppress(ClosedError):
            self.ends()


def _with_garbage(tell: Teller, settings: SettingsInput, count: int) -> None:
    client = Client(**settings)
    gc.set_threshold(7)
    for number in range(count):
        _Session(client, tell, 100_000 + number)
        tell.track(client, number)
    gc.collect()
    gc.disable()
    assert client.close(DEADLINE).complete


def _played(
    chance: random.Random,
    size: int,
    *,
    work: Callable[[Teller, SettingsInput, int], None],
) -> Tally:
    with judging() as judge:
        settings = judge.settings(batching=chance.choice(["never", "always"]))
        Child(judge, work, settings, size).finish()
        judge.inherit()
        return judge.tally()


def _no_instructions() -> str:
    if sys.version_info >= (3, 13):
        return "settrace of Python 3.13 misses instructions"
    return ""


SCENARIOS: Final = (
    *(
        Scenario(
            f"signal handler {does} between two steps of tracking",
            functools.partial(_between_steps, deed=deed),
            trials=trials,
            size=3,
            needs=_no_instructions,
        )
        for does, deed, trials in (
            ("tracks", _track, 100),
            ("flushes", _track_and_flush, 60),
        )
    ),
    Scenario(
        "a storm of signals whose handler tracks",
        functools.partial(_played, work=_in_a_storm),
        trials=40,
        size=200,
    ),
    Scenario(
        "finalisers that track",
        functools.partial(_played, work=_with_garbage),
        trials=40,
        size=100,
    ),
)
