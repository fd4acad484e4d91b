"""Name, create, lock and measure the folders of the journal.

Two locks say what a process may do with a writer's folder. The holder of
``writer.lock`` appends to its segments. The holder of ``shipper.lock`` settles their
events. A process holds both of its own for life, or leaves the second one to an agent.
The kernel frees them when the process dies, however it dies. A process that gets both
has adopted the folder, and only that process may remove it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import stat
from typing import TYPE_CHECKING, Final

import msgspec

from outlay._journal.frames import FORMAT_VERSION, SEGMENT_HEADER_BYTES
from outlay._journal.locks import Lock
from outlay._model.clock import format_rfc3339
from outlay._model.keys import netstring
from outlay._model.settings import state_folder, temporary_folder
from outlay.errors import JournalError, JournalFullError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_DIGEST_CHARS: Final = 32  # 128 bits: no two destinations share a name
_RANDOM_BYTES: Final = 4  # beside time and process id, in a writer's name

WRITER_LOCK: Final = "writer.lock"
SHIPPER_LOCK: Final = "shipper.lock"
COMMANDS_LOCK: Final = "commands.lock"
SEGMENT_SUFFIX: Final = ".seg"
PART_SUFFIX: Final = ".part"
"""Replaces the other suffix while a segment gets events that count only together."""
SUMMARY_FILE: Final = "settled.jsonl"
MANIFEST_FILE: Final = "commit.json"
_DEAD: Final = "dead"
_UNPRICED: Final = "unpriced"
_META: Final = "meta.json"
_RESERVED_NAMES: Final = frozenset({_DEAD, _UNPRICED, _META})
_NEW_PREFIX: Final = ".new-"
_STAGED_PREFIX: Final = ".staged-"
_MERGING_PREFIX: Final = ".merging-"


class DestinationMeta(msgspec.Struct, frozen=True):
    """The content of ``meta.json``. It never holds a credential."""

    format_version: int
    base_url: str
    namespace: str | None
    created_at: str


def destination_name(base_url: str, namespace: str | None, credential: str) -> str:
    """Return the folder name of a destination.

    Events for different servers, namespaces or credentials never share a folder. The
    credential only keys the digest (HMAC-SHA-256, RFC 2104). The digest does not reveal
    it, unless it can be guessed.
    """
    destination = netstring(base_url) + netstring(namespace or "")
    digest = hmac.new(credential.encode(), destination, hashlib.sha256)
    return digest.hexdigest()[:_DIGEST_CHARS]


def default_journal_dir() -> Path:
    """Return the folder of journals when no setting names one."""
    return state_folder() / "journal"


def fallback_journal_dir() -> Path:
    """Return the folder of journals when the default one cannot be made."""
    return temporary_folder() / f"outlay-{os.getuid()}"


def temporary_journal_dir() -> Path:
    """Make and return a private folder under the system's temporary one.

    It may not survive a reboot.

    Raises:
        JournalError: Another user owns a folder of that name.
    """
    folder = fallback_journal_dir()
    _make_folder(folder)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise JournalError(
            f"{folder} belongs to another user; set OUTLAY_JOURNAL_DIR to a folder of "
            "this one"
        )
    folder.chmod(_FOLDER_MODE)
    return folder


def _make_folder(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Return when the disk has the names in ``folder``.

    Raises:
        OSError: The disk failed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_writer_name(now_ms: int) -> str:
    """Return a name that sorts by age and is never used again."""
    return f"{now_ms:013d}-{os.getpid()}-{os.urandom(_RANDOM_BYTES).hex()}"


def writer_name_after(name: str) -> str:
    """Return a new name that sorts beside ``name``, by the age of its events."""
    created_ms, _, _ = name.partition("-")
    return f"{created_ms}-{os.getpid()}-{os.urandom(_RANDOM_BYTES).hex()}"


def segment_name(number: int) -> str:
    """Return the file name of a writer's ``number``-th segment."""
    return f"{number:08d}{SEGMENT_SUFFIX}"


class WriterFolder:
    """The segments of one writing process, and the locks on them."""

    def __init__(
        self, path: Path, *, writer: Lock | None, shipper: Lock | None, owned: bool
    ) -> None:
        """Remember the locks that this process holds: see `create` and `follow`."""
        self.path = path
        self.name = path.name
        self._writer = writer
        self._shipper = shipper
        self._owned = owned

    @classmethod
    def create(
        cls, destination: Path, now_ms: int, *, shipped_here: bool = True
    ) -> WriterFolder:
        """Create and own a new folder.

        Args:
            destination: The folder of the destination.
            now_ms: The wall time, in ms since 1970.
            shipped_here: Whether this process ships its events. If not, an agent may.
        """
        name = new_writer_name(now_ms)
        # Locked before it gets its final name. A folder that can be seen without its
        # locks held is an orphan, and another process would adopt it.
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
            return cls(path, writer=writer, shipper=shipper, owned=True)
        shipper.close()
        return cls(path, writer=writer, shipper=None, owned=False)

    @classmethod
    def adopt(cls, path: Path) -> WriterFolder | None:
        """Own a folder if its writer is dead and no other process ships its events."""
        folder = cls.follow(path)
        if folder is None or folder.is_owned:
            return folder
        folder.close()
        return None

    @classmethod
    def follow(cls, path: Path) -> WriterFolder | None:
        """Take the shipping of a folder if no other process has it.

        Its writer may be alive: see `try_own`.
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
            folder = cls(path, writer=writer, shipper=shipper, owned=False)
            folder.try_own()
            undo.pop_all()
        return folder

    @property
    def is_owned(self) -> bool:
        """Whether this process holds both locks: no other appends or ships here."""
        return self._owned

    def try_own(self) -> bool:
        """Take the second lock if the writer is dead; return whether both are held.

        Segments that are listed after that are complete.
        """
        if not self._owned and self._shipper is not None and self._writer is not None:
            self._owned = self._writer.acquire()
            if self._owned:
                self._remove_unwritten()
        return self._owned

    def _remove_unwritten(self) -> None:
        # A kill between the creation of a file and its allocation leaves it empty, and
        # each start would report it. No event was ever in it. Nor is there one, for any
        # reader, in a segment whose events count only together and that is unfinished.
        for path in self.segment_paths():
            if path.stat().st_size < SEGMENT_HEADER_BYTES:
                path.unlink()
        for path in self.path.glob(f"*{PART_SUFFIX}"):
            path.unlink()

    def is_deleted(self) -> bool:
        """Return whether the folder was deleted."""
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # unknown, so it stays
            return False
        return False

    def has_shipper(self) -> bool:
        """Return whether a process ships the events that this writer appends."""
        if self._shipper is not None:
            return True
        try:
            probe = Lock(self.path / SHIPPER_LOCK)
        except OSError:  # the folder was deleted
            return False
        try:
            if not probe.acquire():
                return True
            # Not by closing alone: a child forked at this moment would keep it locked.
            # An agent that tries in between finds it free at its next scan.
            probe.release()
            return False
        finally:
            probe.close()

    def segment_path(self, number: int) -> Path:
        """Return the path of this writer's ``number``-th segment."""
        return self.path / segment_name(number)

    def segment_paths(self) -> list[Path]:
        """Return the segments, oldest first."""
        return sorted(self.path.glob(f"*{SEGMENT_SUFFIX}"))

    def release(self) -> None:
        """Stop using the folder. Remove it if it is owned and has no segment left.

        While another process holds one of its locks, both must find the same files. Two
        locks of one name would let two processes ship the same events.
        """
        if self._owned and not self.segment_paths():
            _remove(self.path)
        self.close()

    def close(self) -> None:
        """Close the locks and leave the folder as it is."""
        for lock in (self._shipper, self._writer):
            if lock is not None:
                lock.close()


def _remove(folder: Path) -> None:
    """Remove a writer's folder, unless it holds a file that must stay."""
    # Never the whole tree. A thread inside of track_cost may open a segment in it while
    # the client is closed. And this opens nothing, because that may be what has failed.
    with contextlib.suppress(OSError):
        for name in (SUMMARY_FILE, MANIFEST_FILE, SHIPPER_LOCK, WRITER_LOCK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _segment_bytes(folder: Path) -> int:
    """Return the bytes of the segments in ``folder``. One that vanishes counts as 0."""
    total = 0
    # Other processes settle segments and remove folders at any time.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.glob(f"*{SEGMENT_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
    return total


class DestinationFolder:
    """All files of one destination, of all processes of this host."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dead_path = path / _DEAD
        self.unpriced_path = path / _UNPRICED

    @property
    def exists(self) -> bool:
        """Whether a process has made the folder yet."""
        return self.path.is_dir()

    @property
    def meta(self) -> DestinationMeta | None:
        """The destination's address and format. None if they cannot be read."""
        try:
            content = (self.path / _META).read_bytes()
            return msgspec.json.decode(content, type=DestinationMeta)
        except (OSError, msgspec.DecodeError):
            return None

    def prepare(self, *, base_url: str, namespace: str | None, now_ms: int) -> None:
        """Create the folder with its ``meta.json``, or check the existing one.

        Raises:
            JournalError: A newer outlay owns the folder.
            OSError: It cannot be created or written to.
        """
        for folder in (self.path.parent, self.path, self.dead_path):
            _make_folder(folder)
        self.path.chmod(_FOLDER_MODE)
        if (self.path / _META).exists():
            self.check_format()
            return
        meta = DestinationMeta(
            FORMAT_VERSION, base_url, namespace, format_rfc3339(now_ms)
        )
        # Written under another name and renamed, so that no reader gets half of it.
        aside = self.path / f"{_NEW_PREFIX}{os.urandom(_RANDOM_BYTES).hex()}"
        descriptor = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE)
        try:
            # Not by a file object: making one imports, which an exiting process cannot.
            os.write(descriptor, msgspec.json.format(msgspec.json.encode(meta)))
            aside.rename(self.path / _META)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def check_format(self) -> None:
        """Refuse a folder that a newer outlay owns.

        Raises:
            JournalError: One does.
        """
        meta = self.meta  # if it is unreadable, the segments carry the version too
        if meta is not None and meta.format_version > FORMAT_VERSION:
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

    def staged_path(self, name: str) -> Path:
        """Return where a command prepares the writer's folder ``name``."""
        return self.path / f"{_STAGED_PREFIX}{name}"

    def staged(self) -> dict[Path, Path]:
        """Return the folders that commands prepare, and where they go from there."""
        found = sorted(self.path.glob(f"{_STAGED_PREFIX}*"))
        return {
            path: self.path / path.name.removeprefix(_STAGED_PREFIX) for path in found
        }

    def merging_path(self, name: str) -> Path:
        """Return where small folders are merged into the writer's folder ``name``."""
        return self.path / f"{_MERGING_PREFIX}{name}"

    def merging(self) -> list[Path]:
        """Return the folders in which small folders are merged, or were at a kill."""
        return sorted(self.path.glob(f"{_MERGING_PREFIX}*"))

    def used_bytes(self) -> int:
        """Return the bytes of all segments of all writers."""
        return sum(map(_segment_bytes, self.writers()))

    def check_room(self, size: int, max_bytes: int) -> None:
        """Refuse another segment of ``size`` bytes past the limit.

        Raises:
            JournalFullError: The folder would exceed ``max_bytes``.
        """
        used = self.used_bytes()
        if used + size > max_bytes:
            raise JournalFullError(
                f"the journal holds {used} of max_journal_bytes={max_bytes} bytes; "
                "bring the server back, or raise OUTLAY_MAX_JOURNAL_BYTES"
            )
