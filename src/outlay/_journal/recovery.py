"""Find, adopt and follow the folders of other writers, and discard finished segments.

A client adopts the folders of dead writers. An agent also follows living writers that
leave their shipping to it. A scan may find, and each is safe at every instant:

- A new writer. The process that gets its ``shipper.lock`` ships for it. The others try
  again at their next scan. A process that ships its own events holds that lock itself.
- A new segment. A name without a header is being created, or its writer died over it.
  It waits for the next scan, or for the writer's death.
- A dead writer. Its lock is taken first, and its segments are listed afterwards. In the
  other order, a segment opened in between would be deleted with the folder.
- A follower that was killed. Its locks are free, and all that it knew is in the frames.
  Its requests under way are stamped there.

Each folder takes file descriptors of the application. So only some are held at the same
time, oldest first. The others form the backlog, and wait until one of them is finished.
"""

from __future__ import annotations

import contextlib
import functools
import math
import resource
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from outlay._journal import agent_progress, frames, merging, segments
from outlay._journal.admin import commit
from outlay._journal.agent_progress import SegmentSummary
from outlay._journal.folders import DestinationFolder, WriterFolder
from outlay._journal.locks import check_locks_exclude
from outlay._journal.reader import SegmentHandle
from outlay.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from outlay._journal.reader import JournalReader
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog

ADOPT_SECONDS: Final = 30.0
"""Seconds between a client's scans for the events of dead writers."""

PARKED_SECONDS: Final = 300.0
"""Seconds until a folder is adopted again that was given up for its parked events."""

SHORTEST_PAUSE: Final = 0.05
"""Seconds between scans while they find something."""

LONGEST_PAUSE: Final = 1.0
"""Seconds between scans that find nothing: an event waits no longer to be seen."""

_DESCRIPTORS: Final = 4  # of a folder: two locks, and a mapped segment or two
_CLIENT_FOLDERS: Final = 32  # of a client, whose host application needs descriptors
_CLIENT_SHARE: Final = 0.1  # of the process's descriptors, for small limits
_AGENT_SHARE: Final = 0.75
_TRIMMED_BYTES: Final = 16 * 1024  # a smaller file is not worth cutting


class PollInterval:
    """The pause between scans, which grows while they find nothing."""

    def __init__(self) -> None:
        self._seconds = SHORTEST_PAUSE

    def next(self, *, found: bool) -> float:
        """Return the seconds until the next scan.

        Args:
            found: Whether the last scan found something.
        """
        longer = min(2 * self._seconds, LONGEST_PAUSE)
        self._seconds = SHORTEST_PAUSE if found else longer
        return self._seconds


class FollowedWriter:
    """A writer that may be alive, and the segments of it that are being read.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self, folder: WriterFolder) -> None:
        """Follow the writer of ``folder``, whose ``shipper.lock`` is held here."""
        self.folder = folder
        self._known: set[str] = set()

    def new_segments(self) -> list[Path]:
        """Return the segments that no earlier call returned, oldest first."""
        present = {path.name: path for path in self.folder.segment_paths()}
        self._known &= present.keys()
        new = [
            path
            for name, path in present.items()
            if name not in self._known and (self.folder.is_owned or _has_header(path))
        ]
        self._known.update(path.name for path in new)
        return new

    def end_offsets(self) -> dict[str, float]:
        """Return the end of each segment now. Infinity if it is sealed."""
        return {
            f"{self.folder.name}/{path.name}": end
            for path in self.folder.segment_paths()
            if (end := _end_offset(path)) is not None
        }


class Recovery:
    """Holds the folders of other writers whose events this process ships.

    Thread safety: `adopt_orphans` and `has_orphans` may be called by any thread. All
    else needs the shipper's lock.
    """

    def __init__(
        self,
        reader: JournalReader,
        *,
        folder: Callable[[], DestinationFolder],
        own_writer: Callable[[], WriterFolder | None],
        follows: bool,
        on_room: Callable[[], None],
        clock: Clock,
        log: RateLimitedLog,
    ) -> None:
        """Hold no folder yet.

        Args:
            reader: The reader that gets their segments.
            folder: A function that returns the destination's folder.
            own_writer: A function that returns this process's own folder, if it exists.
            follows: Whether living writers are followed, as an agent does.
            on_room: A function that is called after a segment was deleted.
            clock: The clock between scans.
            log: The log for warnings.
        """
        self._reader = reader
        self._folder = folder
        self._own_writer = own_writer
        self._follows = follows
        self._on_room = on_room
        self._clock = clock
        self._log = log
        self._lock = threading.RLock()
        self._adopted: dict[str, WriterFolder] = {}  # guarded by _lock
        self._followed: dict[str, FollowedWriter] = {}  # the same
        self._backlog: dict[str, list[str]] = {}  # segments of folders, oldest first
        self._resting: deque[tuple[float, str]] = deque()  # parked events only
        self._undeleted: dict[Path, WriterFolder] = {}  # settled segments
        self._locks_checked = False
        self._next_search = -math.inf
        self._poll_interval = PollInterval()
        self._taken_before = 0

    def has_orphans(self) -> bool:
        """Return whether other writers, dead or alive, have folders here."""
        return bool(self._list(DestinationFolder.writers) or self._interrupted())

    def held_folders(self) -> list[WriterFolder]:
        """Return the folders of which this process holds locks."""
        followed = [each.folder for each in self._followed.values()]
        return [*self._adopted.values(), *followed]

    def end_offsets(self) -> dict[str, float]:
        """Return where the segments of all followed writers end now."""
        followed = list(self._followed.values())
        return {
            name: end for each in followed for name, end in each.end_offsets().items()
        }

    def close(self) -> None:
        """Stop using all folders. Their pending events stay for the next process."""
        with self._lock:
            held = self.held_folders()
            self._adopted = {}
            self._followed = {}
            self._set_backlog({})
        for folder in held:
            folder.release()

    def scan(self) -> float:
        """Search for new writers and segments; return seconds until the next scan."""
        for path, folder in [*self._undeleted.items()]:
            self.delete(folder, path)
        self._reader.retry_unreadable()
        known = len(self._followed)
        adopted = self._adopt_backlog()
        due = self._clock.monotonic() >= self._next_search
        if self._follows or not self._backlog or due:
            adopted += self.adopt_orphans()
        if not self._follows:
            if not self._backlog:
                return ADOPT_SECONDS
            return self._poll_interval.next(found=adopted > 0)
        self._read_followed()
        taken, self._taken_before = self._taken_before, self._reader.taken_count
        found = adopted or taken != self._taken_before or known != len(self._followed)
        return self._poll_interval.next(found=bool(found))

    # Adopting.

    def adopt_orphans(self) -> int:
        """Adopt the folders of dead writers, and return how many.

        The locks decide, so only one of several adopters gets each folder.
        """
        self._next_search = self._clock.monotonic() + ADOPT_SECONDS
        self._wake_resting()
        if self._interrupted():
            self._with_lock_of_commands(lambda: 0)
        found = self._unknown_writers()
        if not found or not self._may_lock():
            return 0
        if len(found) >= merging.MERGE_FROM and self._merge(found):
            found = self._unknown_writers()
        return sum(map(self._try_adopt, found))

    def _unknown_writers(self) -> list[Path]:
        writers = self._list(DestinationFolder.writers)
        return [path for path in writers if not self._is_known(path)]

    def _interrupted(self) -> list[Path]:
        """Return what killed commands and mergers left, which has events to ship."""
        staged = self._list(DestinationFolder.staged)
        return staged + self._list(DestinationFolder.merging)

    def _merge(self, found: list[Path]) -> int:
        """Merge small folders, and return how many."""
        most = most_folders(agent=self._follows) - self._held_count
        now_ms = self._clock.now_ms()
        return self._with_lock_of_commands(
            lambda: merging.merge(self._folder(), found, now_ms, most=most)
        )

    def _with_lock_of_commands(self, action: Callable[[], int]) -> int:
        """Finish what killed commands and mergers had begun, then call ``action``.

        Returns:
            The number that it returns. 0 if another process has the lock.
        """
        try:
            with commit.exclusive(self._folder()):
                return action()
        except JournalError:
            return 0  # a command is at work, and finishes it
        except OSError as error:
            self._log.warn("commit", "cannot finish a killed command: %s", error)
            return 0

    def _list(self, paths: Callable[[DestinationFolder], Iterable[Path]]) -> list[Path]:
        try:
            return list(paths(self._folder()))
        except OSError as error:
            self._log.warn(
                "writers", "cannot look for events of earlier processes: %s", error
            )
            return []

    def _is_known(self, path: Path) -> bool:
        own = self._own_writer()
        return (
            (own is not None and own.name == path.name)
            or path.name in self._adopted
            or path.name in self._followed
            or path.name in self._backlog
            or any(path.name == name for _, name in self._resting)
        )

    def _may_lock(self) -> bool:
        if not self._locks_checked:
            try:
                check_locks_exclude(self._folder().path)
            except OSError as error:
                self._log.warn(
                    "locks", "cannot adopt events of earlier processes: %s", error
                )
                return False
            self._locks_checked = True
        return True

    def _adopt_backlog(self) -> int:
        self._release_parked()
        adopted = 0
        for name in [*self._backlog]:
            if self._is_full():
                break
            self._set_backlog({k: v for k, v in self._backlog.items() if k != name})
            adopted += self._try_adopt(self._folder().path / name)
        return adopted

    def _try_adopt(self, path: Path) -> bool:
        try:
            return self.adopt(path)
        except OSError as error:  # it must not hold up the others
            self._log.warn("adopt", "cannot adopt %s: %s", path, error)
            return False

    def adopt(self, path: Path) -> bool:
        """Adopt or follow one folder, or put it into the backlog.

        Returns:
            Whether it was adopted, and has events.
        """
        take = WriterFolder.follow if self._follows else WriterFolder.adopt
        with self._lock:
            if self._is_known(path):
                return False
            folder = take(path)
            if folder is None:
                return False
            if self._is_full():
                self._defer(folder)
                return False
            if not folder.is_owned:
                self._followed[path.name] = FollowedWriter(folder)
                return False
            self._adopted[path.name] = folder
        for segment in folder.segment_paths():
            self._trim(segment)
        return self._queue_segments(folder, folder.segment_paths())

    def _is_full(self) -> bool:
        return self._held_count >= most_folders(agent=self._follows)

    @property
    def _held_count(self) -> int:
        return len(self._adopted) + len(self._followed)

    def _defer(self, folder: WriterFolder) -> None:
        """Put a folder into the backlog. It takes no more room than its events."""
        try:
            paths = folder.segment_paths()
            if folder.is_owned:
                for path in paths:
                    self._trim(path)
            names = [f"{folder.name}/{path.name}" for path in paths]
            self._set_backlog({**self._backlog, folder.name: names})
        finally:
            folder.close()

    def _trim(self, path: Path) -> None:
        # One that cannot be read is reported by the reader.
        with contextlib.suppress(OSError):
            if path.stat().st_size > _TRIMMED_BYTES:
                segments.trim(path)

    def _set_backlog(self, backlog: dict[str, list[str]]) -> None:
        self._backlog = backlog
        self._reader.backlog = frozenset(
            segment for names in backlog.values() for segment in names
        )

    def _release_parked(self) -> None:
        """Make room for the backlog: release folders with only parked events."""
        if not self._backlog or not self._is_full():
            return
        wanted = len(self._backlog)
        for name, folder in [*self._adopted.items()]:
            if wanted and self._reader.release_parked(name):
                with self._lock:
                    del self._adopted[name]
                folder.release()
                self._resting.append((self._clock.monotonic() + PARKED_SECONDS, name))
                wanted -= 1

    def _wake_resting(self) -> None:
        now = self._clock.monotonic()
        while self._resting and self._resting[0][0] <= now:
            self._resting.popleft()

    def _queue_segments(self, folder: WriterFolder, paths: Iterable[Path]) -> bool:
        """Queue segments of another writer for reading; return if any are left."""
        for path in paths:
            self._reader.add(self._handle(folder, path))
        left = bool(folder.segment_paths())
        if folder.is_owned and not left:
            self._remove_adopted(folder)
        return left

    def _handle(self, folder: WriterFolder, path: Path) -> SegmentHandle:
        copied = False
        with contextlib.suppress(OSError):  # reported when its turn comes
            copied = segments.is_copy(path)
        return SegmentHandle(
            f"{folder.name}/{path.name}",
            functools.partial(segments.open_file, path),
            functools.partial(self.discard, folder, path),
            recovered=True,
            final=folder.is_owned,
            copied=copied,
        )

    # Following.

    def _read_followed(self) -> None:
        for followed in list(self._followed.values()):
            try:
                self._follow(followed)
            except OSError as error:  # it must not hold up the others
                self._log.warn(
                    "follow", "cannot read in %s: %s", followed.folder.path, error
                )
        self._reader.confirm_damage()

    def _follow(self, followed: FollowedWriter) -> None:
        folder = followed.folder
        if not folder.try_own():
            self._queue_segments(folder, followed.new_segments())
            return
        with self._lock:
            del self._followed[folder.name]
            self._adopted[folder.name] = folder
        self._reader.mark_writer_dead(folder.name)
        self._queue_segments(folder, followed.new_segments())

    # Discarding.

    def discard(self, folder: WriterFolder, path: Path) -> None:
        """Delete a settled segment. A living writer gets a summary of it."""
        if folder.is_owned:
            self.delete(folder, path)
            return
        try:
            summary = SegmentSummary.from_path(path)
        except OSError as error:  # it must not hold up the rest
            self._warn_no_summary(path, error)
            self.delete(folder, path)
            return
        written = self._leave_summary(path, summary)
        self.delete(folder, path)
        if not written:  # there is room now, if the disk was full
            self._leave_summary(path, summary)

    def delete(self, folder: WriterFolder, path: Path) -> None:
        """Delete a segment, now or at a later scan."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:  # it must not hold up the rest
            self._undeleted[path] = folder
            self._log.warn(
                "delete",
                "cannot delete %s (%s), whose events are all settled; it takes up "
                "space until the next scan tries again",
                path,
                error,
            )
            return
        self._undeleted.pop(path, None)
        self._on_room()
        if folder.name in self._adopted and not folder.segment_paths():
            self._remove_adopted(folder)

    def _leave_summary(self, path: Path, summary: SegmentSummary) -> bool:
        try:
            agent_progress.append_summary(path.parent, summary)
        except OSError as error:
            self._warn_no_summary(path, error)
            return False
        return True

    def _warn_no_summary(self, path: Path, error: OSError) -> None:
        self._log.warn(
            "summary", "cannot tell the writer of %s its outcomes: %s", path, error
        )

    def _remove_adopted(self, folder: WriterFolder) -> None:
        """Remove an adopted folder in which nothing is left."""
        with self._lock:
            del self._adopted[folder.name]
        folder.release()


def most_folders(*, agent: bool, descriptors: int | None = None) -> int:
    """Return how many folders of other writers a process may hold.

    Args:
        agent: Whether it is an agent, which has no host application.
        descriptors: Its limit of file descriptors. If None, the limit of this process.
    """
    limit = descriptors or resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        limit = 1 << 20
    if agent:
        return max(1, int(limit * _AGENT_SHARE) // _DESCRIPTORS)
    return max(1, min(_CLIENT_FOLDERS, int(limit * _CLIENT_SHARE) // _DESCRIPTORS))


def _has_header(path: Path) -> bool:
    memory = segments.map_readonly(path)
    if memory is None:
        return False
    memory.close()
    return True


def _end_offset(path: Path) -> float | None:
    memory = None
    with contextlib.suppress(OSError):
        memory = segments.map_readonly(path)
    if memory is None:  # settled and deleted, or not a segment yet
        return None
    with memory:
        return math.inf if frames.is_sealed(memory) else frames.published_end(memory)
