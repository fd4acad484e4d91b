"""The shipper's side of the journal: which events are next, and what became of them."""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING

from outlay._journal.frames import FrameState, pack_stamp
from outlay._journal.segments import PendingEvent, SegmentReader
from outlay.errors import JournalError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterator, Mapping

    from outlay._journal.frames import CorruptRange
    from outlay._journal.segments import SegmentWriter


class SegmentHandle:
    """A segment that is to be read, opened only when its turn comes.

    Attributes:
        name: unique in the destination; sorts by age.
        recovered: whether another process wrote it.
        final: whether that process is dead.
        counted_to: events before this offset were counted as recovered.
        damaged: offsets of damage that was reported, and of the events lost in it.
        writer: who appends to it, or did, if that is this process.
        left: how many unsettled events it had when it was closed; None: it never was.
    """

    def __init__(
        self,
        name: str,
        open_memory: Callable[[], mmap.mmap],
        discard: Callable[[], None],
        *,
        recovered: bool,
        final: bool,
    ) -> None:
        self.name = name
        self.recovered = recovered
        self.final = final
        self.recovered_up_to = 0
        self.damaged: set[int] = set()
        self.writer: SegmentWriter | None = None
        self.unsettled_when_closed: int | None = None
        self.open_memory = open_memory
        self.delete = discard

    @property
    def unsettled_count(self) -> int:
        """How many of its events are in the books, and not settled."""
        if self.unsettled_when_closed is not None:
            return self.unsettled_when_closed
        return 0 if self.writer is None else self.writer.frame_count

    def open(self) -> mmap.mmap:
        """Return the segment, mapped.

        What this process still writes is mapped already: it is there even if somebody
        has deleted the file, or the process has no descriptor left to open it.

        Raises:
            OSError: it cannot be opened; a JournalError, if a newer outlay wrote it.
        """
        mapped = self._mapped
        return self.open_memory() if mapped is None else mapped

    def keep_mapping(self) -> None:
        """Keep what is mapped until it has been read: the file is there no more."""
        mapped = self._mapped
        if mapped is not None:
            self.open_memory = lambda: mapped

    @property
    def _mapped(self) -> mmap.mmap | None:
        return None if self.writer is None else self.writer.mapped


class _OpenSegment:
    """A segment that is being read."""

    def __init__(self, ref: SegmentHandle, tail: Callable[[], int | None]) -> None:
        self.ref = ref
        self.reader = SegmentReader(
            ref.name,
            ref.open(),
            final=ref.final,
            foreign=ref.recovered,
            tail=tail,
        )


class JournalReader:
    """Reads pending events, oldest segments first, and writes their fates back.

    A segment is deleted when all of its events are settled. Parked events pin theirs.

    Thread safety: any thread may call `add`; for all else the caller holds the
    shipper's lock.
    """

    def __init__(
        self,
        *,
        on_damage: Callable[[str, int, bytes], None],
        on_unreadable: Callable[[str, OSError], None],
        tail_of: Callable[[str], int | None],
    ) -> None:
        """Read what `add` hands over.

        Args:
            on_damage: called with segment, offset and bytes that were no frame.
            on_unreadable: called with a segment, and why it cannot be read.
            tail_of: returns where this process will append to a segment; None if it
                does not, or not any more.
        """
        self._tail_of = tail_of
        self._on_damage = on_damage
        self._on_unreadable = on_unreadable
        self._added: deque[SegmentHandle] = deque()
        self._queued: deque[SegmentHandle] = deque()  # not opened yet
        self._reading: dict[str, _OpenSegment] = {}  # more may come from it
        self._drained: dict[str, _OpenSegment] = {}  # read to the end, not all settled
        self._parked: dict[str, tuple[SegmentHandle, int]] = {}  # closed; parked events
        self._unreadable: list[SegmentHandle] = []  # for now
        self.taken_count = 0
        self.recovered_count = 0
        self.damaged_count = 0  # events
        self._closed = False

    def add(self, ref: SegmentHandle) -> None:
        """Hand over a segment for reading."""
        self._added.append(ref)

    def take(self, max_events: int, max_bytes: int) -> list[PendingEvent]:
        """Return pending events, at most so many and about so many bytes of them."""
        taken: list[PendingEvent] = []
        room = max_bytes
        for opened in self._open_in_turn():
            on_damage = functools.partial(self._record_damage, opened.ref)
            while len(taken) < max_events and room > 0:
                event = opened.reader.take(on_damage)
                if event is None:
                    break
                if opened.ref.recovered and event.offset >= opened.ref.recovered_up_to:
                    opened.ref.recovered_up_to = event.offset + 1
                    self.recovered_count += 1
                room -= len(event.payload)
                taken.append(event)
            self._update_placement(opened)
            if len(taken) >= max_events or room <= 0:
                break
        self.taken_count += len(taken)
        return taken

    def confirm_damage(self) -> None:
        """Look once more at what seemed damaged in segments of living writers."""
        for opened in self._reading.values():
            opened.reader.confirm_damage()

    def retry_unreadable(self) -> None:
        """Have another go at segments that could not be opened."""
        again, self._unreadable = self._unreadable, []
        self._added.extend(again)

    def refs(self) -> list[SegmentHandle]:
        """Return all segments that may have unsettled events, parked ones included."""
        opened = [*self._reading.values(), *self._drained.values()]
        closed = [ref for ref, _ in self._parked.values()]
        waiting = [*self._added, *self._queued, *self._unreadable]
        return [*waiting, *(each.ref for each in opened), *closed]

    def mark_writer_dead(self, writer: str) -> None:
        """Take note that a writer is dead, and its segments are final."""
        for ref in self.refs():
            ref.final = ref.final or _belongs_to(ref, writer)
        for opened in [*self._reading.values(), *self._drained.values()]:
            opened.reader.final = opened.ref.final

    def stamp(self, events: list[PendingEvent], now_ms: int) -> None:
        """Record an attempt of ``events``, before their first byte leaves.

        The first attempt's time stays: the server's window began no earlier.
        """
        packed: dict[tuple[int, int], bytes] = {}
        for event in events:
            first = event.first_attempt_ms or now_ms
            stamp = (first, event.attempts + 1)
            if stamp not in packed:
                packed[stamp] = pack_stamp(*stamp)
            event.segment.stamp(event, first, packed[stamp])

    def clear_attempt(self, event: PendingEvent, first_attempt_ms: int | None) -> None:
        """Take back what `stamp` wrote: the server certainly did not count it."""
        event.segment.reset_stamp(event, first_attempt_ms or 0)

    def settle(self, event: PendingEvent, state: FrameState) -> None:
        """Record the fate of ``event``."""
        reader = event.segment
        reader.settle(event, state)
        if not reader.iter_unsettled and reader.name in self._drained:
            self._update_placement(self._drained[reader.name])

    def parked_count(self) -> int:
        """Return how many events are parked."""
        closed = sum(count for _, count in self._parked.values())
        opened = [*self._reading.values(), *self._drained.values()]
        return closed + sum(each.reader.parked_count for each in opened)

    def unpark(self) -> None:
        """Make all parked events pending again."""
        for ref, _ in self._parked.values():
            self._added.append(ref)
        self._parked.clear()
        for opened in [*self._reading.values(), *self._drained.values()]:
            if opened.reader.parked_count:
                opened.reader.rewind()
                self._drained.pop(opened.ref.name, None)
                self._reading[opened.ref.name] = opened

    def segment_names(self) -> list[str]:
        """Return the segments that may hold unsettled events."""
        return [ref.name for ref in self._waiting()] + [*self._reading, *self._drained]

    def is_settled_up_to(self, targets: Mapping[str, float]) -> bool:
        """Return whether every event before ``targets`` has met its fate.

        Args:
            targets: offsets by segment; infinity: the segment's end.
        """
        waiting = {ref.name for ref in self._waiting()}
        return all(
            name not in waiting and self._is_settled(name, offset)
            for name, offset in targets.items()
        )

    def oldest_payloads(self) -> list[bytes]:
        """Return payloads of pending events, the oldest among them; none if closed."""
        if self._closed:
            return []  # the segments may have another owner by now
        opened = [*self._reading.values(), *self._drained.values()]
        heads = [each.reader.first_pending() for each in opened]
        # Of the segments that wait for their turn, the first that has anything: the
        # oldest of the others are younger.
        for ref in sorted([*self._queued, *self._added], key=lambda ref: ref.name):
            if (head := self._peek(ref)) is not None:
                heads.append(head)
                break
        return [head for head in heads if head is not None]

    def close(self) -> None:
        """Unmap everything; what is not settled stays on disk."""
        self._closed = True
        for opened in [*self._reading.values(), *self._drained.values()]:
            opened.reader.close()
        self._reading.clear()
        self._drained.clear()

    def _waiting(self) -> list[SegmentHandle]:
        """Return the segments that nothing has been read of, and something will be."""
        # What another process wrote, and nobody can read, is nothing to wait for.
        ours = [ref for ref in self._unreadable if not ref.recovered]
        return [*self._added, *self._queued, *ours]

    def _is_settled(self, name: str, offset: float) -> bool:
        if name in self._drained:
            return all(at >= offset for at in self._drained[name].reader.iter_unsettled)
        opened = self._reading.get(name)
        if opened is None:
            return True
        if opened.reader.cursor < offset:
            return False
        return all(at >= offset for at in opened.reader.iter_unsettled)

    def _open_in_turn(self) -> Iterator[_OpenSegment]:
        """Yield the segments that may have more, opening one at a time."""
        yield from list(self._reading.values())
        while self._added:
            self._queued.append(self._added.popleft())
        while self._queued:
            ref = self._queued.popleft()
            try:
                opened = self._open(ref)
            except OSError as error:  # it must not hold up the rest
                self._skip_unreadable(ref, error)
                continue
            self._reading[ref.name] = opened
            yield opened

    def _skip_unreadable(self, ref: SegmentHandle, error: OSError) -> None:
        """Leave out a segment that cannot be opened."""
        self._on_unreadable(ref.name, error)
        if isinstance(error, FileNotFoundError):
            self.damaged_count += ref.unsettled_count
        elif not isinstance(error, JournalError):
            self._unreadable.append(ref)

    def _open(self, ref: SegmentHandle) -> _OpenSegment:
        return _OpenSegment(ref, functools.partial(self._tail_of, ref.name))

    def _peek(self, ref: SegmentHandle) -> bytes | None:
        try:
            return self._open(ref).reader.first_pending()
        except OSError:  # reported when its turn comes
            return None

    def _update_placement(self, opened: _OpenSegment) -> None:
        """Put a segment where its state belongs."""
        reader, ref = opened.reader, opened.ref
        if not reader.exhausted:
            return
        self._reading.pop(ref.name, None)
        self._drained.pop(ref.name, None)
        if reader.iter_unsettled:
            self._drained[ref.name] = opened
            return
        reader.close()
        if reader.parked_count:
            ref.unsettled_when_closed = reader.parked_count
            self._parked[ref.name] = (ref, reader.parked_count)
        else:
            ref.delete()

    def _record_damage(
        self, ref: SegmentHandle, segment: SegmentReader, damage: CorruptRange
    ) -> None:
        damaged, lost = segment.extract_damage(damage)
        # A segment is read again for its parked events.
        if damage.offset in ref.damaged and lost <= ref.damaged:
            return
        new = lost - ref.damaged
        ref.damaged |= {damage.offset, *new}
        self.damaged_count += len(new)
        if ref.recovered:
            self.recovered_count += sum(offset >= ref.recovered_up_to for offset in new)
            ref.recovered_up_to = max(
                [ref.recovered_up_to, *(offset + 1 for offset in new)]
            )
        self._on_damage(ref.name, damage.offset, damaged)


def _belongs_to(ref: SegmentHandle, writer: str) -> bool:
    return ref.name.startswith(f"{writer}/")
