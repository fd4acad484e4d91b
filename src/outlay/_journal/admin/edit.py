"""Change a journal folder for a person: resend, reprice, discard, purge, move.

Nothing here touches a pending event, and a kill at any instruction loses nothing.

Lines are changed in place, because a living writer may append to the same file. A file
is deleted only under the locks that its writers would hold.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from outlay._journal import marked_lines
from outlay._journal.admin.commit import Replacement, commit, exclusive
from outlay._journal.admin.inspect import read_letters, read_unpriced_file
from outlay._journal.dead_letters import RESENT
from outlay._journal.folders import WriterFolder
from outlay._journal.locks import Lock
from outlay._model.unpriced_cost import UNSETTLED_STATES
from outlay.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from outlay._journal.admin.inspect import (
        DeadLetterLine,
        DestinationView,
        UnpricedLine,
        UnreadableItem,
    )
    from outlay._journal.folders import DestinationFolder

CHUNK_LETTERS: Final = 256
"""The number of events that share one sync to disk. At 256 KiB an event, the most that
is in memory is 64 MiB. At the usual 400 bytes, a sync of some milliseconds is shared by
enough."""

_T = TypeVar("_T")
_WRITER: Final = re.compile(r"\d{13}-\d+-[0-9a-f]{8}")  # see new_writer_name


class ResendResult(NamedTuple):
    """The result of `resend`.

    Attributes:
        events: The number of events that became pending again.
        waiting: The number of events that were pending already, because a crash kept
            their writer from settling them. Only their letters were marked.
    """

    events: int
    waiting: int


class PurgeResult(NamedTuple):
    """The result of `purge`.

    Attributes:
        letters: The number of dead letters that were deleted.
        files: The number of files that were deleted, those of damaged bytes included.
        busy: The number of emptied files that stay until their writers have ended.
    """

    letters: int
    files: int
    busy: int


class MoveResult(NamedTuple):
    """The result of `move_orphans`.

    Attributes:
        writers: The number of dead writers' folders that were moved.
        busy: The number of folders that stay, because a process ships their events.
        files: The number of files of dead letters and damaged bytes that were moved.
    """

    writers: int
    busy: int
    files: int


class PricedEvent(NamedTuple):
    """An event, and the unpriced costs that it is of.

    They are several, if several processes captured the same operation.
    """

    event: bytes
    lines: Sequence[UnpricedLine]

    @property
    def in_doubt_since_ms(self) -> int | None:
        """The first time at which the event may have been sent, in ms since 1970."""
        known = [line.in_doubt_since_ms for line in self.lines]
        return min((since for since in known if since is not None), default=None)


def resend(
    view: DestinationView,
    wanted: Callable[[DeadLetterLine], bool],
    *,
    now_ms: int,
    max_journal_bytes: int,
) -> ResendResult:
    """Make dead letters pending events again, byte for byte, as if never attempted.

    Args:
        view: The destination.
        wanted: A function that selects the letters.
        now_ms: The wall time, in ms since 1970.
        max_journal_bytes: The limit of the destination's segments, in bytes.

    Raises:
        JournalFullError: There is no room, and all of them stay dead letters.
        JournalError: Another command is at work, or a newer outlay owns the folder.
        OSError: The disk failed.
    """
    with exclusive(view.folder):
        known = _already_pending(view, wanted)
        waiting = len(known)
        events = commit(
            view.folder,
            (_fresh_events(chunk, known) for chunk in _chunks(_selected(view, wanted))),
            RESENT,
            now_ms=now_ms,
            max_journal_bytes=max_journal_bytes,
        )
        return ResendResult(events, waiting)


def _fresh_events(
    letters: Iterable[DeadLetterLine], known: set[bytes]
) -> list[Replacement]:
    """Return the replacements of letters, each event once, and note them as known."""
    found = []
    for letter in letters:
        digest = letter.event.digest
        event = None if digest in known else letter.event.payload
        known.add(digest)
        found.append(Replacement(event, [letter.line]))
    return found


def reprice(
    view: DestinationView,
    priced: Iterable[PricedEvent],
    *,
    now_ms: int,
    max_journal_bytes: int,
) -> int:
    """Put priced costs into the journal as events, and return how many.

    An event that may have been sent already gets the stamp of that attempt. So the
    window rule holds for it. Past the window it is quarantined, and not counted twice.

    Args:
        view: The destination.
        priced: The events, no two of them with the same key.
        now_ms: The wall time, in ms since 1970.
        max_journal_bytes: The limit of the destination's segments, in bytes.

    Raises:
        JournalFullError: There is no room, and all of them stay unpriced.
        JournalError: Another command is at work, or a newer outlay owns the folder.
        OSError: The disk failed.
    """
    replacements = (
        Replacement(
            each.event, [line.line for line in each.lines], each.in_doubt_since_ms
        )
        for each in priced
    )
    with exclusive(view.folder):
        return commit(
            view.folder,
            _chunks(replacements),
            "tracked",
            now_ms=now_ms,
            max_journal_bytes=max_journal_bytes,
        )


def discard(view: DestinationView, costs: Iterable[UnpricedLine]) -> int:
    """Mark unpriced costs as discarded, and return how many. Their lines stay.

    Raises:
        JournalError: Another command is at work, or a newer outlay owns the folder.
    """
    with exclusive(view.folder):
        lines = [cost.line for cost in costs if cost.line.is_unchanged()]
        for line in lines:
            marked_lines.set_state(line.path, [line.offset], "discarded")
        return len(lines)


def remove_settled_unpriced(view: DestinationView) -> None:
    """Finish what a killed command had decided, and delete files that are all settled.

    Raises:
        JournalError: Another command is at work, or a newer outlay owns the folder.
    """
    if not view.folder.exists:
        return
    with exclusive(view.folder):
        for path in marked_lines.paths_in(view.folder.unpriced_path):
            problems: list[UnreadableItem] = []
            states = {
                cost.cost.state for cost in read_unpriced_file(path, problems.append)
            }
            if not problems and not states & UNSETTLED_STATES:
                _unlink_if_free(path)


def _unlink_if_free(path: Path) -> None:
    lock = Lock(path)
    try:
        # A living process holds it, and may write another line at any moment.
        if lock.acquire():
            path.unlink(missing_ok=True)
    finally:
        lock.close()


def purge(
    view: DestinationView, wanted: Callable[[DeadLetterLine], bool], *, damaged: bool
) -> PurgeResult:
    """Delete dead letters, and bytes that are no event. Pending events stay.

    The letters are blanked first. A file is removed when no letter is left in it and no
    process can write to it any more.

    Args:
        view: The destination.
        wanted: A function that selects the letters.
        damaged: Whether to delete damaged bytes too, and lines that are no letters.

    Raises:
        JournalError: Another command is at work, a person edited the letters meanwhile,
            or a newer outlay owns the folder.
        OSError: The disk failed.
    """
    with exclusive(view.folder):
        letters = 0
        for letter in _selected(view, wanted):
            if not marked_lines.blank(letter.line):
                raise JournalError(
                    f"{letter.line.path} was edited meanwhile; try again"
                )
            letters += 1
        empty = [
            path for path in view.letter_files() if _is_empty(path, damaged=damaged)
        ]
        if damaged:
            empty += view.damaged_files()
        files = sum(_unlink(view.folder, path) for path in empty)
        return PurgeResult(letters, files, len(empty) - files)


def move_orphans(source: DestinationView, target: DestinationFolder) -> MoveResult:
    """Move the files of dead writers from one destination to another.

    The caller knows whether the events belong there.

    Args:
        source: The destination that has them.
        target: The folder of the other destination, prepared.

    Raises:
        JournalError: Another command is at work, or a newer outlay owns the folder.
        OSError: A folder cannot be moved.
    """
    with exclusive(source.folder):
        writers = busy = 0
        for path in source.folder.writers():
            writer = WriterFolder.adopt(path)
            if writer is None:
                busy += path.is_dir()
                continue
            try:
                # The locks move with the folder. A process that waits for one finds,
                # once it has it, that the other is gone.
                path.rename(target.path / path.name)
            finally:
                writer.close()
            writers += 1
        files = [*source.letter_files(), *source.damaged_files()]
        moved = sum(_move_file(source.folder, path, target.dead_path) for path in files)
        return MoveResult(writers, busy, moved)


@contextlib.contextmanager
def _locked_against_writers(folder: DestinationFolder, file: Path) -> Iterator[bool]:
    """Hold the locks without which no process writes to a file of dead letters.

    Returns whether that worked: no process writes to it until the end. A writer's file
    is its own. A file with another name is an adopter's, which holds at least one
    folder while it writes dead letters.
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
        # Names are never used twice. A copy by hand must not be overwritten, either.
        if not free or (to / file.name).exists():
            return False
        file.rename(to / file.name)
        return True


def _skip(problem: UnreadableItem) -> None:
    """Skip an unreadable line, which stays as it is."""


def _selected(
    view: DestinationView, wanted: Callable[[DeadLetterLine], bool]
) -> Iterator[DeadLetterLine]:
    for letter in view.letters(_skip):
        if letter.event.state != "resent" and wanted(letter):
            yield letter


def _chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    items = iter(items)
    while chunk := list(itertools.islice(items, CHUNK_LETTERS)):
        yield chunk


def _already_pending(
    view: DestinationView, wanted: Callable[[DeadLetterLine], bool]
) -> set[bytes]:
    """Return which of the wanted events are pending, as a crash may leave them."""
    dead = {letter.event.digest for letter in _selected(view, wanted)}
    pending = (event for event in view.events(_skip) if event.recorded_at is None)
    return {event.digest for event in pending if event.digest in dead}


def _is_empty(path: Path, *, damaged: bool) -> bool:
    """Return whether nothing is left in a file of dead letters."""
    problems: list[UnreadableItem] = []
    states = {letter.event.state for letter in read_letters(path, problems.append)}
    return states <= {"resent"} and (damaged or not problems)
