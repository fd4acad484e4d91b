"""Read the next events of all segments, and write their states: the shipper's side."""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING

from outlay._journal.frames import FrameState, pack_stamp
from outlay._journal.segment_reader import PendingEvent, SegmentReader
from outlay.errors import JournalError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from outlay._journal.frames import CorruptRange
    from outlay._journal.segments import SegmentWriter


class SegmentHandle:
    """A segment to be read, which is opened only when its turn comes.

    Attributes:
        name: The name, which is unique in the destination and sorts by age.
        recovered: Whether another process wrote it.
        final: Whether that process is dead.
        copied: Whether the file is a copy, such as one restored from a backup.
        recovered_up_to: Events before this offset were counted as recovered.
        damaged: The offsets of damage that was reported, and of the events lost in it.
        writer: The writer of it in this process, if it is of this process.
        unsettled_when_closed: The number of unsettled events when it was closed. None
            if it never was.
    """

    def __init__(
        self,
        name: str,
        open_memory: Callable[[], mmap.mmap],
        delete: Callable[[], None],
        *,
        recovered: bool,
        final: bool,
        copied: bool = False,
    ) -> None:
        self.name = name
        self.recovered = recovered
        self.final = final
        self.copied = copied
        self.recovered_up_to = 0
        self.damaged: set[int] = set()
        self.writer: SegmentWriter | None = None
        self.unsettled_when_closed: int | None = None
        self.open_memory = open_memory
        self.delete = delete

    @property
    def unsettled_count(self) -> int:
        """The number of appended events that are not settled, as far as is known."""
        if self.unsettled_when_closed is not None:
            return self.unsettled_when_closed
        return 0 if self.writer is None else self.writer.frame_count

    def open(self) -> mmap.mmap:
        """Return the segment, mapped.

        A segment that this process still writes is mapped already. It is there even if
        the file was deleted, or the process has no descriptor left to open it.

        Raises:
            OSError: It cannot be opened. A JournalError, if a newer outlay wrote it.
        """
        mapped = self._mapped
        return self.open_memory() if mapped is None else mapped

    def keep_mapping(self) -> None:
        """Keep what is mapped until it has been read, because the file is gone."""
        mapped = self._mapped
        if mapped is not None:
            self.open_memory = lambda: mapped

    def is_of(self, writer: str) -> bool:
        """Return whether it lies in the folder of ``writer``."""
        return self.name.startswith(f"{writer}/")

    @property
    def _mapped(self) -> mmap.mmap | None:
        return None if self.writer is None else self.writer.mapped


class _OpenSegment:
    """A segment that is being read."""

    def __init__(self, handle: SegmentHandle, tail: Callable[[], int | None]) -> None:
        self.handle = handle
        self.reader = SegmentReader(
            handle.name,
            handle.open(),
            final=handle.final,
            foreign=handle.recovered,
            copied=handle.copied,
            tail=tail,
        )


class JournalReader:
    """Reads pending events, oldest segments first, and writes their states.

    A segment is deleted when all of its events are settled. Parked events pin theirs.

    Thread safety: any thread may call `add`. For all else the caller holds the
    shipper's lock.

    Attributes:
        taken_count: The number of events that were taken.
        recovered_count: The number of these, and of the damaged ones, of other writers.
        damaged_count: The number of events that were damaged.
        backlog: The segments of dead writers that wait to be adopted.
    """

    def __init__(
        self,
        *,
        on_damage: Callable[[str, int, bytes], None],
        on_unreadable: Callable[[str, OSError], None],
        tail_of: Callable[[str], int | None],
    ) -> None:
        """Read the segments that `add` gets.

        Args:
            on_damage: A function that is called with the segment, the offset and the
                bytes that are no frame.
            on_unreadable: A function that is called with a segment that cannot be read,
                and the error.
            tail_of: A function that returns the offset at which this process will
                append to a segment, or None if it does not append to it (any more).
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
        self.backlog: frozenset[str] = frozenset()
        self.taken_count = 0
        self.recovered_count = 0
        self.damaged_count = 0
        self._closed = False

    def add(self, handle: SegmentHandle) -> None:
        """Queue a segment for reading."""
        self._added.append(handle)

    def take(self, max_events: int, max_bytes: int) -> list[PendingEvent]:
        """Return pending events.

        Args:
            max_events: The most events.
            max_bytes: About the most bytes of all payloads together.
        """
        taken: list[PendingEvent] = []
        room = max_bytes
        for opened in self._open_in_turn():
            handle = opened.handle
            on_damage = functools.partial(self._record_damage, handle)
            while len(taken) < max_events and room > 0:
                event = opened.reader.take(on_damage)
                if event is None:
                    break
                if handle.recovered and event.offset >= handle.recovered_up_to:
                    handle.recovered_up_to = event.offset + 1
                    self.recovered_count += 1
                room -= len(event.payload)
                taken.append(event)
            self._update_placement(opened)
            if len(taken) >= max_events or room <= 0:
                break
        self.taken_count += len(taken)
        return taken

    def confirm_damage(self) -> None:
        """Treat apparent damage in segments of living writers as damage from now on."""
        for opened in self._reading.values():
            opened.reader.confirm_damage()

    def retry_unreadable(self) -> None:
        """Queue the segments again that could not be opened."""
        again, self._unreadable = self._unreadable, []
        self._added.extend(again)

    def handles(self) -> list[SegmentHandle]:
        """Return all segments that may have unsettled events, parked ones included."""
        closed = [handle for handle, _ in self._parked.values()]
        waiting = [*self._added, *self._queued, *self._unreadable]
        return [*waiting, *(each.handle for each in self._opened()), *closed]

    def mark_writer_dead(self, writer: str) -> None:
        """Note that a writer is dead, so that its segments are final."""
        for handle in self.handles():
            handle.final = handle.final or handle.is_of(writer)
        for opened in self._opened():
            opened.reader.final = opened.handle.final

    def release_parked(self, writer: str) -> bool:
        """Forget the segments of a writer if nothing but parked events is left in them.

        Returns:
            Whether that was so. Its events count as found again when they are read
            again, by this process or another one.
        """
        parked = {
            name: count
            for name, (handle, count) in self._parked.items()
            if handle.is_of(writer)
        }
        if sum(handle.is_of(writer) for handle in self.handles()) > len(parked):
            return False
        for name, count in parked.items():
            del self._parked[name]
            self.recovered_count -= count
        return True

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
        """Take back the stamp of an attempt that the server certainly did not count."""
        event.segment.reset_stamp(event, first_attempt_ms or 0)

    def settle(self, event: PendingEvent, state: FrameState) -> None:
        """Write the state of ``event``."""
        reader = event.segment
        reader.settle(event, state)
        if not reader.unsettled and reader.name in self._drained:
            self._update_placement(self._drained[reader.name])

    def parked_count(self) -> int:
        """Return the number of parked events."""
        closed = sum(count for _, count in self._parked.values())
        return closed + sum(each.reader.parked_count for each in self._opened())

    def unpark(self) -> None:
        """Make all parked events pending again."""
        for handle, _ in self._parked.values():
            self._added.append(handle)
        self._parked.clear()
        for opened in self._opened():
            if opened.reader.parked_count:
                opened.reader.rewind()
                self._drained.pop(opened.handle.name, None)
                self._reading[opened.handle.name] = opened

    def segment_names(self) -> list[str]:
        """Return the segments that may hold unsettled events."""
        return [*self._waiting(), *self._reading, *self._drained]

    def is_settled_up_to(self, targets: Mapping[str, float]) -> bool:
        """Return whether every event before ``targets`` is settled.

        Args:
            targets: Offsets by segment. Infinity stands for the segment's end.
        """
        waiting = self._waiting()
        return all(
            name not in waiting and self._is_settled(name, offset)
            for name, offset in targets.items()
        )

    def oldest_payloads(self) -> list[bytes]:
        """Return payloads of pending events, the oldest among them. None if closed."""
        if self._closed:
            return []  # another process may own the segments
        heads = [each.reader.first_pending() for each in self._opened()]
        # Of the segments that wait for their turn, the first that has an event. The
        # oldest events of the others are younger.
        for handle in _by_name([*self._queued, *self._added]):
            if (head := self._peek(handle)) is not None:
                heads.append(head)
                break
        return [head for head in heads if head is not None]

    def close(self) -> None:
        """Unmap everything. What is not settled stays on disk."""
        self._closed = True
        for opened in self._opened():
            opened.reader.close()
        self._reading.clear()
        self._drained.clear()

    def _opened(self) -> list[_OpenSegment]:
        return [*self._reading.values(), *self._drained.values()]

    def _waiting(self) -> set[str]:
        """Return the segments of which nothing has been read yet, but will be."""
        # An unreadable segment of another process is not worth waiting for.
        own = [handle for handle in self._unreadable if not handle.recovered]
        names = {handle.name for handle in (*self._added, *self._queued, *own)}
        return names | self.backlog

    def _is_settled(self, name: str, offset: float) -> bool:
        opened = self._drained.get(name)
        if opened is None:
            opened = self._reading.get(name)
            if opened is None:
                return True
            if opened.reader.cursor < offset:
                return False
        return all(at >= offset for at in opened.reader.unsettled)

    def _open_in_turn(self) -> Iterator[_OpenSegment]:
        """Yield the segments that may have more, opening one at a time."""
        yield from list(self._reading.values())
        while self._added:
            self._queued.append(self._added.popleft())
        while self._queued:
            handle = self._queued.popleft()
            try:
                opened = self._open(handle)
            except OSError as error:  # it must not hold up the rest
                self._skip_unreadable(handle, error)
                continue
            self._reading[handle.name] = opened
            yield opened

    def _skip_unreadable(self, handle: SegmentHandle, error: OSError) -> None:
        """Leave out a segment that cannot be opened."""
        self._on_unreadable(handle.name, error)
        if isinstance(error, FileNotFoundError):
            self.damaged_count += handle.unsettled_count
        elif not isinstance(error, JournalError):
            self._unreadable.append(handle)

    def _open(self, handle: SegmentHandle) -> _OpenSegment:
        return _OpenSegment(handle, functools.partial(self._tail_of, handle.name))

    def _peek(self, handle: SegmentHandle) -> bytes | None:
        try:
            return self._open(handle).reader.first_pending()
        except OSError:  # reported when its turn comes
            return None

    def _update_placement(self, opened: _OpenSegment) -> None:
        """Put a segment where its state belongs."""
        reader, handle = opened.reader, opened.handle
        if not reader.exhausted:
            return
        self._reading.pop(handle.name, None)
        self._drained.pop(handle.name, None)
        if reader.unsettled:
            self._drained[handle.name] = opened
            return
        reader.close()
        if reader.parked_count:
            handle.unsettled_when_closed = reader.parked_count
            self._parked[handle.name] = (handle, reader.parked_count)
        else:
            handle.delete()

    def _record_damage(
        self, handle: SegmentHandle, segment: SegmentReader, damage: CorruptRange
    ) -> None:
        corrupt, lost = segment.extract_damage(damage)
        # A segment is read again for its parked events.
        if damage.offset in handle.damaged and lost <= handle.damaged:
            return
        new = lost - handle.damaged
        handle.damaged |= {damage.offset, *new}
        self.damaged_count += len(new)
        if handle.recovered:
            known = handle.recovered_up_to
            self.recovered_count += sum(offset >= known for offset in new)
            handle.recovered_up_to = max([known, *(offset + 1 for offset in new)])
        self._on_damage(handle.name, damage.offset, corrupt)


def _by_name(handles: Iterable[SegmentHandle]) -> list[SegmentHandle]:
    return sorted(handles, key=lambda handle: handle.name)
