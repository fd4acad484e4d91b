"""Processes that track and ship one step at a time, and end in the middle of one.

Each has a real client on a real folder. They live in the test's own process: what the
kernel does for a process that dies, closing its files, is done by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay import Client
from outlay._client import _clients
from outlay._journal.frames import SEGMENT_HEADER_BYTES, SETTLED, Frame, read_frame
from outlay._shipping.dispatch import Dispatch
from outlay._shipping.shipper import Shipper, _post
from tests.support.journals import KIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outlay import Answer
    from outlay._journal.frames import Buffer
    from outlay._shipping.dispatch import Job
    from tests.support.clock import ManualClock
    from tests.support.events import Batching

SEGMENT_BYTES: Final = 64 * KIB
MAX_SPILL_BYTES: Final = 256 * KIB


class Process:
    """A process that does nothing by itself.

    Attributes:
        credential: of its destination.
        client: real, without threads.
    """

    def __init__(
        self, folder: Path, credential: str, batching: Batching, clock: ManualClock
    ) -> None:
        self.credential = credential
        self.client = Client(
            api_key=credential,
            spill_dir=folder,
            shipping="none",
            batching=batching,
            segment_bytes=SEGMENT_BYTES,
            max_spill_bytes=MAX_SPILL_BYTES,
            max_batch_events=4,
            clock=clock,
        )
        self._dispatch = Dispatch(
            self.client.settings,
            self.client._journal,
            clock=clock,
            notices=self.client._notices,
        )
        assert isinstance(self.client._shipper, Shipper)
        self.client._shipper._dispatch = self._dispatch  # `stats` counts by it

    def adopt(self) -> None:
        """Take over what dead processes left."""
        self.client._journal.adopt_orphans()

    def plan(self) -> Job | float:
        """Plan as if somebody waited in a flush; this stamps the job's events."""
        self._dispatch.hurry()
        return self._dispatch.plan(hurry=True)

    def perform(self, job: Job, post: Callable[[str, bytes], Answer]) -> None:
        """Post ``job`` and record what came of it."""
        answer, judgement = _post(job, _Wire(post))
        self._dispatch.record(job, answer, judgement, wall=0.1, cpu=0.001)
        self._dispatch.burials()

    def ship(self, post: Callable[[str, bytes], Answer]) -> None:
        """Make all requests that can be made now."""
        while not isinstance(step := self.plan(), float) or step == 0:
            if not isinstance(step, float):
                self.perform(step, post)

    def in_memory(self) -> Iterator[bytes]:
        """Yield the payloads of events that die with it, for want of a disk."""
        reader = self.client._journal.reader
        opened = [*reader._reading.values(), *reader._drained.values()]
        refs = [*reader._added, *reader._queued, *(each.ref for each in opened)]
        refs += [ref for ref, _ in reader._parked.values()]
        for ref in refs:
            if ref.name.startswith("memory/"):
                yield from (frame.payload for frame in unsettled(ref.open_memory()))

    def crash(self) -> None:
        """End as a killed process does: the kernel closes its files, no more."""
        journal = self.client._journal
        for folder in (journal._writer, *journal._adopted.values()):
            if folder is not None:
                folder.abandon()
        _clients.discard(self.client)


class _Wire:
    """A transport that posts by calling a function."""

    def __init__(self, post: Callable[[str, bytes], Answer]) -> None:
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
