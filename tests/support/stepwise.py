"""Processes that track and ship one step at a time, and end in the middle of one.

Each has a real client on a real folder. They live in the test's own process: what the
kernel does for a process that dies, closing its files, is done by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay._journal.frames import SEGMENT_HEADER_BYTES, SETTLED, Frame, read_frame
from outlay._lifecycle import live_clients
from outlay._shipping.planner import RequestPlanner
from outlay._shipping.shipper import Shipper
from outlay._shipping.wire import send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay import Client
    from outlay._journal.frames import Buffer
    from outlay._model.clock import Clock
    from outlay._shipping.wire import PlannedRequest
    from outlay.transport import TransportResponse


class Process:
    """A process that does nothing by itself.

    Attributes:
        client: real, without threads.
    """

    def __init__(self, client: Client, clock: Clock) -> None:
        """Drive ``client``, which was made with ``shipping="none"`` and ``clock``."""
        self.client = client
        self._planner = RequestPlanner(
            client.settings,
            client._pipeline.journal,
            clock=clock,
            log=client._pipeline.notices,
        )
        shipper = client._shipper
        assert isinstance(shipper, Shipper)
        shipper.planner = self._planner  # `stats` counts by it

    @property
    def credential(self) -> str:
        """The one of its destination."""
        key = self.client.settings.api_key
        return key.get_secret_value() if key else ""

    def adopt(self) -> None:
        """Take over what dead processes left."""
        self.client._pipeline.journal.adopt_orphans()

    def plan(self) -> PlannedRequest | float:
        """Plan as if somebody waited in a flush; this stamps the job's events."""
        self._planner.skip_backoff()
        return self._planner.plan(linger=False)

    def perform(
        self, job: PlannedRequest, post: Callable[[str, bytes], TransportResponse]
    ) -> None:
        """Post ``job`` and record what came of it."""
        response, result = send(job, _Wire(post))
        self._planner.record(job, response, result, wall=0.1, cpu=0.001)
        self._planner.take_deliveries()

    def ship(self, post: Callable[[str, bytes], TransportResponse]) -> None:
        """Make all requests that can be made now."""
        while not isinstance(step := self.plan(), float) or step == 0:
            if not isinstance(step, float):
                self.perform(step, post)

    def in_memory(self) -> Iterator[bytes]:
        """Yield the payloads of events that die with it, for want of a disk."""
        reader = self.client._pipeline.journal.reader
        opened = [*reader._reading.values(), *reader._drained.values()]
        refs = [*reader._added, *reader._queued, *(each.ref for each in opened)]
        refs += [ref for ref, _ in reader._parked.values()]
        for ref in refs:
            if ref.name.startswith("memory/"):
                yield from (frame.payload for frame in unsettled(ref.open_memory()))

    def crash(self) -> None:
        """End as a killed process does: the kernel closes its files, no more."""
        journal = self.client._pipeline.journal
        for folder in (journal._writer, *journal._adopted.values()):
            if folder is not None:
                folder.close()
        live_clients.discard(self.client)


class _Wire:
    """A transport that posts by calling a function."""

    def __init__(self, post: Callable[[str, bytes], TransportResponse]) -> None:
        self.post = post

    def close(self) -> None:
        """Nothing is open."""


def unsettled(segment: Buffer) -> Iterator[Frame]:
    """Yield the events of a segment that have not met their fate; skip damage."""
    offset, limit = SEGMENT_HEADER_BYTES, len(segment)
    while (found := read_frame(segment, offset, limit, final=True)) is not None:
        if isinstance(found, Frame) and found.state not in SETTLED:
            yield found
        offset = found.end
