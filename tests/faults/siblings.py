"""Several processes on one folder, which start and die at random."""

from __future__ import annotations

import functools
from multiprocessing import connection
from typing import TYPE_CHECKING, Final

from outlay import Client
from tests.faults.children import Child
from tests.faults.judge import DEADLINE, judging
from tests.faults.scenario import Scenario

if TYPE_CHECKING:
    import random

    from outlay._client_options import SettingsInput
    from tests.faults.children import Teller
    from tests.faults.judge import Judge
    from tests.faults.scenario import Tally

_GENERATIONS: Final = 3


def _write(tell: Teller, settings: SettingsInput, first: int, count: int) -> None:
    client = Client(**settings)
    for number in range(first, first + count):
        tell.track(client, number)
    assert client.close(DEADLINE).complete


class _Lane:
    """One writer after another; all but the last are killed at random."""

    def __init__(
        self, judge: Judge, chance: random.Random, *, number: int, size: int
    ) -> None:
        self.kills = 0
        self._judge = judge
        self._chance = chance
        self._first = 100_000 * number
        self._size = size
        self._generation = 0
        self._start()

    def _start(self) -> None:
        settings = self._judge.settings(
            batching=self._chance.choice(["never", "always"])
        )
        first = self._first + 1000 * self._generation
        self.child = Child(self._judge, _write, settings, first, self._size)
        last = self._generation == _GENERATIONS - 1
        self._left = self._chance.randrange(self._size) if not last else -1

    def go_on(self) -> bool:
        """Hear one event, or kill; return whether there is more to come."""
        if self._left == 0:
            self.child.kill()
            self.kills += 1
            self._generation += 1
            self._start()
            return True
        self._left -= 1
        if self.child.hear():
            return True
        self.child.finish()
        return False


def _dying(chance: random.Random, size: int, *, count: int) -> Tally:
    with judging() as judge:
        lanes = [
            _Lane(judge, chance, number=number, size=size) for number in range(count)
        ]
        alive = {lane.child.line: lane for lane in lanes}
        while alive:
            ready = connection.wait(list(alive), DEADLINE)
            assert ready, "all children hang"
            lane = alive.pop(chance.choice(ready))  # type: ignore[call-overload]
            if lane.go_on():
                alive[lane.child.line] = lane
        judge.inherit()
        return judge.tally(killed=sum(lane.kills for lane in lanes))


SCENARIOS: Final = tuple(
    Scenario(
        f"{words} processes start and die on one folder",
        functools.partial(_dying, count=count),
        trials=trials,
        size=30,
    )
    for words, count, trials in (("two", 2, 100), ("eight", 8, 30))
)
