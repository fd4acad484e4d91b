"""What became of a process's events when another process ships them.

The shipper writes each fate into its frame, where the writer can see it. Before it
deletes a segment, it adds a line to ``settled.jsonl`` in the writer's folder that says
what the segment came to. So for each segment there is the file, or the line, or, after
a kill between the two steps, both: the writer looks for the file first. The next
shipper deletes such a file and writes its line again, which says the same.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay._journal import frames, segments
from outlay._journal.folders import FATES_FILE
from outlay._journal.frames import SEGMENT_HEADER_BYTES, SETTLED, Frame, FrameState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FILE_MODE: Final = 0o600

_NAMES: Final = {
    FrameState.DELIVERED: "delivered",
    FrameState.DEAD: "dead",
    FrameState.QUARANTINED: "quarantined",
}


class SegmentSummary(msgspec.Struct, frozen=True):
    """What the events of a finished segment came to.

    Attributes:
        segment: name of the file.
        delivered: accepted by the server.
        dead: in the dead letters.
        quarantined: in the dead letters, perhaps counted.
        damaged: found corrupted.
    """

    segment: str
    delivered: int
    dead: int
    quarantined: int
    damaged: int

    @classmethod
    def of(cls, path: Path) -> SegmentSummary:
        """Return what a segment without pending events came to.

        Raises:
            OSError: it cannot be read.
        """
        memory = segments.map_readonly(path)
        if memory is None:
            return cls(path.name, 0, 0, 0, 0)  # no event was ever in it
        with memory:
            states = Counter(
                each.state for each in frames.iter_headers(memory, SEGMENT_HEADER_BYTES)
            )
            settled = {name: states.pop(state, 0) for state, name in _NAMES.items()}
            return cls(path.name, **settled, damaged=sum(states.values()))


def append_summary(folder: Path, fates: SegmentSummary) -> None:
    """Tell a writer what a segment came to: before it is deleted, if there is room.

    Raises:
        OSError: the folder cannot be written to.
    """
    # A line begins with its break: one that was cut off spoils no other.
    line = b"\n" + msgspec.json.encode(fates)
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
    descriptor = os.open(folder / FATES_FILE, flags, _FILE_MODE)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, "no room for a line", FATES_FILE)
    finally:
        os.close(descriptor)


def read_summaries(folder: Path) -> dict[str, SegmentSummary]:
    """Return what the finished segments of a writer came to, by file name."""
    try:
        lines = (folder / FATES_FILE).read_bytes().splitlines()
    except OSError:  # none yet, or the folder is gone
        return {}
    found = {}
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):
            fates = msgspec.json.decode(line, type=SegmentSummary)
            found[fates.segment] = fates
    return found


class _Snapshot(NamedTuple):
    """What can be seen in a segment now."""

    counts: Counter[str]
    pending_from: float  # offset of the first event that waits; infinity: none does


def _is_pending(seen: frames.FrameHeader) -> bool:
    return not seen.damaged and seen.state not in {*SETTLED, FrameState.PARKED}


class _Segment:
    """A segment of ours, and the settled events at its start, counted already."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counted_to = SEGMENT_HEADER_BYTES
        self._counts: Counter[str] = Counter()

    def snapshot(self) -> _Snapshot | None:
        """Return what became of its events so far; None if the file is gone."""
        memory = segments.map_readonly(self.path)
        if memory is None:
            return None
        with memory:
            self._count_settled_prefix(memory)
            return self._count_rest(memory)

    def first_pending(self) -> bytes | None:
        """Return the first pending event's payload, or None if there is none."""
        memory = segments.map_readonly(self.path)
        if memory is None:
            return None
        with memory:
            self._count_settled_prefix(memory)
            for each in frames.iter_headers(memory, self._counted_to):
                if _is_pending(each):
                    found = frames.read_frame(
                        memory, each.offset, len(memory), final=False
                    )
                    return found.payload if isinstance(found, Frame) else None
        return None

    def _count_settled_prefix(self, memory: frames.Buffer) -> None:
        for each in frames.iter_headers(memory, self._counted_to):
            if each.state not in SETTLED:
                break
            self._counts[_NAMES[FrameState(each.state)]] += 1
            self._counted_to = each.end

    def _count_rest(self, memory: frames.Buffer) -> _Snapshot:
        counts, pending_from = Counter(self._counts), math.inf
        for each in frames.iter_headers(memory, self._counted_to):
            if each.state in SETTLED:
                counts[_NAMES[FrameState(each.state)]] += 1
            elif each.damaged:
                counts["damaged"] += 1
            elif each.state == FrameState.PARKED:
                counts["parked"] += 1
            else:
                pending_from = min(pending_from, each.offset)
                if not each.attempted:
                    break  # events are sent in order: nor were those behind it
        return _Snapshot(counts, pending_from)


class AgentProgress:
    """What became of this process's events, as far as the journal says.

    Thread safety: any thread, re-entrant.
    """

    def __init__(self) -> None:
        # Re-entrant: a signal handler may ask for the stats inside a locked block.
        self._lock = threading.RLock()
        self._segments: dict[str, _Segment] = {}  # guarded by _lock, as the rest
        self._finished: Counter[str] = Counter()

    def add(self, name: str, path: Path) -> None:
        """Watch a new segment."""
        with self._lock:
            self._segments[name] = _Segment(path)

    def names(self) -> list[str]:
        """Return the segments that are not finished, as far as is known."""
        with self._lock:
            return list(self._segments)

    def counts(self) -> Counter[str]:
        """Return how many events met which fate; all others are pending."""
        with self._lock:
            looks = self._look(self.names())
            return sum((look.counts for look in looks.values()), self._finished.copy())

    def oldest(self) -> list[bytes]:
        """Return the payload of the oldest pending event, if one is known."""
        with self._lock:
            for _, segment in sorted(self._segments.items()):
                if (payload := segment.first_pending()) is not None:
                    return [payload]
        return []

    def is_settled_up_to(self, targets: Mapping[str, float]) -> bool:
        """Return whether every event before ``targets`` has met its fate.

        Args:
            targets: offsets by segment; infinity: the segment's end.
        """
        with self._lock:
            looks = self._look([name for name in targets if name in self._segments])
            return all(
                look.pending_from >= targets[name] for name, look in looks.items()
            )

    def _look(self, names: list[str]) -> dict[str, _Snapshot]:
        looks = {}
        for name in names:
            segment = self._segments.get(name)
            if segment is None:
                continue  # a signal handler on this thread was faster
            look = segment.snapshot() or self._finish(name, segment.path)
            if look is not None:
                looks[name] = look
        return looks

    def _finish(self, name: str, path: Path) -> _Snapshot | None:
        fates = read_summaries(path.parent).get(path.name)
        if fates is None:
            # Deleted by hand. Nobody can tell what became of the events.
            return _Snapshot(Counter(), SEGMENT_HEADER_BYTES)
        if self._segments.pop(name, None) is None:
            return None
        for fate in ("delivered", "dead", "quarantined", "damaged"):
            self._finished[fate] += getattr(fates, fate)
        return None
