"""Read pending events from one segment, and write their states."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from outlay._journal import frames
from outlay._journal.frames import (
    SEGMENT_HEADER_BYTES,
    SETTLED,
    STATE_AT,
    CorruptRange,
    Frame,
    FrameState,
)
from outlay._model.events import add_key, event_time_ms

if TYPE_CHECKING:
    import mmap

OnDamage: TypeAlias = Callable[["SegmentReader", CorruptRange], None]


class PendingEvent:
    """An event on its way from the journal to the server.

    Attributes:
        payload: The request body, byte for byte the same at each reading.
        first_attempt_ms: The wall time of the first attempt whose outcome is not known
            to be a refusal, in ms since 1970. 0 if there is none. None if the journal
            lost it.
        in_doubt_since: The time of that attempt, in monotonic seconds. None if this
            process has not sent the event yet.
        attempts: The number of attempts, by this process and earlier ones.
        event_failures: The attempts by this process that failed for this event alone.
        server_failures: The attempts by this process that failed with the whole server.
        refusals: The refusals that may be for the text of this event alone.
        successes_before: The planner's count of successes that prove nothing about the
            latest refusal of this event. None if it was not refused.
    """

    __slots__ = (
        "attempts",
        "event_failures",
        "first_attempt_ms",
        "in_doubt_since",
        "offset",
        "payload",
        "refusals",
        "segment",
        "server_failures",
        "successes_before",
    )

    def __init__(self, segment: SegmentReader, frame: Frame) -> None:
        self.segment = segment
        self.offset = frame.offset
        self.payload = add_key(frame.payload)
        self.first_attempt_ms, self.attempts = frame.stamp
        self.in_doubt_since: float | None = None
        self.event_failures = 0
        self.server_failures = 0
        self.refusals = 0
        self.successes_before: int | None = None


class SegmentReader:
    """Reads pending events from one segment, and writes their states.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(
        self,
        name: str,
        memory: mmap.mmap,
        *,
        final: bool,
        foreign: bool = False,
        copied: bool = False,
        tail: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Read from the start.

        Args:
            name: The name, which is unique in the destination and sorts by age.
            memory: The mapped segment.
            final: Whether its writer is dead. The caller sets it when the writer dies.
            foreign: Whether the writer is another process. Defaults to False.
            copied: Whether the file is a copy, of which the original may have been
                shipped. Defaults to False.
            tail: A function that returns the offset of the next append, if the writer
                is of this process and not done. Defaults to an unknown offset.
        """
        self.name = name
        self.final = final
        self.unsettled: dict[int, PendingEvent] = {}
        self._memory = memory
        self._allocated = frames.declared_length(memory) or len(memory)
        self._foreign = foreign
        self._copied = copied
        self._tail = tail
        self._published = 0  # the writer has published everything before this
        self._suspected: int | None = None  # offset of apparent damage
        self._confirmed: int | None = None
        self._reported: int | None = None
        self._cursor = SEGMENT_HEADER_BYTES
        self._at_end = False
        self._parked: set[int] = set()  # offsets

    @property
    def parked_count(self) -> int:
        """The number of parked events."""
        return len(self._parked)

    @property
    def cursor(self) -> int:
        """The offset up to which everything has been read."""
        return self._cursor

    @property
    def exhausted(self) -> bool:
        """Whether all that the writer will ever append has been read."""
        return self._at_end

    def take(self, on_damage: OnDamage) -> PendingEvent | None:
        """Return the next pending event, or None if there is none (yet).

        Args:
            on_damage: A function that is called with each range that is skipped.
        """
        while not self._at_end:
            # Before the read. Else an append between a read that finds nothing and a
            # look at the flag would be overlooked.
            final = self.final or frames.is_sealed(self._memory)
            found = self._read(final=final)
            if found is None:
                self._at_end = final
                if not final:
                    self._check_tail(on_damage)
                return None
            if isinstance(found, CorruptRange) and self._may_be_in_flight(
                found, final=final
            ):
                return None
            self._cursor = found.end
            if isinstance(found, CorruptRange):
                on_damage(self, found)
            elif found.state not in SETTLED and found.offset not in self.unsettled:
                return self._hand_out(found)
        return None

    def _hand_out(self, frame: Frame) -> PendingEvent:
        event = PendingEvent(self, frame)
        if self._copied and event.first_attempt_ms == 0:
            # Another process may have sent it from the original after the copy was
            # made. The earliest time is that of its tracking.
            event.first_attempt_ms = event_time_ms(event.payload)
        self.unsettled[event.offset] = event
        self._parked.discard(event.offset)
        return event

    def _read(self, *, final: bool) -> Frame | CorruptRange | None:
        at = self._cursor
        present, declared = self._present(), self._declared_end()
        found = frames.read_frame(self._memory, at, min(present, declared), final=final)
        if final:
            return self._or_missing(found, present, declared)
        if found is not None:
            return found
        # If the last frame has gone bad, no whole one follows it. Only the writer can
        # tell that it is not on its way.
        tail = self._tail()
        if tail is None or tail <= at:
            return None
        self._published = tail
        # Once more: it may have been published since. Of zeros, nothing is left to see.
        found = frames.read_frame(self._memory, at, min(present, tail), final=True)
        return found or CorruptRange(at, tail)

    def _or_missing(
        self, found: Frame | CorruptRange | None, present: int, declared: int
    ) -> Frame | CorruptRange | None:
        """Return what was found, or the damage if the end of a segment is missing."""
        at = self._cursor
        if isinstance(found, Frame) or at >= declared:
            return found
        is_cut = present < declared and (found is None or found.end >= present)
        # The bytes of frames are gone, for the writer sealed it behind the last one.
        is_wiped = found is None and self._sealed_end() is not None
        if is_wiped:
            self._published = declared
        return CorruptRange(at, declared) if is_cut or is_wiped else found

    def _declared_end(self) -> int:
        """Return where the segment ends according to its header."""
        return self._sealed_end() or self._allocated

    def _sealed_end(self) -> int | None:
        memory = self._memory
        return frames.declared_length(memory) if frames.is_sealed(memory) else None

    def _present(self) -> int:
        """Return how many bytes of it exist.

        Reading past the end of a file that was truncated would kill the process.
        """
        try:
            return min(self._memory.size(), len(self._memory))
        except OSError:  # in memory
            return len(self._memory)

    def _check_tail(self, on_damage: OnDamage) -> None:
        """Report the last frame of another process's segment if it has gone bad.

        Its end is unknown, so reading goes on at the next whole frame.
        """
        damage = CorruptRange(self._cursor, self._present())
        if (
            self._foreign
            and damage.offset + frames.FRAME_HEADER_BYTES <= damage.end
            and frames.is_published(self._memory, damage.offset)
            and not self._may_be_in_flight(damage, final=False)
            and self._reported != damage.offset
        ):
            self._reported = damage.offset
            on_damage(self, damage)

    def confirm_damage(self) -> None:
        """Treat apparent damage as damage, if it still looks so at the next reading."""
        self._confirmed = self._suspected

    def _may_be_in_flight(self, damage: CorruptRange, *, final: bool) -> bool:
        """Return whether ``damage`` may be a frame that is still on its way.

        Some processors, such as ARM's, let another one see stores out of order for a
        moment: a state before its payload, or a frame before the one in front of it.
        In one process the interpreter's lock keeps the order.
        """
        self._suspected = damage.offset
        return self._foreign and not final and damage.offset != self._confirmed

    def first_pending(self) -> bytes | None:
        """Return the oldest pending event's payload, or None. Moves nothing on."""
        if self.unsettled:
            return self.unsettled[min(self.unsettled)].payload
        at, limit = self._cursor, min(self._present(), self._declared_end())
        while found := frames.read_frame(self._memory, at, limit, final=False):
            if isinstance(found, Frame) and found.state not in SETTLED:
                return found.payload
            at = found.end
        return None

    def extract_damage(self, damage: CorruptRange) -> tuple[bytes, set[int]]:
        """Return the bytes of ``damage``, and the offsets of the events lost in it."""
        memory, present = self._memory, self._present()
        offset, end = damage.offset, min(damage.end, present)
        lost = {*frames.lost_event_offsets(memory, CorruptRange(offset, end))}
        if damage.end > present:
            # The file was cut, and the number of missing events is unknown. All that is
            # left of it helps a person to find out.
            lost |= {at for at in self._parked if at >= present} or {offset}
            offset = 0
        elif end <= self._published and not frames.is_published(memory, offset):
            lost.add(offset)  # it had a state
        # An event that is being sent was whole when it was read.
        lost -= self.unsettled.keys()
        self._parked -= lost
        return memory[offset:end], lost

    def stamp(self, event: PendingEvent, first_attempt_ms: int, packed: bytes) -> None:
        """Record an attempt of ``event``, before its first byte leaves."""
        event.first_attempt_ms = first_attempt_ms
        event.attempts += 1
        self._write_stamp(event, packed)

    def reset_stamp(self, event: PendingEvent, first_attempt_ms: int) -> None:
        """Take the clock of ``event`` back after a definite refusal."""
        event.first_attempt_ms = first_attempt_ms
        self._write_stamp(event, frames.pack_stamp(first_attempt_ms, event.attempts))

    def _write_stamp(self, event: PendingEvent, packed: bytes) -> None:
        if event.offset < self._present():
            frames.write_stamp(self._memory, event.offset, packed)

    def settle(self, event: PendingEvent, state: FrameState) -> None:
        """Write the state of ``event``. It is not read again, unless it is parked."""
        if event.offset < self._present():
            self._memory[event.offset + STATE_AT] = state
        del self.unsettled[event.offset]
        if state is FrameState.PARKED:
            self._parked.add(event.offset)

    def rewind(self) -> None:
        """Read again from the start, for the parked events."""
        self._cursor = SEGMENT_HEADER_BYTES
        self._at_end = False

    def close(self) -> None:
        """Stop using the segment, which unmaps a file.

        The mapping is not closed. A segment in memory is read again if events in it are
        parked. A writer may also be at its last append.
        """
        del self._memory
