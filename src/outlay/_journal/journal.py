"""Store every pending event before its caller goes on, and hand it to the shipper."""

from __future__ import annotations

import enum
import math
import os
import threading
from typing import TYPE_CHECKING, Final

from outlay._journal import segments
from outlay._journal.agent_progress import AgentProgress
from outlay._journal.appender import Appender
from outlay._journal.dead_letters import DeadLetters, Kind
from outlay._journal.frames import FrameState
from outlay._journal.group_commit import GroupCommit
from outlay._journal.reader import JournalReader
from outlay._journal.recovery import ADOPT_SECONDS, Recovery
from outlay._journal.segment_opener import (
    Destination,
    JournalLimits,
    SegmentOpener,
    is_in_memory,
)
from outlay.errors import JournalFullError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from outlay._journal.folders import DestinationFolder, WriterFolder
    from outlay._journal.segment_reader import PendingEvent
    from outlay._journal.segments import SegmentWriter
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog

__all__ = ["Destination", "Journal", "JournalLimits", "ShippingRole"]

_MOVE_BATCH: Final = 1000  # events
_MOVE_BYTES: Final = 1024 * 1024

_FRAME_STATE_BY_KIND: Final[Mapping[Kind, FrameState]] = {
    "dead": FrameState.DEAD,
    "quarantined": FrameState.QUARANTINED,
}


class ShippingRole(enum.Enum):
    """The events that a process ships."""

    SELF = "its own, and those of dead writers"
    DELEGATED = "none: an agent ships what it tracks"
    AGENT = "those of all writers that do not ship for themselves"


class Journal:
    """Stores events on disk, or in bounded memory when no folder is writable.

    Thread safety: any thread may call `append`, `appended_count`, `adopt_orphans` and
    `is_shipped`. `scan` and the methods of `reader` need the shipper's lock.

    Attributes:
        append: Appends an event. It returns whether the event is durable, and raises
            JournalFullError if there is no room.
        reader: The events that this process ships.
        agent_progress: The outcomes of the events that it leaves to an agent.
    """

    def __init__(
        self,
        destination: Destination,
        limits: JournalLimits,
        *,
        journal_dir: Path | None,
        in_memory: bool,
        synced: bool = False,
        role: ShippingRole = ShippingRole.SELF,
        clock: Clock,
        log: RateLimitedLog,
    ) -> None:
        """Describe a journal. Nothing is written before the first event.

        Args:
            destination: Where its events go.
            limits: Its limits.
            journal_dir: The root folder. If None, the platform's state folder.
            in_memory: Whether to leave the disk alone.
            synced: Whether an append returns only when the disk has the event.
                Defaults to False.
            role: The events that this process ships. Defaults to its own.
            clock: The clock that dates segments and dead letters.
            log: The log for warnings.
        """
        self._synced = synced
        self._role = role
        self._clock = clock
        self._log = log
        self._opener = SegmentOpener(
            destination,
            limits,
            journal_dir=journal_dir,
            in_memory=in_memory,
            synced=synced,
            shipped_here=role is not ShippingRole.DELEGATED,
            discard=self._discard,
            clock=clock,
            log=log,
        )
        self._reset()

    def _reset(self) -> None:
        """Start without segments: at first, and in a forked child."""
        self._lock = threading.RLock()  # re-entrant, see Appender
        self._moved_count = 0  # guarded by _lock
        # The name of dead letters while there is no writer: processes share no file.
        self._adopter_name = f"adopted-{os.getpid()}-{os.urandom(4).hex()}"
        opener = self._opener
        self._appender = Appender(
            opener.open, opener.open_on_disk, publish=self._announce_segment
        )
        self._commits = GroupCommit(self._appender.sync_all, self._clock, self._log)
        self.append = self._append_synced if self._synced else self._appender.append
        self.agent_progress = AgentProgress()
        self.reader = JournalReader(
            on_damage=self._store_damaged,
            on_unreadable=self._report_unreadable,
            tail_of=self._appender.end_offset,
        )
        self._recovery = Recovery(
            self.reader,
            folder=lambda: opener.folder,
            own_writer=lambda: opener.writer,
            follows=self._role is ShippingRole.AGENT,
            on_room=opener.note_room,
            clock=self._clock,
            log=self._log,
        )

    def _append_synced(self, payload: bytes) -> bool:
        return self._appender.append_synced(payload, self._commits.commit)

    def _announce_segment(self, writer: SegmentWriter) -> None:
        handle = self._opener.take_handle(writer.name)
        handle.writer = writer
        if self._role is ShippingRole.DELEGATED and writer.durable:
            self.agent_progress.add(handle.name, self.folder.path / handle.name)
        else:
            self.reader.add(handle)

    def _discard(self, folder: WriterFolder, path: Path) -> None:
        self._recovery.discard(folder, path)

    # State.

    def appended_count(self) -> int:
        """Return the number of events that were appended since the start."""
        with self._lock:
            return self._appender.appended_count() - self._moved_count

    @property
    def folder(self) -> DestinationFolder:
        """The folder of this destination."""
        return self._opener.folder

    def prepared_folder(self) -> DestinationFolder | None:
        """Return this destination's folder, made if missing. None if there is no disk.

        Raises:
            OSError: It cannot be made.
        """
        return self._opener.prepared_folder()

    def journal_bytes(self) -> int:
        """Return the bytes of the folder's segments, of all processes."""
        if self._opener.in_memory:
            return 0
        try:
            return self.folder.used_bytes()
        except OSError:  # the next append reports it, too
            return 0

    def is_shipped(self) -> bool:
        """Return whether a process ships the events that this one tracks."""
        folder = self._opener.writer
        return folder is not None and folder.has_shipper()

    def held_folders(self) -> list[WriterFolder]:
        """Return the folders of which this process holds locks."""
        own = self._opener.writer
        held = self._recovery.held_folders()
        return held if own is None else [own, *held]

    # Other writers.

    def has_orphans(self) -> bool:
        """Return whether other writers, dead or alive, have folders here."""
        return not self._opener.in_memory and self._recovery.has_orphans()

    def adopt_orphans(self) -> int:
        """Adopt the folders of dead writers, and return how many."""
        return 0 if self._opener.in_memory else self._recovery.adopt_orphans()

    def scan(self) -> float:
        """Scan for segments of other processes; return seconds until the next scan."""
        self.leave_deleted_folder()
        return ADOPT_SECONDS if self._opener.in_memory else self._recovery.scan()

    def leave_deleted_folder(self) -> None:
        """Append to a new folder if this process's folder was deleted.

        Only this process can still deliver the events in a deleted file.
        """
        folder = self._opener.writer
        if folder is not None and folder.is_deleted():
            for handle in self.reader.handles():
                handle.keep_mapping()
            self._appender.seal_all()

    # Events in memory.

    def move_to_disk(self) -> None:
        """Move events that had to stay in memory to disk, where an agent finds them.

        For a process that ships nothing itself. Does nothing while there is no disk.
        """
        if not self._opener.uses_memory or not self._opener.disk_works:
            return
        with self._lock:
            self.reader.unpark()
            while events := self.reader.take(_MOVE_BATCH, _MOVE_BYTES):
                for event in events:
                    copied = self._opener.disk_works and self._copy(event)
                    # Parked: until the next call.
                    state = FrameState.DELIVERED if copied else FrameState.PARKED
                    self.reader.settle(event, state)

    def _copy(self, event: PendingEvent) -> bool:
        try:
            self._appender.append(event.payload)
        except JournalFullError:
            return False
        self._moved_count += 1  # it was counted when it was tracked
        return True

    def persist_memory(self) -> list[bytes]:
        """Write events that are in memory only to disk, at the end.

        Returns:
            The payloads for which there is no place. They no longer count as appended.
        """
        lost: list[bytes] = []
        for handle in self.reader.handles():
            if is_in_memory(handle):
                left = [*segments.iter_unsettled(handle.open_memory())]
                if left and not self._opener.persist(left):
                    lost += [frame.payload for frame in left]
        with self._lock:
            self._moved_count += len(lost)
        return lost

    # Shipping.

    def flush_targets(self) -> dict[str, float]:
        """Return the offsets up to which a flush waits, by segment."""
        # The names first: a flush does not wait for a segment that is opened later.
        names = self.reader.segment_names() + self.agent_progress.names()
        ends: dict[str, float] = {
            **self._appender.end_offsets(),
            **self._recovery.end_offsets(),
        }
        return {name: ends.get(name, math.inf) for name in names}

    def move_to_dead_letters(
        self, event: PendingEvent, kind: Kind, reason: str, message: str
    ) -> bool:
        """Move an event to the dead letters; return False if that failed.

        Then the event is parked instead. It stays in its segment, whole.
        """
        try:
            if not self._opener.in_memory:
                self._dead_letters().write(
                    kind,
                    reason,
                    message,
                    payload=event.payload,
                    first_attempt_ms=event.first_attempt_ms,
                    attempts=event.attempts,
                )
        except OSError as error:
            self._log.warn("dead letter", "cannot write a dead letter: %s", error)
            self.reader.settle(event, FrameState.PARKED)
            return False
        self.reader.settle(event, _FRAME_STATE_BY_KIND[kind])
        return True

    def _dead_letters(self) -> DeadLetters:
        writer = self._opener.writer
        name = self._adopter_name if writer is None else writer.name
        return DeadLetters(self.folder.dead_path, name, self._clock)

    def _store_damaged(self, segment: str, offset: int, corrupt: bytes) -> None:
        try:
            self._dead_letters().store_corrupt_bytes(segment, offset, corrupt)
        except OSError as error:
            self._log.warn("damage", "cannot store damaged bytes: %s", error)
        self._log.warn(
            "damaged",
            "segment %s is damaged at byte %d; the bytes are kept in %s",
            segment,
            offset,
            self.folder.dead_path,
        )

    def _report_unreadable(self, segment: str, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            self._log.warn(
                "gone",
                "segment %s was deleted; its undelivered events are lost, and counted "
                "as damaged",
                segment,
            )
            return
        self._log.warn("unreadable", "segment %s was left as it is: %s", segment, error)

    # The end.

    def seal(self) -> None:
        """Finish the open segments, so that they are deleted once settled."""
        self._appender.seal_all()

    def close(self) -> None:
        """Stop using all files. Pending events stay for the next process."""
        self.reader.close()
        self._recovery.close()
        self._opener.release()

    def close_when_idle(self) -> None:
        """Do the same as `close` in a process that goes on.

        The folder stays while appends are under way in it. An adopter could read its
        segments to their end before such an append had reached its own. The end of the
        process frees it, or another call.
        """
        self.seal()
        self.reader.close()
        self._recovery.close()
        self._opener.release(is_busy=lambda: self._appender.has_open_segments)

    def reset_after_fork(self) -> None:
        """Start without segments in a forked child. The parent owns the present ones.

        The child's copies of the locks are closed. Else they would keep the parent's
        folder locked after the parent's death. The parent's own stay held.
        """
        for folder in self.held_folders():
            folder.close()
        self._opener.reset()
        self._reset()
