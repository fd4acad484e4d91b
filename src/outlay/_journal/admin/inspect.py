"""Looking into a journal folder while its writers run: no lock, not a byte written.

Segments are mapped for reading only, and events copied out of them. What the folder
holds changes meanwhile, so the picture is one of a moment. No event is in it twice.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from outlay._journal import folders, frames
from outlay._journal.admin.lock_owners import LockOwners
from outlay._journal.dead_letters import DeadLetter
from outlay._journal.folders import SEGMENT_SUFFIX, DestinationFolder, DestinationMeta
from outlay._journal.frames import (
    FORMAT_VERSION,
    SEGMENT_HEADER_BYTES,
    SETTLED,
    AttemptStamp,
    CorruptRange,
    Frame,
    FrameState,
)
from outlay._model.clock import format_rfc3339
from outlay._model.events import add_key
from outlay.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

STATE_PREFIXES: Final = {
    "dead": b'{"kind":"dead"',
    "quarantined": b'{"kind":"quarantined"',
    "resent": b'{"kind":"sent"',
}
"""How the line of a dead letter begins, by its state. No opening is longer than that
of a state it may follow, so that a new one can be stored in place."""

_META: Final = "meta.json"


class UnreadableItem(NamedTuple):
    """Something that could not be read, which is left as it is."""

    location: str
    text: str


OnProblem: TypeAlias = Callable[[UnreadableItem], None]


class StoredEvent(NamedTuple):
    """An event that lies in the journal folder, and where.

    Attributes:
        state: ``pending``, ``parked``, ``quarantined`` or ``dead``; in a history also
            ``delivered`` and ``resent``.
        reason: of a dead letter its own; else what its attempts came to: ``new``
            without one, ``not_counted`` if none can have been, ``in_doubt`` if one at
            least had no answer, ``age_unknown`` if the journal lost when.
        payload: the request body.
        attempts: attempts in all.
        first_attempt_at: RFC 3339, UTC, of the first that may have been counted.
        place: segment and offset, or the file of dead letters and the offset in it.
        message: why it was refused or quarantined.
        buried_at: RFC 3339, UTC, for dead letters.
    """

    state: str
    reason: str
    payload: bytes
    attempts: int
    first_attempt_at: str | None
    location: str
    message: str = ""
    buried_at: str | None = None

    @property
    def digest(self) -> bytes:
        """What tells events apart that differ in a byte: 128 bits of BLAKE2b."""
        return blake2b(self.payload, digest_size=16).digest()

    @property
    def may_have_been_counted(self) -> bool:
        """Whether sending it again could count it twice."""
        return self.state == "quarantined" or self.first_attempt_at is not None


class DeadLetterLine(NamedTuple):
    """One line in a file of dead letters."""

    path: Path
    offset: int
    line: bytes
    event: StoredEvent


class WriterInfo(NamedTuple):
    """The folder of one writing process.

    Attributes:
        path: the folder.
        holder: the process that ships its events: the writer itself, the heir of a
            dead one, or an agent. None: nobody does. See `Holders`.
        process: the one that may append: the writer itself, or the heir of a dead one.
            None: it is dead.
        segment_count: files in it.
        size: bytes of them on disk.
    """

    path: Path
    holder: int | None
    process: int | None
    segment_count: int
    size: int

    @property
    def is_dead(self) -> bool:
        """Whether its events wait for an heir."""
        return self.holder is None and self.process is None

    @property
    def is_unattended(self) -> bool:
        """Whether it lives, and its events wait for an agent."""
        return self.holder is None and self.process is not None


def find_journal_dir(given: Path | None) -> Path:
    """Return the folder that a client with the setting ``given`` uses.

    Without a setting that is the platform's state folder, or, where that cannot be
    made, a private one under the system's temporary folder.
    """
    if given is not None:
        return given
    usual = folders.default_journal_dir()
    fallback = folders.fallback_journal_dir()
    return fallback if _is_there(fallback) and not _is_there(usual) else usual


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except PermissionError:  # so it is for the client
        return False


def destinations(journal_dir: Path) -> list[DestinationView]:
    """Return a view of every destination in a journal folder.

    Raises:
        OSError: the folder cannot be read; one that does not exist is merely empty.
    """
    if not journal_dir.exists():
        return []
    found = [path for path in sorted(journal_dir.iterdir()) if path.is_dir()]
    return [DestinationView(path) for path in found if not path.name.startswith(".")]


class DestinationView:
    """What is kept for one destination, seen from outside.

    Thread safety: any thread; it has no state but the folder's path.
    """

    def __init__(self, path: Path) -> None:
        self.folder = DestinationFolder(path)

    @property
    def digest(self) -> str:
        """The folder's name, which tells destinations apart."""
        return self.folder.path.name

    @property
    def meta(self) -> DestinationMeta | None:
        """Where its events go; None if nobody can tell any more."""
        try:
            content = (self.folder.path / _META).read_bytes()
            return msgspec.json.decode(content, type=DestinationMeta)
        except (OSError, msgspec.DecodeError):
            return None

    def writers(self) -> list[WriterInfo]:
        """Return the folders of all writers, oldest first."""
        holders = LockOwners.read()
        return [
            _writer_info(path, holders)
            for path in self.folder.writers()
            if path.is_dir()  # not what somebody else put there
        ]

    def events(self, on_problem: OnProblem) -> Iterator[StoredEvent]:
        """Yield every event that is not delivered: pending ones, then dead letters.

        Each once: a crash while an event was buried, or put back, leaves it in its
        segment and among the dead letters, too. It is pending then, as it is for the
        next shipper. Two letters with the same bytes are one event.
        """
        buried = {letter.event.digest for letter in self.letters(_skip)}
        seen = set()
        for event in self._in_segments(on_problem):
            if event.state not in _SETTLED:
                yield event
                if buried and (digest := event.digest) in buried:
                    seen.add(digest)
        for letter in self.letters(on_problem):
            digest = letter.event.digest
            if letter.event.state != "resent" and digest not in seen:
                seen.add(digest)
                yield letter.event

    def history(self, key: str, on_problem: OnProblem) -> Iterator[StoredEvent]:
        """Yield all traces of the event with the idempotency key ``key``.

        Delivered and resent ones, too, as long as their file is there.
        """
        needle = msgspec.json.encode(key)
        letters = (letter.event for letter in self.letters(on_problem))
        for events in (self._in_segments(on_problem), letters):
            for event in events:
                if needle in event.payload and _key_of(event.payload) == key:
                    yield event

    def letters(self, on_problem: OnProblem) -> Iterator[DeadLetterLine]:
        """Yield the dead letters, resent ones included."""
        for path in self.letter_files():
            yield from read_letters(path, on_problem)

    def letter_files(self) -> list[Path]:
        """Return the files of dead letters."""
        return sorted(self.folder.dead_path.glob("*.jsonl"))

    def damaged_files(self) -> list[Path]:
        """Return the files of bytes that were no frame, or no event any more."""
        return sorted(self.folder.dead_path.glob("*.damaged"))

    def _in_segments(self, on_problem: OnProblem) -> Iterator[StoredEvent]:
        for writer in self.writers():
            for path in sorted(writer.path.glob(f"*{SEGMENT_SUFFIX}")):
                for frame in _read_segment(path, on_problem, finished=writer.is_dead):
                    yield StoredEvent(
                        FrameState(frame.state).name.lower(),
                        _attempt_reason(frame.stamp),
                        add_key(frame.payload),
                        frame.stamp.attempts,
                        _instant(frame.stamp.first_attempt_ms),
                        f"{_location(path)}@{frame.offset}",
                    )


_SETTLED: Final = frozenset(state.name.lower() for state in SETTLED)


def _skip(problem: UnreadableItem) -> None:
    """Look away: somebody else reports it."""


def _location(path: Path) -> str:
    """Return the path of a segment or file, from its destination on."""
    return f"{path.parent.name}/{path.name}"


def _attempt_reason(stamp: AttemptStamp) -> str:
    if stamp.first_attempt_ms is None:
        return "age_unknown"
    if stamp.first_attempt_ms:
        return "in_doubt"
    return "not_counted" if stamp.attempts else "new"


def _instant(first_attempt_ms: int | None) -> str | None:
    return format_rfc3339(first_attempt_ms) if first_attempt_ms else None


class _Keyed(msgspec.Struct, rename="camel"):
    idempotency_key: str = ""


def _key_of(payload: bytes) -> str:
    try:
        return msgspec.json.decode(payload, type=_Keyed).idempotency_key
    except msgspec.DecodeError:
        return ""


# Segments.


def _read_segment(
    path: Path, on_problem: OnProblem, *, finished: bool
) -> Iterator[Frame]:
    """Yield the frames of a segment, in whatever state.

    Args:
        path: the segment.
        on_problem: told of what is no frame.
        finished: whether nobody appends any more, even if it was never sealed.
    """
    try:
        memory = _map(path)
    except FileNotFoundError:
        return  # settled and deleted meanwhile
    except OSError as error:  # and a JournalError is one
        on_problem(UnreadableItem(_location(path), str(error)))
        return
    with memory:
        final = finished or frames.is_sealed(memory)
        offset, limit = SEGMENT_HEADER_BYTES, len(memory)
        while found := frames.read_frame(memory, offset, limit, final=final):
            if isinstance(found, CorruptRange):
                text = f"{found.end - offset} bytes at {offset} are no event"
                on_problem(UnreadableItem(_location(path), text))
            else:
                yield found
            offset = found.end


def _map(path: Path) -> mmap.mmap:
    """Map a segment for reading.

    Raises:
        JournalError: it is not one, or a newer outlay wrote it.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < SEGMENT_HEADER_BYTES:
            raise JournalError("is too short to be a segment, and holds no event")
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    version = frames.format_version(memory)
    if version is not None and version > FORMAT_VERSION:
        memory.close()
        raise JournalError(
            f"has journal format {version}, this outlay reads up to {FORMAT_VERSION}; "
            "upgrade outlay to see its events"
        )
    return memory


# Dead letters.


def read_letters(path: Path, on_problem: OnProblem) -> Iterator[DeadLetterLine]:
    """Yield the dead letters of one file, resent ones included."""
    offset = 0
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return  # deleted meanwhile
    with file:
        for line in file:
            if letter := _read_letter(path, offset, line, on_problem):
                yield letter
            offset += len(line)


def _read_letter(
    path: Path, offset: int, line: bytes, on_problem: OnProblem
) -> DeadLetterLine | None:
    if not line.strip():
        return None  # deleted on request
    state = next(
        (s for s, opening in STATE_PREFIXES.items() if line.startswith(opening)), ""
    )
    # Whatever it was resent from, the rest of the line is what it was.
    opening = STATE_PREFIXES["dead"] if state == "resent" else b""
    try:
        read = msgspec.json.decode(opening + line[len(opening) :], type=DeadLetter)
    except msgspec.DecodeError:
        state = ""
        read = None
    if read is None or not state:
        on_problem(
            UnreadableItem(
                f"{_location(path)}@{offset}", "is no dead letter of outlay's"
            )
        )
        return None
    event = StoredEvent(
        state,
        read.reason,
        bytes(read.event),
        read.attempts,
        read.first_attempt_at,
        f"{_location(path)}@{offset}",
        read.message,
        read.recorded_at,
    )
    return DeadLetterLine(path, offset, line, event)


def size_of(path: Path) -> int:
    """Return a file's bytes; 0 for one that was deleted meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


# Writers.


def _writer_info(path: Path, holders: LockOwners) -> WriterInfo:
    sizes = [size_of(segment) for segment in path.glob(f"*{SEGMENT_SUFFIX}")]
    return WriterInfo(
        path, holders.shipper_of(path), holders.writer_of(path), len(sizes), sum(sizes)
    )
