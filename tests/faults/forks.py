"""fork(): with events pending, from a thread, twice, and into another program."""

from __future__ import annotations

import functools
import os
import random
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Final

from outlay import Client
from tests.faults.children import Child, die
from tests.faults.judge import DEADLINE, judging
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay._client_options import SettingsInput
    from tests.faults.children import Teller
    from tests.faults.scenario import Tally

    Kind = Callable[[Client, Teller, random.Random, int], None]


def _parent(
    tell: Teller, settings: SettingsInput, kind: Kind, seed: float, size: int
) -> None:
    """Fork with a shipping thread, another thread, and events on their way."""
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of what we try
    chance = random.Random(seed)  # noqa: S311
    client = Client(**settings)
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    _track(client, tell, range(size))
    kind(client, tell, chance, size)
    _track(client, tell, range(size, 2 * size))
    _end(client, chance)


def _track(client: Client, tell: Teller, numbers: range) -> None:
    for number in numbers:
        tell.track(client, number)


def _end(client: Client, chance: random.Random) -> None:
    """End in order, vanish, or be killed."""
    if chance.random() < 0.4:
        assert client.close(DEADLINE).complete
    elif chance.random() < 0.5:
        die()


def _fork(work: Callable[[], object], *, wait: bool = True) -> None:
    """Run ``work`` in a forked child, which then ends as multiprocessing's do."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    if wait:
        os.waitpid(pid, 0)


def _once(client: Client, tell: Teller, chance: random.Random, size: int) -> None:
    def work() -> None:
        _track(client, tell, range(1000, 1000 + size))
        _end(client, chance)

    _fork(work, wait=chance.random() < 0.5)


def _from_a_thread(
    client: Client, tell: Teller, chance: random.Random, size: int
) -> None:
    """Fork while other threads track."""
    going = threading.Event()

    def track() -> None:
        for number in range(3000, 3000 + size):
            tell.track(client, number)
            going.set()

    others = threading.Thread(target=track)
    others.start()
    going.wait(DEADLINE)
    forking = threading.Thread(target=_once, args=(client, tell, chance, size))
    forking.start()
    for thread in (others, forking):
        thread.join(DEADLINE)


def _twice(client: Client, tell: Teller, chance: random.Random, size: int) -> None:
    """Fork as daemons do; child and grandchild track."""

    def grandchild() -> None:
        _track(client, tell, range(2000, 2000 + size))
        _end(client, chance)

    def child() -> None:
        if chance.random() < 0.7:
            _track(client, tell, range(1000, 1000 + size))
        _fork(grandchild, wait=chance.random() < 0.5)
        _end(client, chance)

    _fork(child)


def _and_exec(client: Client, tell: Teller, chance: random.Random, size: int) -> None:
    """Become another program, with events pending; its parent may die first."""

    def work() -> None:
        _track(client, tell, range(1000, 1000 + size))
        words = [sys.executable, "-S", "-c", "pass"]
        os.execv(sys.executable, words)  # noqa: S606 - no shell is wanted

    _fork(work, wait=chance.random() < 0.5)


def _forked(chance: random.Random, size: int, *, kind: Kind) -> Tally:
    with judging() as judge:
        settings = judge.settings(
            batching=chance.choice(["never", "always"]),
            linger=chance.choice([0.0, 30.0]),
        )
        child = Child(judge, _parent, settings, kind, chance.random(), size)
        child.finish(code=None)
        judge.inherit()
        return judge.tally()


SCENARIOS: Final = tuple(
    Scenario(name, functools.partial(_forked, kind=kind), trials=60, size=10)
    for name, kind in (
        ("fork with events pending", _once),
        ("fork while other threads track", _from_a_thread),
        ("double fork", _twice),
        ("fork, then exec", _and_exec),
    )
)
