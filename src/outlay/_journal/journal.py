"""The journal: every pending event, kept before the caller is told that it is."""

from __future__ import annotations

import enum
import errno
import functools
import itertools
import math
import os
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._journal import agent_progress as fates
from outlay._journal import folders, segments
from outlay._journal import recovery as following
from outlay._journal.agent_progress import AgentProgress
from outlay._journal.appender import Appender
from outlay._journal.dead_letters import DeadLetters, Kind
from outlay._journal.folders import DestinationFolder, WriterFolder
from outlay._journal.frames import (
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    FrameState,
    align_up,
)
from outlay._journal.group_commit import GroupCommit
from outlay._journal.reader import JournalReader, SegmentHandle
from outlay._journal.recovery import FollowedWriter, PollInterval
from outlay._journal.segments import PendingEvent, SegmentWriter, SyncFile
from outlay.errors import JournalFullError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from outlay._journal.frames import Frame
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._model.settings import Settings

ADOPT_SECONDS: Final = 30.0
"""Between a client's looks for dead writers' events."""

_WRITER: Final = "writer"
_MEMORY_SEGMENT_BYTES: Final = 1024 * 1024
_MOVE_BATCH: Final = 1000  # events
_IN_MEMORY: Final = "memory/"  # in front of such segments' names
_DISK_RETRY_SECONDS: Final = 1.0  # a dead or full disk must not cost each call
_NOT_OURS_ERRNOS: Final = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""What a platform's state folder that is not for us fails with; a full disk is not."""

_FRAME_STATE_BY_KIND: Final[Mapping[Kind, FrameState]] = {
    "dead": FrameState.DEAD,
    "quarantined": FrameState.QUARANTINED,
}


class ShippingRole(enum.Enum):
    """Whose events a process ships."""

    SELF = "its own, and those of dead writers"
    DELEGATED = "none: an agent ships what it tracks"
    AGENT = "those of all writers that do not ship for themselves: the agent's"


class Destination(NamedTuple):
    """Where events go; events of two destinations never meet in one folder."""

    base_url: str
    namespace: str | None
    credential: str

    @classmethod
    def of(cls, settings: Settings) -> Destination:
        """Return the destination that ``settings`` make."""
        key = settings.api_key
        credential = key.get_secret_value() if key else ""
        return cls(settings.base_url, settings.namespace, credential)


class JournalLimits(NamedTuple):
    """Bounds of a journal, in bytes."""

    segment_bytes: int
    max_journal_bytes: int
    max_memory_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> JournalLimits:
        """Return the limits that ``settings`` set."""
        return cls(
            settings.segment_bytes,
            settings.max_journal_bytes,
            settings.max_memory_bytes,
        )


class _FullNotice(NamedTuple):
    """The folder had reached its limit at ``at``, in monotonic seconds."""

    at: float
    message: str

    def still_holds(self, now: float) -> bool:
        """Return whether it is too early to measure the folder again."""
        return now - self.at < _DISK_RETRY_SECONDS


class Journal:
    """Keeps events on disk, or in bounded memory when no folder is writable.

    Thread safety: `append`, `appended_count`, `adopt_orphans` and `is_shipped` may be
    called by any thread; `look` and what goes through `reader` need the shipper's lock.

    Attributes:
        reader: the events that this process ships.
        fates: what became of the events that it leaves to an agent.
    """

    def __init__(
        self,
        destination: Destination,
        limits: JournalLimits,
        *,
        journal_dir: Path | None,
        in_memory: bool,
        synced: bool = False,
        duty: ShippingRole = ShippingRole.SELF,
        clock: Clock,
        notices: RateLimitedLog,
    ) -> None:
        """Describe a journal; nothing is written before the first event.

        Args:
            destination: where its events go.
            limits: its bounds.
            journal_dir: the root folder; None: the platform's state folder.
            in_memory: never touch the disk.
            synced: an append returns only when the disk has the event.
            duty: whose events this process ships.
            clock: dates segments and dead letters.
            notices: where trouble is reported.
        """
        self._destination = destination
        self._limits = limits
        self._in_memory = in_memory
        self._synced = synced
        self._duty = duty
        self._clock = clock
        self._notices = notices
        self._journal_dir = journal_dir or folders.default_journal_dir()
        self._digest = folders.destination_name(*destination)
        self._may_move = journal_dir is None
        self._reset()

    def _reset(self) -> None:
        """Start without segments: at first, and in a forked child."""
        self._lock = threading.RLock()  # re-entrant, see Appender
        self._owned: dict[str, WriterFolder] = {}  # guarded by _lock; one, or none yet
        self._adopted: dict[str, WriterFolder] = {}  # guarded by _lock
        self._followed: dict[str, FollowedWriter] = {}  # the same; writers that live
        self._undeleted: dict[Path, WriterFolder] = {}  # settled segments
        self._poll_interval = PollInterval()
        self._taken_before = 0
        self._memory_bytes = 0  # guarded by _lock
        self._disk_failed_at: float | None = None
        self._full: _FullNotice | None = None
        # Of dead letters, while there is no writer: no two processes share a file.
        self._adopter_name = f"adopted-{os.getpid()}-{os.urandom(4).hex()}"
        self._numbers = itertools.count(1)
        self._refs: dict[str, SegmentHandle] = {}  # of writers not published yet
        self._appender = Appender(
            self._open_segment,
            self._open_durable,
            publish=self._announce_segment,
        )
        self._commits = GroupCommit(self._appender.sync_all, self._clock, self._notices)
        self.append = self._append_synced if self._synced else self._appender.append
        self._moved_count = 0  # guarded by _lock
        self.fates = AgentProgress()
        self.reader = JournalReader(
            on_damage=self._keep_damaged,
            on_unreadable=self._report_unreadable,
            tail_of=self._appender.end_offset,
        )

    def appended_count(self) -> int:
        """Return how many events were kept since the start."""
        with self._lock:
            return self._appender.appended_count() - self._moved_count

    @property
    def folder(self) -> DestinationFolder:
        """The folder that this destination's events are kept in."""
        return DestinationFolder(self._journal_dir / self._digest)

    def has_orphans(self) -> bool:
        """Return whether other writers, dead or alive, have folders here."""
        return not self._in_memory and bool(self._writers())

    def adopt_orphans(self) -> int:
        """Take over the events of dead writers; return how many writers.

        The locks decide, so of several adopters only one gets each folder.
        """
        if self._in_memory:
            return 0
        adopted = 0
        for path in self._writers():
            try:
                adopted += self._adopt(path)
            except OSError as error:  # it must not hold up the others
                self._notices.warn("adopt", "cannot adopt %s: %s", path, error)
        return adopted

    def _writers(self) -> list[Path]:
        try:
            return list(self.folder.writers())
        except OSError as error:
            self._notices.warn(
                "writers", "cannot look for events of earlier processes: %s", error
            )
            return []

    def _adopt(self, path: Path) -> bool:
        take_over = WriterFolder.adopt
        if self._duty is ShippingRole.AGENT:
            take_over = WriterFolder.follow
        with self._lock:
            owned = self._writer is not None and self._writer.name == path.name
            if owned or path.name in self._adopted or path.name in self._followed:
                return False
            folder = take_over(path)
            if folder is None:
                return False
            if not folder.is_owned:
                self._followed[path.name] = FollowedWriter(folder)
                return False
            self._adopted[path.name] = folder
        return self._queue_segments(folder, folder.segment_paths())

    def _queue_segments(self, folder: WriterFolder, paths: Iterable[Path]) -> bool:
        """Have the reader read segments of another writer; return if any are left."""
        for path in paths:
            self.reader.add(self._file_ref(folder, path, recovered=True))
        left = bool(folder.segment_paths())
        if folder.is_owned and not left:
            self._remove_adopted(folder)
        return left

    def scan(self) -> float:
        """Look for what others left or wrote; return seconds until the next look."""
        for path, folder in [*self._undeleted.items()]:
            self._delete(folder, path)
        self.reader.retry_unreadable()
        self.leave_deleted_folder()
        known = len(self._followed)
        adopted = self.adopt_orphans()
        if self._duty is not ShippingRole.AGENT:
            return ADOPT_SECONDS
        for followed in list(self._followed.values()):
            try:
                self._follow(followed)
            except OSError as error:  # it must not hold up the others
                self._notices.warn(
                    "follow", "cannot read in %s: %s", followed.folder.path, error
                )
        self.reader.confirm_damage()
        taken, self._taken_before = self._taken_before, self.reader.taken_count
        found = adopted or taken != self._taken_before or known != len(self._followed)
        return self._poll_interval.next(found=bool(found))

    def leave_deleted_folder(self) -> None:
        """Append to a new folder if somebody has deleted ours.

        What a deleted file holds is delivered by this process or by nobody.
        """
        folder = self._writer
        if folder is not None and folder.is_deleted():
            for ref in self.reader.refs():
                ref.keep_mapping()
            self._appender.seal_all()

    def _follow(self, followed: FollowedWriter) -> None:
        folder = followed.folder
        if not folder.try_own():
            self._queue_segments(folder, followed.new_segments())
            return
        with self._lock:
            del self._followed[folder.name]
            self._adopted[folder.name] = folder
        self.reader.mark_writer_dead(folder.name)
        self._queue_segments(folder, followed.new_segments())

    def is_shipped(self) -> bool:
        """Return whether some process ships what this one tracks."""
        folder = self._writer
        return folder is not None and folder.has_shipper()

    def move_to_disk(self) -> None:
        """Move events that had to be kept in memory to where an agent finds them.

        For a process that ships nothing itself. Does nothing while there is no disk.
        """
        if not self._memory_bytes or self._disk_failed_at is not None:
            return
        with self._lock:
            self.reader.unpark()
            while events := self.reader.take(_MOVE_BATCH, _MEMORY_SEGMENT_BYTES):
                for event in events:
                    copied = self._disk_failed_at is None and self._copy(event)
                    # Parked: until the next call.
                    fate = FrameState.DELIVERED if copied else FrameState.PARKED
                    self.reader.settle(event, fate)

    def _copy(self, event: PendingEvent) -> bool:
        try:
            self._appender.append(event.payload)
        except JournalFullError:
            return False
        self._moved_count += 1  # it was counted when it was tracked
        return True

    def persist_memory(self) -> list[bytes]:
        """Bring what is in memory only to the disk: at the end, when nobody ships.

        Returns:
            The payloads that there is no place for. They are not counted as appended
            any more.
        """
        lost: list[bytes] = []
        for ref in self.reader.refs():
            if ref.name.startswith(_IN_MEMORY):
                left = [*segments.iter_unsettled(ref.open_memory())]
                if left and not self._persist(left):
                    lost += [frame.payload for frame in left]
        with self._lock:
            self._moved_count += len(lost)
        return lost

    def _persist(self, left: list[Frame]) -> bool:
        """Write events to a segment of their own; return whether that worked."""
        if self._in_memory:
            return False
        # Hardly ever needed, and not for nothing in all applications.
        from outlay._journal.admin import edit as intervention

        payloads = [frame.payload for frame in left]
        first = {frame.payload: frame.stamp.first_attempt_ms or None for frame in left}
        size = intervention.segment_size(payloads)
        try:
            path = self._writer_folder().segment_path(next(self._numbers))
            self.folder.check_room(size, self._limits.max_journal_bytes)
            intervention.write_segment_atomically(
                path, payloads, size, self._clock.now_ms(), attempted=first
            )
        except OSError as error:
            self._notices.warn("save", "cannot save events to disk: %s", error)
            return False
        return True

    def journal_bytes(self) -> int:
        """Return the size of the folder's segments, of all processes; 0 without one."""
        if self._in_memory:
            return 0
        try:
            return self.folder.used_bytes()
        except OSError:  # what appends reports it, too
            return 0

    def flush_targets(self) -> dict[str, float]:
        """Return up to where the journal must be settled for a flush."""
        # The names first: a segment opened after them is not waited for.
        names = self.reader.segment_names() + self.fates.names()
        tails: dict[str, float] = {
            **self._appender.end_offsets(),
            **following.end_offsets_of(self._followed.values()),
        }
        return {name: tails.get(name, math.inf) for name in names}

    def move_to_dead_letters(
        self, event: PendingEvent, kind: Kind, reason: str, message: str
    ) -> bool:
        """Move an event to the dead letters; return False if that failed.

        Then the event is parked instead: it stays in its segment, whole.
        """
        letters = DeadLetters(self.folder.dead_path, self._writer_name(), self._clock)
        try:
            if not self._in_memory:
                letters.write(
                    kind,
                    reason,
                    message,
                    payload=event.payload,
                    first_attempt_ms=event.first_attempt_ms,
                    attempts=event.attempts,
                )
        except OSError as error:
            self._notices.warn("dead letter", "cannot write a dead letter: %s", error)
            self.reader.settle(event, FrameState.PARKED)
            return False
        self.reader.settle(event, _FRAME_STATE_BY_KIND[kind])
        return True

    def seal(self) -> None:
        """Finish the open segments, so that they are deleted once settled."""
        self._appender.seal_all()

    def close(self) -> None:
        """Let go of all files; what is pending stays for the next process."""
        self.reader.close()
        with self._lock:
            owned = [*self._adopted.values()]
            owned += [followed.folder for followed in self._followed.values()]
            if self._writer is not None:
                owned.append(self._writer)
            self._owned.clear()
            self._adopted = {}
            self._followed = {}
        for folder in owned:
            folder.release()

    def close_when_idle(self) -> None:
        """Do what `close` does in a process that goes on.

        A folder is kept while appends are under way in it: an heir could read its
        segments to their end before such an append had come to its own. The end of the
        process frees it, or another call.
        """
        self.seal()
        with self._lock:
            kept = self._writer if self._appender.has_open_segments else None
            if kept is not None:
                self._owned.clear()
            self.close()
            if kept is not None:
                self._owned[_WRITER] = kept

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child, which owns nothing of its parent's.

        The child's copies of the locks are closed: kept open, they would keep the
        parent's folder locked after the parent's death. The parent's own stay held.
        """
        followed = [each.folder for each in self._followed.values()]
        for folder in (self._writer, *self._adopted.values(), *followed):
            if folder is not None:
                folder.close()
        self._reset()

    def _append_synced(self, payload: bytes) -> bool:
        return self._appender.append_synced(payload, self._commits.commit)

    # Opening segments: the slow path of append.

    def _open_segment(self, payload_bytes: int) -> SegmentWriter:
        on_disk = self._open_durable(payload_bytes)
        return on_disk or self._open_memory(
            max(_segment_size(payload_bytes), _MEMORY_SEGMENT_BYTES)
        )

    def _open_durable(self, payload_bytes: int) -> SegmentWriter | None:
        if self._in_memory or not self._disk_is_due():
            return None
        size = max(_segment_size(payload_bytes), self._limits.segment_bytes)
        if self._full is not None and self._full.still_holds(self._clock.monotonic()):
            raise JournalFullError(self._full.message)
        try:
            return self._open_file(size)
        except JournalFullError as error:
            self._full = _FullNotice(self._clock.monotonic(), str(error))
            raise
        except OSError as error:
            self._disk_failed_at = self._clock.monotonic()
            self._notices.warn(
                "disk",
                "the journal cannot write to %s (%s); events are kept in memory "
                "only, and a crash loses them",
                self._journal_dir,
                error,
            )
            return None

    def _disk_is_due(self) -> bool:
        failed_at = self._disk_failed_at
        return (
            failed_at is None
            or self._clock.monotonic() - failed_at >= _DISK_RETRY_SECONDS
        )

    def _open_file(self, size: int) -> SegmentWriter:
        folder = self._writer_folder()
        self.folder.check_room(size, self._limits.max_journal_bytes)
        path = folder.segment_path(next(self._numbers))
        try:
            memory = segments.create_file(path, size, self._clock.now_ms())
        except FileNotFoundError:
            # Somebody deleted our folder. What was in it is out of reach; the rest of
            # our life goes to a new one.
            with self._lock:
                self._owned.clear()
            folder.close()
            folder = self._writer_folder()
            path = folder.segment_path(next(self._numbers))
            memory = segments.create_file(path, size, self._clock.now_ms())
        file = self._sync_file(path) if self._synced else None
        self._disk_failed_at = None
        self._notices.resolved("disk", "the journal writes to %s again", path.parent)
        ref = self._file_ref(folder, path, recovered=False)
        self._refs[ref.name] = ref
        return SegmentWriter(ref.name, memory, durable=True, file=file)

    def _sync_file(self, path: Path) -> SyncFile:
        """Open a new segment for syncing; its name is on the disk then.

        Raises:
            OSError: that failed, and the segment is gone.
        """
        try:
            file = SyncFile(path)
            for each in (path.parent, self.folder.path, self._journal_dir):
                folders.sync_folder(each)  # a file without a name is lost, too
        except OSError:
            # Nothing is in it, and the next attempts would fill the folder with such.
            path.unlink(missing_ok=True)
            raise
        return file

    def _open_memory(self, size: int) -> SegmentWriter:
        with self._lock:
            if self._memory_bytes + size > self._limits.max_memory_bytes:
                raise JournalFullError(
                    "the memory buffer is full (max_memory_bytes="
                    f"{self._limits.max_memory_bytes}) and there is no disk to spill to"
                )
            self._memory_bytes += size
        try:
            memory = segments.create_memory(size, self._clock.now_ms())
        except OSError as error:
            self._free_memory(size)
            raise JournalFullError(
                f"there is neither a disk to spill to nor memory ({error})"
            ) from error
        name = f"{_IN_MEMORY}{next(self._numbers):08d}"
        ref = SegmentHandle(
            name,
            lambda: memory,
            functools.partial(self._free_memory, size),
            recovered=False,
            final=False,
        )
        self._refs[name] = ref
        return SegmentWriter(name, memory, durable=False)

    def _free_memory(self, size: int) -> None:
        with self._lock:
            self._memory_bytes -= size

    def _writer_folder(self) -> WriterFolder:
        with self._lock:
            if (writer := self._writer) is None:
                made = self._make_writer_folder()
                # In one step: a signal handler on this thread may be faster, and the
                # folder that is forgotten would stay locked, with an event in it.
                writer = self._owned.setdefault(_WRITER, made)
                if writer is not made:
                    made.release()
            return writer

    @property
    def _writer(self) -> WriterFolder | None:
        return self._owned.get(_WRITER)

    def _make_writer_folder(self) -> WriterFolder:
        now_ms = self._clock.now_ms()
        self._prepare_or_move(now_ms)
        return WriterFolder.create(
            self.folder.path,
            now_ms,
            shipped_here=self._duty is not ShippingRole.DELEGATED,
        )

    def prepared_folder(self) -> DestinationFolder | None:
        """Return this destination's folder, made if need be; None: nothing on disk.

        Raises:
            OSError: it cannot be made.
        """
        if self._in_memory:
            return None
        with self._lock:
            self._prepare_or_move(self._clock.now_ms())
        return self.folder

    def _prepare_or_move(self, now_ms: int) -> None:
        try:
            self._prepare(now_ms)
        except OSError as error:
            if not self._may_move or error.errno not in _NOT_OURS_ERRNOS:
                raise
            self._may_move = False
            moved_to = folders.temporary_journal_dir()
            self._notices.warn(
                "moved",
                "cannot use %s (%s); the journal is in %s, which may not survive a "
                "reboot: set OUTLAY_JOURNAL_DIR",
                self._journal_dir,
                error.strerror,
                moved_to,
            )
            self._journal_dir = moved_to
            self._prepare(now_ms)

    def _prepare(self, now_ms: int) -> None:
        self.folder.prepare(
            base_url=self._destination.base_url,
            namespace=self._destination.namespace,
            now_ms=now_ms,
        )

    def _announce_segment(self, writer: SegmentWriter) -> None:
        ref = self._refs.pop(writer.name)
        ref.writer = writer
        if self._duty is ShippingRole.DELEGATED and writer.durable:
            self.fates.add(ref.name, self.folder.path / ref.name)
        else:
            self.reader.add(ref)

    # What the reader reports back.

    def _file_ref(
        self, folder: WriterFolder, path: Path, *, recovered: bool
    ) -> SegmentHandle:
        return SegmentHandle(
            f"{folder.name}/{path.name}",
            functools.partial(segments.open_file, path),
            functools.partial(self._discard_file, folder, path),
            recovered=recovered,
            final=recovered and folder.is_owned,
        )

    def _discard_file(self, folder: WriterFolder, path: Path) -> None:
        if folder.is_owned:
            self._delete(folder, path)
            return
        try:
            came_to = fates.SegmentSummary.of(path)
        except OSError as error:  # it must not hold up the rest
            self._warn_no_summary(path, error)
            self._delete(folder, path)
            return
        told = self._leave_summary(path, came_to)
        self._delete(folder, path)
        if not told:  # there is room now, if the disk was full
            self._leave_summary(path, came_to)

    def _delete(self, folder: WriterFolder, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # it must not hold up the rest
            self._undeleted[path] = folder
            self._notices.warn(
                "delete",
                "cannot delete %s (%s), of which all is settled; it takes up space, "
                "and the next look tries again",
                path,
                error,
            )
            return
        self._undeleted.pop(path, None)
        self._full = None  # there is room again
        if folder.name in self._adopted and not folder.segment_paths():
            self._remove_adopted(folder)

    def _leave_summary(self, path: Path, came_to: fates.SegmentSummary) -> bool:
        try:
            fates.append_summary(path.parent, came_to)
        except OSError as error:
            self._warn_no_summary(path, error)
            return False
        return True

    def _warn_no_summary(self, path: Path, error: OSError) -> None:
        self._notices.warn(
            "fates", "the writer of %s cannot be told its fate: %s", path, error
        )

    def _remove_adopted(self, folder: WriterFolder) -> None:
        """Remove an adopted folder that has nothing left in it."""
        with self._lock:
            del self._adopted[folder.name]
        folder.release()

    def _writer_name(self) -> str:
        return self._writer.name if self._writer else self._adopter_name

    def _keep_damaged(self, segment: str, offset: int, damaged: bytes) -> None:
        letters = DeadLetters(self.folder.dead_path, self._writer_name(), self._clock)
        try:
            letters.store_corrupt_bytes(segment, offset, damaged)
        except OSError as error:
            self._notices.warn("damage", "cannot keep damaged bytes: %s", error)
        self._notices.warn(
            "damaged",
            "segment %s is damaged at byte %d; the bytes are kept in %s",
            segment,
            offset,
            self.folder.dead_path,
        )

    def _report_unreadable(self, segment: str, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            self._notices.warn(
                "gone",
                "somebody deleted segment %s; what was not delivered of it is lost, "
                "and counted as damaged",
                segment,
            )
            return
        self._notices.warn(
            "unreadable", "segment %s was left as it is: %s", segment, error
        )


def _segment_size(payload_bytes: int) -> int:
    """Return the least size of a segment that holds an event of so many bytes."""
    return SEGMENT_HEADER_BYTES + align_up(FRAME_HEADER_BYTES + payload_bytes)
