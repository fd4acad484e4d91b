"""What a person may change in a journal folder: put back, delete, move.

Nothing here touches a pending event, and nothing is lost by a kill at any instruction:
an event is in its new place before its old one is given up, so what a crash leaves
behind is the same bytes, with the same key, twice.

Dead letters are changed in place, for a living writer may append to the same file. A
file is deleted only under the locks that whoever writes to it would hold.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._journal import folders, frames, segments
from outlay._journal.admin.inspect import STATE_PREFIXES, read_letters
from outlay._journal.folders import PART_SUFFIX, Lock, WriterFolder
from outlay._journal.frames import (
    FORMAT_VERSION,
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    align_up,
)
from outlay._journal.segments import SegmentWriter, SyncFile
from outlay.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from outlay._journal.admin.inspect import (
        DeadLetterLine,
        DestinationView,
        UnreadableItem,
    )
    from outlay._journal.folders import DestinationFolder

CHUNK_LETTERS: Final = 256
"""Put back by one sync to disk. At 256 KiB an event, the most that is in memory is
64 MiB; at the usual 400 bytes a sync, some milliseconds, is shared by enough."""

_LOCK: Final = "commands.lock"
_NEVER: Final[Mapping[bytes, int | None]] = MappingProxyType({})
_WRITER: Final = re.compile(r"\d{13}-\d+-[0-9a-f]{8}")  # see WriterFolder.create


class ResendResult(NamedTuple):
    """What `put_back` did.

    Attributes:
        events: how many events are pending again.
        waiting: how many were already, and only their letters were marked: a crash
            had kept an earlier command from it.
    """

    events: int
    waiting: int


class PurgeResult(NamedTuple):
    """What `delete` did.

    Attributes:
        letters: how many dead letters are gone.
        files: how many files are gone with them, damaged bytes among them.
        busy: files that stay, emptied, until those who may write to them have ended.
    """

    letters: int
    files: int
    busy: int


class MoveResult(NamedTuple):
    """What `move` did.

    Attributes:
        writers: how many dead writers' folders were moved.
        busy: how many stay, because somebody ships their events.
        files: how many files of dead letters and damaged bytes were moved.
    """

    writers: int
    busy: int
    files: int


def resend(
    view: DestinationView,
    wanted: Callable[[DeadLetterLine], bool],
    *,
    now_ms: int,
    max_journal_bytes: int,
) -> ResendResult:
    """Make dead letters pending events again, byte for byte, as if never attempted.

    They are on disk, and then their letters are marked, before anybody can ship them.

    Args:
        view: the destination.
        wanted: chooses the letters.
        now_ms: wall time.
        max_journal_bytes: the destination's limit.

    Raises:
        JournalFullError: there is no room for them; see `PutBack` for what is left.
        JournalError: another command is at work, the letters were edited meanwhile, or
            a newer outlay owns the folder.
        OSError: the disk failed.
    """
    with exclusive(view):
        known = _already_pending(view, wanted)
        waiting = len(known)
        folder = WriterFolder.create(view.folder.path, now_ms)
        try:
            for number, chunk in enumerate(_chunks(_selected(view, wanted)), 1):
                fresh = {letter.event.digest: letter.event.payload for letter in chunk}
                payloads = [fresh[digest] for digest in fresh if digest not in known]
                known |= fresh.keys()
                if payloads:
                    size = segment_size(payloads)
                    view.folder.check_room(size, max_journal_bytes)
                    write_segment(folder.segment_path(number), payloads, size, now_ms)
                # Only now: until here, a crash leaves them as they were.
                for letter in chunk:
                    _overwrite(letter, _resent_opening(letter))
        finally:
            folder.release()
        return ResendResult(len(known) - waiting, waiting)


def purge(
    view: DestinationView, wanted: Callable[[DeadLetterLine], bool], *, damaged: bool
) -> PurgeResult:
    """Delete dead letters, and bytes that are no event; never what is pending.

    Letters are blanked at once. A file is removed when no letter is left in it and
    nobody can write to it any more.

    Args:
        view: the destination.
        wanted: chooses the letters.
        damaged: whether damaged bytes go, too, and lines that are no letters.

    Raises:
        JournalError: another command is at work, the letters were edited meanwhile, or
            a newer outlay owns the folder.
        OSError: the disk failed.
    """
    with exclusive(view):
        letters = 0
        for letter in _selected(view, wanted):
            _overwrite(letter, b" " * len(letter.line.rstrip(b"\n")))
            letters += 1
        spent = [
            path for path in view.letter_files() if _is_empty(path, damaged=damaged)
        ]
        if damaged:
            spent += view.damaged_files()
        files = sum(_unlink(view.folder, path) for path in spent)
        return PurgeResult(letters, files, len(spent) - files)


def move_orphans(source: DestinationView, target: DestinationFolder) -> MoveResult:
    """Move what dead writers left for one destination to another.

    Whether the events belong there is for the caller to know.

    Args:
        source: where they are.
        target: where they go; prepared.

    Raises:
        JournalError: another command is at work, or a newer outlay owns the folder.
        OSError: a folder cannot be moved.
    """
    with exclusive(source):
        writers = busy = 0
        for path in source.folder.writers():
            writer = WriterFolder.adopt(path)
            if writer is None:
                busy += path.is_dir()
                continue
            try:
                # The locks move with the folder: whoever waits for one finds, once it
                # has it, that the other is not there any more.
                path.rename(target.path / path.name)
            finally:
                writer.close()
            writers += 1
        files = [*source.letter_files(), *source.damaged_files()]
        moved = sum(_move_file(source.folder, path, target.dead_path) for path in files)
        return MoveResult(writers, busy, moved)


@contextlib.contextmanager
def exclusive(view: DestinationView) -> Iterator[None]:
    """Keep other commands from changing the same dead letters meanwhile."""
    meta = view.meta
    if meta is not None and meta.format_version > FORMAT_VERSION:
        raise JournalError(
            f"{view.folder.path} was made by a newer outlay (journal format "
            f"{meta.format_version}, this one knows {FORMAT_VERSION}); upgrade outlay"
        )
    lock = Lock(view.folder.dead_path / _LOCK)
    try:
        if not lock.acquire():
            raise JournalError(
                f"another command changes what is kept in {view.folder.path}; wait for "
                "it, then try again"
            )
        yield
    finally:
        lock.close()


@contextlib.contextmanager
def _locked_against_writers(folder: DestinationFolder, file: Path) -> Iterator[bool]:
    """Hold the locks without which nobody writes to a file of dead letters.

    Returns whether that worked: nobody writes to it, then, until the end. A writer's
    file is its own. One named otherwise belongs to some heir, who holds at least one
    folder while it buries an event out of it.
    """
    named = _WRITER.match(file.name)
    authors = [folder.path / named[0]] if named else list(folder.writers())
    with contextlib.ExitStack() as held:
        for path in authors:
            author = WriterFolder.adopt(path)
            if author is not None:
                held.callback(author.close)
            elif path.is_dir():
                yield False
                return
        yield True


def _unlink(folder: DestinationFolder, file: Path) -> bool:
    with _locked_against_writers(folder, file) as free:
        if free:
            file.unlink(missing_ok=True)
        return free


def _move_file(folder: DestinationFolder, file: Path, to: Path) -> bool:
    with _locked_against_writers(folder, file) as free:
        # Names are never used twice; a copy by hand must not be overwritten, either.
        if not free or (to / file.name).exists():
            return False
        file.rename(to / file.name)
        return True


def _ignore(problem: UnreadableItem) -> None:
    """Look away: what cannot be read is left as it is."""


def _selected(
    view: DestinationView, wanted: Callable[[DeadLetterLine], bool]
) -> Iterator[DeadLetterLine]:
    for letter in view.letters(_ignore):
        if letter.event.state != "resent" and wanted(letter):
            yield letter


def _chunks(letters: Iterator[DeadLetterLine]) -> Iterator[list[DeadLetterLine]]:
    while chunk := list(itertools.islice(letters, CHUNK_LETTERS)):
        yield chunk


def _already_pending(
    view: DestinationView, wanted: Callable[[DeadLetterLine], bool]
) -> set[bytes]:
    """Return which of the wanted events are pending, as a crash may leave them."""
    buried = {letter.event.digest for letter in _selected(view, wanted)}
    pending = (event for event in view.events(_ignore) if event.buried_at is None)
    return {event.digest for event in pending if event.digest in buried}


def segment_size(payloads: Sequence[bytes]) -> int:
    frames = sum(align_up(FRAME_HEADER_BYTES + len(payload)) for payload in payloads)
    return SEGMENT_HEADER_BYTES + frames


def write_segment(
    path: Path,
    payloads: Sequence[bytes],
    size: int,
    now_ms: int,
    *,
    attempted: Mapping[bytes, int | None] = _NEVER,
) -> None:
    """Return when a new segment with these events is on the disk.

    Args:
        path: of the segment.
        payloads: of the events.
        size: see `segment_size`.
        now_ms: wall time.
        attempted: when an event may first have been sent, wall time in ms, by payload.
    """
    memory = segments.create_file(path, size, now_ms)
    writer = SegmentWriter(path.name, memory, durable=True, file=SyncFile(path))
    for payload in payloads:
        offset, first_ms = writer.tail, attempted.get(payload)
        writer.append(payload)
        if first_ms is not None:
            frames.write_stamp(memory, offset, frames.pack_stamp(first_ms, 1))
    writer.sync()
    for folder in (path.parent, path.parent.parent):
        folders.sync_folder(folder)  # a file without a name is lost, too


def write_segment_atomically(
    path: Path,
    payloads: Sequence[bytes],
    size: int,
    now_ms: int,
    *,
    attempted: Mapping[bytes, int | None],
) -> None:
    """Do what `write_segment` does; after a kill there are all of the events, or none.

    Raises:
        OSError: the disk failed; there are none.
    """
    part = path.with_name(f"{path.name}{PART_SUFFIX}")
    try:
        write_segment(part, payloads, size, now_ms, attempted=attempted)
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    folders.sync_folder(path.parent)


def _resent_opening(letter: DeadLetterLine) -> bytes:
    opening, mark = STATE_PREFIXES[letter.event.state], STATE_PREFIXES["resent"]
    return mark + b" " * (len(opening) - len(mark))  # JSON forgives blanks


def _overwrite(letter: DeadLetterLine, content: bytes) -> None:
    """Store other bytes at the start of a letter, if it is still there."""
    descriptor = os.open(letter.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.pread(descriptor, len(letter.line), letter.offset) != letter.line:
            raise JournalError(f"{letter.path} was edited meanwhile; try again")
        os.pwrite(descriptor, content, letter.offset)
    finally:
        os.close(descriptor)


def _is_empty(path: Path, *, damaged: bool) -> bool:
    """Return whether nothing is left in a file of dead letters."""
    problems: list[UnreadableItem] = []
    letters = [letter.event.state for letter in read_letters(path, problems.append)]
    return {*letters} <= {"resent"} and (damaged or not problems)
