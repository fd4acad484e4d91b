"""Tell a process the outcomes of its events while an agent ships them.

The agent writes each state into its frame, where the writer can see it. Before the
agent deletes a segment, it adds a line to ``settled.jsonl`` in the writer's folder. The
line has the counts of that segment. So for each segment there is the file or the line.
After a kill between the two steps there are both, and the writer looks for the file
first. The next agent deletes such a file and writes the same line again.
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
from outlay._journal.folders import SUMMARY_FILE
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
    """The outcomes of the events of a finished segment.

    Attributes:
        segment: The name of the file.
        delivered: The number of events that the server accepted.
        dead: The number of dead letters.
        quarantined: The number of dead letters that may have been counted.
        damaged: The number of corrupt events.
    """

    segment: str
    delivered: int
    dead: int
    quarantined: int
    damaged: int

    @classmethod
    def from_path(cls, path: Path) -> SegmentSummary:
        """Return the outcomes of a segment without pending events.

        Raises:
            OSError: It cannot be read.
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


def append_summary(folder: Path, summary: SegmentSummary) -> None:
    """Leave a summary for the writer: before the segment is deleted, if there is room.

    Raises:
        OSError: The folder cannot be written to.
    """
    # A line begins with its break, so that one that was cut off spoils no other.
    line = b"\n" + msgspec.json.encode(summary)
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
    descriptor = os.open(folder / SUMMARY_FILE, flags, _FILE_MODE)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, "no room for a line", SUMMARY_FILE)
    finally:
        os.close(descriptor)


def read_summaries(folder: Path) -> dict[str, SegmentSummary]:
    """Return the summaries of a writer's finished segments, by file name."""
    try:
        lines = (folder / SUMMARY_FILE).read_bytes().splitlines()
    except OSError:  # none yet, or the folder is gone
        return {}
    found = {}
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):
            summary = msgspec.json.decode(line, type=SegmentSummary)
            found[summary.segment] = summary
    return found


class _Snapshot(NamedTuple):
    """The outcomes in a segment at one moment.

    Attributes:
        counts: The number of events by outcome.
        pending_from: The offset of the first pending event, or infinity.
    """

    counts: Counter[str]
    pending_from: float


def _is_pending(header: frames.FrameHeader) -> bool:
    return not header.damaged and header.state not in {*SETTLED, FrameState.PARKED}


class _Segment:
    """A segment of this process, and the counts of the settled events at its start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._counted_to = SEGMENT_HEADER_BYTES
        self._counts: Counter[str] = Counter()

    def snapshot(self) -> _Snapshot | None:
        """Return the outcomes so far. None if the file is gone."""
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
                    break  # events are sent in order: nor were the later ones
        return _Snapshot(counts, pending_from)


class AgentProgress:
    """The outcomes of this process's events, as far as the journal shows them.

    Thread safety: any thread, re-entrant.
    """

    def __init__(self) -> None:
        # Re-entrant: a signal handler may ask for the stats inside a locked block.
        self._lock = threading.RLock()
        self._segments: dict[str, _Segment] = {}  # guarded by _lock, as the rest
        self._finished: Counter[str] = Counter()

    def add(self, name: str, path: Path) -> None:
        """Observe a new segment."""
        with self._lock:
            self._segments[name] = _Segment(path)

    def names(self) -> list[str]:
        """Return the segments that are not finished, as far as is known."""
        with self._lock:
            return list(self._segments)

    def counts(self) -> Counter[str]:
        """Return the number of events by outcome. All others are pending."""
        with self._lock:
            found = self._snapshots(self.names()).values()
            return sum((each.counts for each in found), self._finished.copy())

    def oldest(self) -> list[bytes]:
        """Return the payload of the oldest pending event, if one is known."""
        with self._lock:
            for _, segment in sorted(self._segments.items()):
                if (payload := segment.first_pending()) is not None:
                    return [payload]
        return []

    def is_settled_up_to(self, targets: Mapping[str, float]) -> bool:
        """Return whether every event before ``targets`` is settled.

        Args:
            targets: Offsets by segment. Infinity stands for the segment's end.
        """
        with self._lock:
            found = self._snapshots(
                [name for name in targets if name in self._segments]
            )
            return all(
                each.pending_from >= targets[name] for name, each in found.items()
            )

    def _snapshots(self, names: list[str]) -> dict[str, _Snapshot]:
        found = {}
        for name in names:
            segment = self._segments.get(name)
            if segment is None:
                continue  # a signal handler on this thread was faster
            snapshot = segment.snapshot() or self._finish(name, segment.path)
            if snapshot is not None:
                found[name] = snapshot
        return found

    def _finish(self, name: str, path: Path) -> _Snapshot | None:
        summary = read_summaries(path.parent).get(path.name)
        if summary is None:
            # Deleted by hand. The outcomes of its events are unknown.
            return _Snapshot(Counter(), SEGMENT_HEADER_BYTES)
        if self._segments.pop(name, None) is None:
            return None
        for outcome in ("delivered", "dead", "quarantined", "damaged"):
            self._finished[outcome] += getattr(summary, outcome)
        return None
