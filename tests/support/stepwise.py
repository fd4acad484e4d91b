"""Processes that track and ship one step at a time, and end in the middle of one.

Each has a real client on a real folder. They live in the test's own process. For a
process that dies, the kernel closes its files, and here `Process.crash` does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay._journal.segment_opener import is_in_memory
from outlay._journal.segments import iter_unsettled
from outlay._lifecycle import live_clients
from outlay._model.rate_limited_log import RateLimitedLog
from outlay._shipping.planner import RequestPlanner
from outlay._shipping.shipper import Shipper
from outlay._shipping.wire import send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay import Client
    from outlay._journal.journal import Journal
    from outlay._model.clock import Clock
    from outlay._shipping.wire import PlannedRequest
    from outlay.transport import TransportResponse


class Process:
    """A process that does nothing by itself.

    Attributes:
        client: A real client, without threads.
    """

    def __init__(self, client: Client, clock: Clock) -> None:
        """Drive ``client``, which was made with ``shipping="none"`` and ``clock``."""
        self.client = client
        self._planner = RequestPlanner(
            client.settings,
            self._journal,
            clock=clock,
            log=RateLimitedLog(clock),
        )
        shipper = client._shipper
        assert isinstance(shipper, Shipper)
        shipper.planner = self._planner  # `stats` counts by it

    @property
    def _journal(self) -> Journal:
        return self.client._pipeline.journal

    @property
    def credential(self) -> str:
        """The credential of its destination."""
        key = self.client.settings.api_key
        return key.get_secret_value() if key else ""

    def adopt(self) -> None:
        """Adopt the folders of dead processes."""
        self._journal.adopt_orphans()

    def plan(self) -> PlannedRequest | float:
        """Plan as in a flush, which stamps the events of the request."""
        self._planner.skip_backoff()
        return self._planner.plan(linger=False)

    def perform(
        self, job: PlannedRequest, post: Callable[[str, bytes], TransportResponse]
    ) -> None:
        """Post ``job`` and record its outcome."""
        response, result = send(job, _Wire(post))
        self._planner.record(job, response, result, wall=0.1, cpu=0.001)
        self._planner.take_deliveries()

    def ship(self, post: Callable[[str, bytes], TransportResponse]) -> None:
        """Make all requests that can be made now."""
        while not isinstance(step := self.plan(), float) or step == 0:
            if not isinstance(step, float):
                self.perform(step, post)

    def in_memory(self) -> Iterator[bytes]:
        """Yield the payloads of events that die with it, because there is no disk."""
        for handle in self._journal.reader.handles():
            if is_in_memory(handle):
                yield from (
                    frame.payload for frame in iter_unsettled(handle.open_memory())
                )

    def crash(self) -> None:
        """End as a killed process does: the kernel closes its files, no more."""
        for folder in self._journal.held_folders():
            folder.close()
        live_clients.discard(self.client)


class _Wire:
    """A transport that posts by calling a function."""

    def __init__(self, post: Callable[[str, bytes], TransportResponse]) -> None:
        self.post = post

    def close(self) -> None:
        """Close nothing: nothing is open."""
