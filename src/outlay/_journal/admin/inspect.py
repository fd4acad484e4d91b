"""Read a journal folder while its writers run, without a lock and without a write.

The bytes of segments are copied, and not mapped: a file that is cut meanwhile would
kill the process that has it mapped. The folder changes meanwhile, so the result is a
picture of one moment. No event is in it twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from outlay._journal import folders, frames, marked_lines
from outlay._journal.admin.lock_owners import LockOwners
from outlay._journal.dead_letters import RESENT, DeadLetter
from outlay._journal.folders import MANIFEST_FILE, SEGMENT_SUFFIX, DestinationFolder
from outlay._journal.frames import (
    FORMAT_VERSION,
    SEGMENT_HEADER_BYTES,
    SETTLED,
    AttemptStamp,
    CorruptRange,
    Frame,
    FrameState,
)
from outlay._journal.merging import undecided_sources
from outlay._model.clock import format_rfc3339, to_ms
from outlay._model.events import add_key
from outlay._model.unpriced_cost import UNSETTLED_STATES, UnpricedCost
from outlay.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

    from outlay._journal.folders import DestinationMeta
    from outlay._journal.marked_lines import MarkedLine

_Record = TypeVar("_Record", DeadLetter, UnpricedCost)
_SETTLED: Final = frozenset(state.name.lower() for state in SETTLED)


class UnreadableItem(NamedTuple):
    """An item that could not be read. It is left as it is."""

    location: str
    text: str


OnProblem: TypeAlias = Callable[[UnreadableItem], None]


class StoredEvent(NamedTuple):
    """An event in the journal folder, and its location.

    Attributes:
        state: ``pending``, ``parked``, ``quarantined`` or ``dead``. In a history also
            ``delivered`` and ``resent``.
        reason: The reason of a dead letter. For others, the outcome of their attempts.
            ``new``: there was none. ``not_counted``: none can have been counted.
            ``in_doubt``: at least one had no response. ``age_unknown``: the journal
            lost its time.
        payload: The request body.
        attempts: The number of attempts, of all processes.
        first_attempt_at: The time of the first attempt that may have been counted, as
            RFC 3339 in UTC.
        location: The segment and the offset, or the file of dead letters and the offset
            in it.
        message: The reason for people, of dead letters. Defaults to an empty string.
        recorded_at: The time at which a dead letter was written, as RFC 3339 in UTC.
            Defaults to None.
    """

    state: str
    reason: str
    payload: bytes
    attempts: int
    first_attempt_at: str | None
    location: str
    message: str = ""
    recorded_at: str | None = None

    @property
    def digest(self) -> bytes:
        """128 bits of BLAKE2b, which differ if a byte of the event differs."""
        return blake2b(self.payload, digest_size=16).digest()

    @property
    def may_have_been_counted(self) -> bool:
        """Whether sending it again could count it twice."""
        return self.state == "quarantined" or self.first_attempt_at is not None


class DeadLetterLine(NamedTuple):
    """A line in a file of dead letters, and its event."""

    line: MarkedLine
    event: StoredEvent


class UnpricedLine(NamedTuple):
    """A line in a file of unpriced costs, and its cost."""

    line: MarkedLine
    cost: UnpricedCost

    @property
    def path(self) -> Path:
        """The file."""
        return self.line.path

    @property
    def location(self) -> str:
        """The file and the offset in it, for people."""
        return self.line.location

    @property
    def in_doubt_since_ms(self) -> int | None:
        """The first time at which its event may have been sent, in ms since 1970.

        A process was killed while it replaced the cost by the event. That was not
        before the cost was stored. None, if no process was.
        """
        if self.cost.state != "replacing":
            return None
        return to_ms(datetime.fromisoformat(self.cost.kept_at))


class WriterInfo(NamedTuple):
    """The folder of one writing process.

    Attributes:
        path: The folder.
        holder: The id of the process that ships its events: the writer itself, the
            adopter of a dead one, or an agent. None if there is none. See `LockOwners`.
        process: The id of the process that may append: the writer itself, or the
            adopter of a dead one. None if the writer is dead.
        segment_count: The number of its segments.
        size: The bytes of its segments on disk.
    """

    path: Path
    holder: int | None
    process: int | None
    segment_count: int
    size: int

    @property
    def is_dead(self) -> bool:
        """Whether its events wait for an adopter."""
        return self.holder is None and self.process is None

    @property
    def is_unattended(self) -> bool:
        """Whether its writer is alive, and its events wait for an agent."""
        return self.holder is None and self.process is not None


def find_journal_dir(given: Path | None) -> Path:
    """Return the folder that a client uses.

    Args:
        given: The setting ``journal_dir``. If None, the platform's state folder, or a
            private one under the system's temporary folder if that cannot be made.
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
        OSError: The folder cannot be read. One that does not exist is merely empty.
    """
    if not journal_dir.exists():
        return []
    found = [path for path in sorted(journal_dir.iterdir()) if path.is_dir()]
    return [DestinationView(path) for path in found if not path.name.startswith(".")]


class DestinationView:
    """The files of one destination, seen from outside.

    Thread safety: any thread. It has no state but the folder's path.
    """

    def __init__(self, path: Path) -> None:
        self.folder = DestinationFolder(path)

    @property
    def digest(self) -> str:
        """The folder's name, which is different for each destination."""
        return self.folder.path.name

    @property
    def meta(self) -> DestinationMeta | None:
        """The destination's address and format. None if they cannot be read."""
        return self.folder.meta

    def writers(self) -> list[WriterInfo]:
        """Return the folders of all writers, oldest first."""
        # Not a file that a person put there.
        paths = [path for path in self.folder.writers() if path.is_dir()]
        # After the folders: each was locked before it could be listed. The locks of a
        # moment before lack those of a new writer, which would seem to be dead.
        owners = LockOwners.read()
        return [_writer_info(path, owners) for path in paths]

    def events(self, on_problem: OnProblem) -> Iterator[StoredEvent]:
        """Yield every event that is not delivered: pending ones, then dead letters.

        Each once. A crash can leave an event in a segment and among the dead letters,
        while it moves from one to the other. It is pending then, as it is for the next
        shipper. Two letters with the same bytes are one event.
        """
        dead = {letter.event.digest for letter in self.letters(_skip)}
        seen = set()
        for event in self._in_segments(on_problem):
            if event.state not in _SETTLED:
                yield event
                if dead and (digest := event.digest) in dead:
                    seen.add(digest)
        for letter in self.letters(on_problem):
            digest = letter.event.digest
            if letter.event.state != "resent" and digest not in seen:
                seen.add(digest)
                yield letter.event

    def history(self, key: str, on_problem: OnProblem) -> Iterator[StoredEvent]:
        """Yield all traces of the event with the idempotency key ``key``.

        Delivered and resent ones too, as long as their file exists.
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
        return marked_lines.paths_in(self.folder.dead_path)

    def damaged_files(self) -> list[Path]:
        """Return the files of bytes that were no frame, or no event any more."""
        return sorted(self.folder.dead_path.glob("*.damaged"))

    def unpriced(self, on_problem: OnProblem) -> Iterator[UnpricedLine]:
        """Yield the costs of all processes that wait for a price, oldest file first."""
        for path in marked_lines.paths_in(self.folder.unpriced_path):
            for cost in read_unpriced_file(path, on_problem):
                if cost.cost.state in UNSETTLED_STATES:
                    yield cost

    def _in_segments(self, on_problem: OnProblem) -> Iterator[StoredEvent]:
        for folder, finished in self._event_folders():
            for path in sorted(folder.glob(f"*{SEGMENT_SUFFIX}")):
                for frame in _read_segment(path, on_problem, finished=finished):
                    yield StoredEvent(
                        FrameState(frame.state).name.lower(),
                        _attempt_reason(frame.stamp),
                        add_key(frame.payload),
                        frame.stamp.attempts,
                        _instant(frame.stamp.first_attempt_ms),
                        f"{_location(path)}@{frame.offset}",
                    )

    def _event_folders(self) -> Iterator[tuple[Path, bool]]:
        """Yield the folders of segments, and whether their writer is dead."""
        for writer in self.writers():
            yield writer.path, writer.is_dead
        for path in self.folder.staged():
            if (path / MANIFEST_FILE).exists():  # decided: the next command ships it
                yield path, True
        for merging in self.folder.merging():
            for path in undecided_sources(merging):
                yield path, True


def _skip(problem: UnreadableItem) -> None:
    """Skip a problem that another reading reports."""


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
    """Yield the frames of a segment, in any state.

    Args:
        path: The segment.
        on_problem: A function that is called with each item that is no frame.
        finished: Whether its writer is dead, even if it was never sealed.
    """
    try:
        content = _read_bytes(path)
    except FileNotFoundError:
        return  # settled and deleted meanwhile
    except OSError as error:  # and a JournalError is one
        on_problem(UnreadableItem(_location(path), str(error)))
        return
    final = finished or frames.is_sealed(content)
    offset, limit = SEGMENT_HEADER_BYTES, len(content)
    while found := frames.read_frame(content, offset, limit, final=final):
        if isinstance(found, CorruptRange):
            text = f"{found.end - offset} bytes at {offset} are no event"
            on_problem(UnreadableItem(_location(path), text))
        else:
            yield found
        offset = found.end


def _read_bytes(path: Path) -> bytearray:
    """Return the bytes of a segment.

    Raises:
        JournalError: It is none, or a newer outlay wrote it.
        OSError: It cannot be opened.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < SEGMENT_HEADER_BYTES:
            raise JournalError("is too short to be a segment, and holds no event")
        content = bytearray(size)
        del content[file.readinto(content) :]
    version = frames.format_version(content)
    if version is not None and version > FORMAT_VERSION:
        raise JournalError(
            f"has journal format {version}, this outlay reads up to {FORMAT_VERSION}; "
            "upgrade outlay to see its events"
        )
    return content


# Lines.


def read_letters(path: Path, on_problem: OnProblem) -> Iterator[DeadLetterLine]:
    """Yield the dead letters of one file, resent ones included."""
    for line in marked_lines.read(path):
        letter = _decode(line, DeadLetter)
        if letter is None or letter.kind != line.state:
            text = "is no dead letter of outlay"
            on_problem(UnreadableItem(line.location, text))
            continue
        event = StoredEvent(
            "resent" if letter.kind == RESENT else letter.kind,
            letter.reason,
            bytes(letter.event),
            letter.attempts,
            letter.first_attempt_at,
            line.location,
            letter.message,
            letter.recorded_at,
        )
        yield DeadLetterLine(line, event)


def read_unpriced_file(path: Path, on_problem: OnProblem) -> Iterator[UnpricedLine]:
    """Yield the unpriced costs of one file, in any state."""
    for line in marked_lines.read(path):
        cost = _decode(line, UnpricedCost)
        if cost is None or cost.state != line.state:
            # Also the line that a living process is about to finish.
            text = "is no unpriced cost of outlay"
            on_problem(UnreadableItem(line.location, text))
            continue
        yield UnpricedLine(line, cost)


def _decode(line: MarkedLine, kind: type[_Record]) -> _Record | None:
    try:
        return msgspec.json.decode(line.content, type=kind)
    except msgspec.DecodeError:
        return None


# Writers.


def size_of(path: Path) -> int:
    """Return a file's bytes, or 0 if it was deleted meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _writer_info(path: Path, owners: LockOwners) -> WriterInfo:
    sizes = [size_of(segment) for segment in path.glob(f"*{SEGMENT_SUFFIX}")]
    return WriterInfo(
        path, owners.shipper_of(path), owners.writer_of(path), len(sizes), sum(sizes)
    )
