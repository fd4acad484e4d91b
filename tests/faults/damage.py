"""Segments that are torn off, or have flipped bits."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay import Client
from outlay._journal.frames import FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES
from outlay._journal.segments import iter_unsettled
from outlay._model.events import add_key, decode_event
from tests.faults.judge import kept_in
from tests.faults.scenario import NOTHING, Books, Scenario
from tests.support.clock import ManualClock
from tests.support.events import amount_of, assert_conserved, track
from tests.support.journals import KIB, segment_files
from tests.support.service import Service, take_all
from tests.support.stepwise import Process

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from decimal import Decimal

    from tests.faults.scenario import Tally

_KEY: Final = "sk_test_1"


class Bench:
    """A folder, and a model of the service that its events go to."""

    def __init__(self, journal_dir: Path) -> None:
        self.journal_dir = journal_dir
        self.clock = ManualClock()
        self.service = Service(self.clock)
        self.told: dict[str, Decimal] = {}

    def start(self) -> Process:
        """Return a process that does nothing by itself."""
        client = Client(
            api_key=_KEY,
            journal_dir=self.journal_dir,
            shipping="none",
            batching="always",
            segment_bytes=64 * KIB,
            clock=self.clock,
        )
        return Process(client, self.clock)

    def track(self, process: Process, numbers: range) -> None:
        """Track events, and note that this was told."""
        for number in numbers:
            self.told[track(process.client, number)] = amount_of(number)

    def ship(self, process: Process) -> None:
        """Deliver what ``process`` has, and check its books."""
        process.ship(lambda path, body: take_all(self.service, path, body))
        assert_conserved(process.client.stats())

    def inherit(self) -> None:
        """Deliver what all processes left behind."""
        adopter = self.start()
        adopter.adopt()
        self.ship(adopter)
        stats = adopter.client.close(0).stats
        assert (stats.pending, stats.parked) == (0, 0), stats

    def books(self) -> Books:
        """Return both sides."""
        kept = kept_in(self.journal_dir)
        return Books(self.told, self.service.counted, self.service.total, kept)


@contextmanager
def bench() -> Iterator[Bench]:
    """Hold a trial on a fresh folder."""
    with tempfile.TemporaryDirectory(prefix="outlay-faults-") as folder:
        yield Bench(Path(folder) / "journal")


def _torn(_: random.Random, size: int, *, cut: bool) -> Tally:
    """Tear the last of some events at every byte, once each.

    Args:
        size: how many events there are.
        cut: whether the file ends there; if not, it is zeros from there on.
    """
    tally = NOTHING
    with bench() as scene:
        writer = scene.start()
        scene.track(writer, range(size))
        [segment] = segment_files(scene.journal_dir)
        last = list(iter_unsettled(bytearray(segment.read_bytes())))[-1]
        torn = track(writer.client, size)  # its caller is not told of it
        end = last.end + FRAME_HEADER_BYTES + len(last.payload)
        writer.crash()
        for offset in range(last.end, end + 1):
            tally = tally.plus(_tear(scene, offset, torn, cut=cut))
    return tally


def _tear(scene: Bench, offset: int, torn: str, *, cut: bool) -> Tally:
    with bench() as trial:
        shutil.copytree(scene.journal_dir, trial.journal_dir)
        [segment] = segment_files(trial.journal_dir)
        content = segment.read_bytes()
        rest = b"" if cut else bytes(len(content) - offset)
        segment.write_bytes(content[:offset] + rest)
        trial.told = scene.told
        trial.inherit()
        untold = {torn: amount_of(len(scene.told))}
        return trial.books().tally(untold=untold, at_most=1)


def _flipped(chance: random.Random, size: int, *, live: bool) -> Tally:
    """Flip up to three bits of a segment, whose writer lives or is dead.

    What was hit may be set aside; all else is delivered. A few events are on the way,
    and some delivered, when it happens. A living writer may notice before it tracks
    more: then nothing follows the last of the events.
    """
    with bench() as scene:
        writer = scene.start()
        scene.track(writer, range(size))
        under_way = 0
        if chance.random() < 0.5:
            job = writer.plan()
            assert not isinstance(job, float)
            under_way = len(job.events)
        [segment] = segment_files(scene.journal_dir)
        hit = _flip_some(chance, segment)
        if live and chance.random() < 0.5:
            scene.ship(writer)
            # Neighbours that lost the start of their headers are counted as one.
            unseen = writer.client.stats().pending - under_way
            assert unseen in range(max(1, len(hit)))
        if live:
            scene.track(writer, range(size, 2 * size))
            scene.ship(writer)
            scene.track(writer, range(2 * size, 3 * size))
        writer.crash()
        scene.inherit()
        books = scene.books()
        gone = books.told.keys() - books.counted.keys() - books.kept.keys()
        aside = b"".join(
            path.read_bytes() for path in scene.journal_dir.glob("*/dead/*.damaged")
        )
        excused = {key for key in gone & hit.keys() if hit[key] in aside}
        told = {k: v for k, v in books.told.items() if k not in excused}
        return books._replace(told=told).tally(untold=books.told, at_most=0)


def _truncated(chance: random.Random, size: int, *, sealed: bool) -> Tally:
    """Cut the file of a dead writer anywhere behind its header.

    The events before the cut are delivered. Those behind it are gone, and said to be.
    """
    with bench() as scene:
        writer = scene.start()
        scene.track(writer, range(size))
        if sealed:
            writer.client.close(0)
        else:
            writer.crash()
        [segment] = segment_files(scene.journal_dir)
        events = [*iter_unsettled(bytearray(segment.read_bytes()))]
        cut = chance.randrange(SEGMENT_HEADER_BYTES, events[-1].end)
        os.truncate(segment, cut)
        adopter = scene.start()
        adopter.adopt()
        scene.ship(adopter)
        assert adopter.client.stats().damaged == 1
        adopter.client.close(0)
        [aside] = scene.journal_dir.glob("*/dead/*.damaged")
        assert aside.stat().st_size <= cut
        gone = {
            decode_event(add_key(event.payload)).idempotency_key
            for event in events
            if event.offset + FRAME_HEADER_BYTES + len(event.payload) > cut
        }
        books = scene.books()
        assert not gone & books.counted.keys()
        told = {key: amount for key, amount in books.told.items() if key not in gone}
        return books._replace(told=told).tally()


def _flip_some(chance: random.Random, segment: Path) -> dict[str, bytes]:
    """Flip bits of events, or of the file's header.

    Returns:
        What is left of the events that were hit, by key.
    """
    frames = list(iter_unsettled(bytearray(segment.read_bytes())))
    hit = []
    with segment.open("r+b", buffering=0) as file:
        for _ in range(chance.randint(1, 3)):
            offset = chance.randrange(SEGMENT_HEADER_BYTES, frames[-1].end)
            if chance.random() < 0.1:
                offset = chance.choice(_HEADER)
            file.seek(offset)
            [byte] = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
            hit += [frame for frame in frames if frame.offset <= offset < frame.end]
    content = segment.read_bytes()
    starts = {frame: frame.offset + FRAME_HEADER_BYTES for frame in hit}
    return {
        decode_event(frame.payload).idempotency_key: content[
            start : start + len(frame.payload)
        ]
        for frame, start in starts.items()
    }


# Magic, sealed flag, time. The version is left: what a newer outlay wrote is not read.
_HEADER: Final = (*range(8), *range(10, SEGMENT_HEADER_BYTES))

SCENARIOS: Final = (
    *(
        Scenario(
            f"tail torn at every byte, {how}",
            functools.partial(_torn, cut=cut),
            trials=1,
            bounded=1,
            size=3,
        )
        for how, cut in (("file cut off", True), ("zeros follow", False))
    ),
    *(
        Scenario(
            f"flipped bits, {whose} writer",
            functools.partial(_flipped, live=live),
            trials=300,
            bounded=12,
            size=8,
        )
        for whose, live in (("dead", False), ("living", True))
    ),
    *(
        Scenario(
            f"file cut anywhere, {how}",
            functools.partial(_truncated, sealed=sealed),
            trials=100,
            bounded=4,
            size=8,
        )
        for how, sealed in (("writer killed", False), ("writer ended", True))
    ),
)
