"""Folders of the journal on disk: names, permissions, locks, space.

Two locks say who may do what with a writer's folder: the holder of ``writer.lock``
appends to its segments, the holder of ``shipper.lock`` decides the fates of their
events. A process holds both of its own for life, or leaves the second one to an agent;
the kernel frees them when it dies, however it dies. Whoever gets both has adopted the
folder, and nobody else may remove it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import stat
from typing import TYPE_CHECKING, Final

import msgspec

from outlay._fork import ForkLock, after_fork_in_child
from outlay._journal.frames import FORMAT_VERSION, SEGMENT_HEADER_BYTES
from outlay._model.clock import format_rfc3339
from outlay._model.keys import netstring
from outlay.errors import JournalError, JournalFullError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_DIGEST_CHARS: Final = 32  # 128 bits: no two destinations of one folder meet
_RANDOM_BYTES: Final = 4  # beside time and process id, in a writer's name

WRITER_LOCK: Final = "writer.lock"
SHIPPER_LOCK: Final = "shipper.lock"
SEGMENT_SUFFIX: Final = ".seg"
PART_SUFFIX: Final = ".part"
"""In place of the other, of a segment whose events are not to be seen one by one."""
FATES_FILE: Final = "settled.jsonl"
_DEAD: Final = "dead"
_UNPRICED: Final = "unpriced"
_META: Final = "meta.json"
_RESERVED_NAMES: Final = frozenset({_DEAD, _UNPRICED, _META})
_NEW_PREFIX: Final = ".new-"


class DestinationMeta(msgspec.Struct, frozen=True):
    """What ``meta.json`` says about a destination; never a credential."""

    format_version: int
    base_url: str
    namespace: str | None
    created_at: str


def destination_name(base_url: str, namespace: str | None, credential: str) -> str:
    """Return the folder name of a destination.

    Events for different servers, namespaces or credentials never share a folder.
    The credential only keys the digest (HMAC-SHA-256, RFC 2104), which does not tell
    it; but do not use a guessable one.
    """
    destination = netstring(base_url) + netstring(namespace or "")
    digest = hmac.new(credential.encode(), destination, hashlib.sha256)
    return digest.hexdigest()[:_DIGEST_CHARS]


def default_journal_dir() -> Path:
    """Return where journals live when no setting says so."""
    from outlay._model.settings import state_folder  # noqa: PLC0415 - see there

    return state_folder() / "spill"


def fallback_journal_dir() -> Path:
    """Return where journals live when the default folder cannot be made."""
    from outlay._model.settings import temporary_folder  # noqa: PLC0415 - see there

    return temporary_folder() / f"outlay-{os.getuid()}"


def temporary_journal_dir() -> Path:
    """Return a private folder under the system's temporary one.

    Used when the default folder cannot be made. It may not survive a reboot.

    Raises:
        JournalError: somebody else owns a folder of that name.
    """
    folder = fallback_journal_dir()
    _make_folder(folder)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise JournalError(f"{folder} belongs to somebody else; set OUTLAY_JOURNAL_DIR")
    folder.chmod(_FOLDER_MODE)
    return folder


def _make_folder(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in ``folder`` to the disk.

    Raises:
        OSError: the disk failed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Lock:
    """An advisory lock on a file, held until released or the process dies.

    ``flock`` belongs to the open file, so two clients in one process exclude each
    other too. A forked child would share it, and keep it locked after its parent's
    death: the child's copies are closed at once, whoever holds the locks.
    """

    def __init__(self, path: Path) -> None:
        """Open the lock file; created if missing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with _opening_lock:
            self._descriptor = os.open(path, flags, _FILE_MODE)
            _open_locks.add(self)

    def acquire(self) -> bool:
        """Take the lock if it is free, and say whether it was.

        Raises:
            JournalError: the file system has no locks.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise JournalError(
                f"the journal folder's file system does not lock files ({error}); set "
                "OUTLAY_JOURNAL_DIR to a local folder"
            ) from error
        return True

    def release(self) -> None:
        """Unlock the file, also where a child forked meanwhile shares it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file: unlocks it, unless another process shares it by fork.

        A second call does nothing: two threads may find the folder gone.
        """
        descriptor, self._descriptor = self._descriptor, -1
        _open_locks.discard(self)
        if descriptor >= 0:
            os.close(descriptor)


# Of all journals, also of those whose client is forgotten, or that are being opened
# by another thread at the moment of a fork. Strong references: without an owner, a lock
# still has a descriptor. A fork waits for whoever has one and has not noted it yet;
# re-entrant, for a signal handler may fork.
_open_locks: Final[set[Lock]] = set()
_opening_lock: Final = ForkLock()


def _close_all_after_fork() -> None:
    for lock in [*_open_locks]:
        lock.close()


after_fork_in_child(_close_all_after_fork)


class WriterFolder:
    """The segments of one writing process, and the locks on them."""

    def __init__(
        self, path: Path, *, writer: Lock | None, shipper: Lock | None, whole: bool
    ) -> None:
        """Remember which locks are ours; see `create`, `adopt` and `follow`."""
        self.path = path
        self.name = path.name
        self._writer = writer
        self._shipper = shipper
        self._whole = whole

    @classmethod
    def create(
        cls, destination: Path, now_ms: int, *, shipped_here: bool = True
    ) -> WriterFolder:
        """Create and own a new folder. Its name sorts by age and is never reused.

        Args:
            destination: where.
            now_ms: wall time.
            shipped_here: whether this process ships its events; if not, an agent may.
        """
        unique = os.urandom(_RANDOM_BYTES).hex()
        name = f"{now_ms:013d}-{os.getpid()}-{unique}"
        # Locked before it gets its final name: a folder that can be seen without its
        # locks held is an orphan, and would be adopted.
        hidden = destination / f"{_NEW_PREFIX}{name}"
        hidden.mkdir(mode=_FOLDER_MODE)
        with contextlib.ExitStack() as undo:
            undo.callback(_remove, hidden)
            shipper = Lock(hidden / SHIPPER_LOCK)
            undo.callback(shipper.close)
            writer = Lock(hidden / WRITER_LOCK)
            undo.callback(writer.close)
            writer.acquire()
            if shipped_here:
                shipper.acquire()
            path = hidden.rename(destination / name)
            undo.pop_all()
        if shipped_here:
            return cls(path, writer=writer, shipper=shipper, whole=True)
        shipper.close()
        return cls(path, writer=writer, shipper=None, whole=False)

    @classmethod
    def adopt(cls, path: Path) -> WriterFolder | None:
        """Own an existing folder if its writer is dead and nobody else ships it."""
        folder = cls.follow(path)
        if folder is None or folder.is_owned:
            return folder
        folder.close()
        return None

    @classmethod
    def follow(cls, path: Path) -> WriterFolder | None:
        """Own the shipping of an existing folder if nobody else does.

        Its writer may live on, see `inherit`.
        """
        with contextlib.ExitStack() as undo:
            try:
                shipper = Lock(path / SHIPPER_LOCK)
                undo.callback(shipper.close)
                if not shipper.acquire():
                    return None
                writer = Lock(path / WRITER_LOCK)
            except (FileNotFoundError, NotADirectoryError):
                return None  # no folder, or another adopter has just removed it
            undo.callback(writer.close)
            folder = cls(path, writer=writer, shipper=shipper, whole=False)
            folder.try_own()
            undo.pop_all()
        return folder

    @property
    def is_owned(self) -> bool:
        """Whether all locks are ours: nobody else appends here, or ships from here."""
        return self._whole

    def try_own(self) -> bool:
        """Own the folder as a whole if its writer is dead; return whether we do.

        Segments listed after that are all there will ever be.
        """
        if not self._whole and self._shipper is not None and self._writer is not None:
            self._whole = self._writer.acquire()
            if self._whole:
                self._remove_unwritten()
        return self._whole

    def _remove_unwritten(self) -> None:
        # A kill between the creation of a file and its allocation leaves it empty, and
        # it would be reported at every start, for ever. No event was ever in it; nor is
        # one, for anybody else, in a segment that was not finished.
        for path in self.segment_paths():
            if path.stat().st_size < SEGMENT_HEADER_BYTES:
                path.unlink()
        for path in self.path.glob(f"*{PART_SUFFIX}"):
            path.unlink()

    def is_deleted(self) -> bool:
        """Return whether somebody has deleted the folder."""
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # it can be anything
            return False
        return False

    def has_shipper(self) -> bool:
        """Return whether some process ships what is written here; the writer asks."""
        if self._shipper is not None:
            return True
        try:
            probe = Lock(self.path / SHIPPER_LOCK)
        except OSError:  # somebody deleted the folder
            return False
        try:
            if not probe.acquire():
                return True
            # Not by closing alone: a child forked at this moment would keep it locked.
            # An agent that tries in between finds it free at its next look.
            probe.release()
            return False
        finally:
            probe.close()

    def segment_path(self, number: int) -> Path:
        """Return the path of this writer's ``number``-th segment."""
        return self.path / f"{number:08d}{SEGMENT_SUFFIX}"

    def segment_paths(self) -> list[Path]:
        """Return the segments, oldest first."""
        return sorted(self.path.glob(f"*{SEGMENT_SUFFIX}"))

    def release(self) -> None:
        """Give up the folder; remove it if it is wholly ours and has no segment left.

        While others hold one of its locks they must find the same files: two locks of
        one name would let two processes ship the same events.
        """
        if self._whole and not self.segment_paths():
            _remove(self.path)
        self.close()

    def close(self) -> None:
        """Close the locks and leave the folder as it is."""
        for lock in (self._shipper, self._writer):
            if lock is not None:
                lock.close()


def _remove(folder: Path) -> None:
    """Remove a writer's folder, unless there is something in it that is to be kept."""
    # Never the whole tree: a thread that is inside of track_cost while the client is
    # closed may open a segment in it at this moment. Nor does it open anything: that
    # may be what has failed.
    with contextlib.suppress(OSError):
        for name in (FATES_FILE, SHIPPER_LOCK, WRITER_LOCK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _segment_bytes(folder: Path) -> int:
    """Return the size of the segments in ``folder``; of what vanishes meanwhile, 0."""
    total = 0
    # Siblings settle segments, and remove folders, whenever they like.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.glob(f"*{SEGMENT_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
    return total


class DestinationFolder:
    """Everything kept for one destination, by all processes of this host."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dead_path = path / _DEAD
        self.unpriced_path = path / _UNPRICED

    @property
    def exists(self) -> bool:
        """Whether any process has made the folder yet."""
        return self.path.is_dir()

    def prepare(self, *, base_url: str, namespace: str | None, now_ms: int) -> None:
        """Create the folder with its ``meta.json``, or check the existing one.

        Raises:
            JournalError: a newer outlay owns the folder.
            OSError: it cannot be created or written to.
        """
        for folder in (self.path.parent, self.path, self.dead_path):
            _make_folder(folder)
        self.path.chmod(_FOLDER_MODE)
        meta_path = self.path / _META
        if meta_path.exists():
            self._check(meta_path)
            return
        meta = DestinationMeta(
            FORMAT_VERSION, base_url, namespace, format_rfc3339(now_ms)
        )
        # Written aside and renamed, so that nobody reads half of it.
        aside = self.path / f"{_NEW_PREFIX}{os.urandom(_RANDOM_BYTES).hex()}"
        descriptor = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE)
        try:
            # Not by a file object: making one imports, which an exiting process cannot.
            os.write(descriptor, msgspec.json.format(msgspec.json.encode(meta)))
            aside.rename(meta_path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _check(self, meta_path: Path) -> None:
        try:
            meta = msgspec.json.decode(meta_path.read_bytes(), type=DestinationMeta)
        except msgspec.DecodeError:
            return  # the segments carry the version too
        if meta.format_version > FORMAT_VERSION:
            raise JournalError(
                f"{self.path} was made by a newer outlay (journal format "
                f"{meta.format_version}, this one knows {FORMAT_VERSION}); upgrade "
                "outlay, or set OUTLAY_JOURNAL_DIR to another folder"
            )

    def writers(self) -> Iterator[Path]:
        """Yield the folders of all writers, dead or alive, oldest first."""
        if not self.exists:
            return
        for path in sorted(self.path.iterdir()):
            if path.name not in _RESERVED_NAMES and not path.name.startswith("."):
                yield path

    def used_bytes(self) -> int:
        """Return the size of all segments of all writers."""
        return sum(map(_segment_bytes, self.writers()))

    def check_room(self, size: int, max_bytes: int) -> None:
        """Refuse another segment of ``size`` bytes past the limit.

        Raises:
            JournalFullError: the folder would exceed ``max_bytes``.
        """
        used = self.used_bytes()
        if used + size > max_bytes:
            raise JournalFullError(
                f"the journal holds {used} of max_journal_bytes={max_bytes} bytes; bring "
                "the server back, or raise OUTLAY_MAX_JOURNAL_BYTES"
            )
