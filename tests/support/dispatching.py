"""The shipper's work done step by step: one thread, a clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._model.rate_limited_log import RateLimitedLog
from outlay._model.settings import Settings
from outlay._shipping.planner import RequestPlanner
from outlay._shipping.wire import send
from tests.support.clock import ManualClock
from tests.support.events import EVENT_TYPE, payload
from tests.support.journals import make_journal
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Unpack

    from outlay._client_options import SettingsInput
    from outlay._shipping.wire import PlannedRequest
    from tests.support.transports import Line

_MOST_STEPS: Final = 5000
"""More than any test needs: a loop without waits is a server hammered."""


class Bench:
    """Ships the events of one journal to a scripted transport.

    Attributes:
        tracked: how many events were appended.
    """

    def __init__(
        self,
        folder: Path,
        script: Iterable[Line] = (),
        **settings: Unpack[SettingsInput],
    ) -> None:
        self.clock = ManualClock()
        self.transport = ScriptedTransport(script)
        self.tracked = 0
        self._settings = Settings.resolve({"batching": "never", **settings}, environ={})
        self._folder = folder
        self._log = RateLimitedLog(self.clock)
        self._start()

    def _start(self) -> None:
        self.journal = make_journal(self._folder, clock=self.clock)
        self.planner = RequestPlanner(
            self._settings, self.journal, clock=self.clock, log=self._log
        )

    def restart(self) -> None:
        """End the process, in the middle of a request or not, and start the next."""
        self.journal.close()
        self._start()
        self.tracked = 0
        self.journal.adopt_orphans()

    def track(self, *numbers: int, event_type: str = EVENT_TYPE) -> None:
        """Append events."""
        for number in numbers:
            self.journal.append(payload(number, event_type=event_type))
            self.tracked += 1

    def plan(self) -> PlannedRequest | float:
        """Plan as if a caller waited in a flush."""
        return self.planner.plan(linger=False)

    def perform(self, job: PlannedRequest) -> None:
        """Post ``job`` and record its outcome."""
        response, result = send(job, self.transport)
        self.planner.record(job, response, result, wall=0.1, cpu=0.001)

    def ship(self) -> float:
        """Make all requests that may be made now; return seconds to the next."""
        for _ in range(_MOST_STEPS):
            step = self.plan()
            if not isinstance(step, float):
                self.perform(step)
            elif step > 0:
                self.assert_conserved()
                return step
        raise AssertionError("the server is hammered without a pause")

    def ship_for(self, seconds: float) -> None:
        """Ship, letting time pass where there is nothing to do now."""
        while seconds > 0:
            wait = min(self.ship(), seconds)
            self.clock.advance(wait)
            seconds -= wait
        self.ship()

    @property
    def sent(self) -> list[bytes]:
        """The bodies of all requests."""
        return [body for _, body in self.transport.posts]

    @property
    def counts(self) -> dict[str, int]:
        """The outcomes of the events, without those that no event had."""
        parked = self.journal.reader.parked_count()
        outcomes = {**self.planner.counts, "parked": parked}
        names = ("delivered", "parked", "dead", "quarantined")
        return {name: outcomes[name] for name in names if outcomes.get(name)}

    @property
    def pending(self) -> int:
        """The number of events without an outcome."""
        recovered = self.journal.reader.recovered_count
        return self.tracked + recovered - sum(self.counts.values())

    def assert_conserved(self) -> None:
        """Check that no event has two outcomes."""
        assert self.pending >= 0, (self.tracked, self.counts)
