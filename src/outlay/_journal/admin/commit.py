"""Putting priced costs into the journal.

That is one step, whatever kills it: the events are written where no shipper looks,
together with a note of the lines that they are of. From the renaming of their segment
on, it is decided. The lines are marked, and only then do the events go where they are
shipped; after a kill, the next command finishes that. So however long a command lay
dead, no cost is tracked twice, and none is forgotten.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay._journal import folders
from outlay._journal.admin import edit as intervention
from outlay._journal.admin.inspect import UnreadableItem
from outlay._journal.folders import PART_SUFFIX, Lock, WriterFolder
from outlay._journal.unpriced_store import SUFFIX, bytes_at, set_state
from outlay._model.clock import to_ms
from outlay._model.unpriced_cost import (
    STATE_PREFIXES,
    UNSETTLED_STATES,
    State,
    UnpricedCost,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from outlay._journal.admin.inspect import DestinationView, OnProblem
    from outlay._journal.folders import DestinationFolder

_FILE_MODE: Final = 0o600
_MANIFEST: Final = "lines.json"


class UnpricedLine(NamedTuple):
    """One unpriced cost on disk, and where."""

    path: Path
    offset: int
    cost: UnpricedCost

    @property
    def location(self) -> str:
        """The file and the offset in it, for people."""
        return f"{self.path.parent.name}/{self.path.name}@{self.offset}"

    @property
    def in_doubt_since_ms(self) -> int | None:
        """Since when its event may have been sent, wall time; None: it was not.

        A process was killed while it tracked the event in the cost's place: not before
        the cost was kept.
        """
        if self.cost.state != "held":
            return None
        return to_ms(datetime.fromisoformat(self.cost.kept_at))


def read_unpriced(
    folder: DestinationFolder, on_problem: OnProblem
) -> Iterator[UnpricedLine]:
    """Yield the costs of all processes that wait for a price, the oldest file first."""
    for path in sorted(folder.unpriced_path.glob(f"*{SUFFIX}")):
        for line in _read(path, on_problem):
            if line.cost.state in UNSETTLED_STATES:
                yield line


class PricedEvent(NamedTuple):
    """An event, and the unpriced costs that it is of.

    They are several, if several processes captured the same operation.
    """

    event: bytes
    lines: Sequence[UnpricedLine]

    @property
    def in_doubt_since_ms(self) -> int | None:
        """Since when the event may have been sent, wall time; None: it was not."""
        known = [line.in_doubt_since_ms for line in self.lines]
        return min((since for since in known if since is not None), default=None)


def commit(
    view: DestinationView,
    priced: Iterable[PricedEvent],
    *,
    now_ms: int,
    max_journal_bytes: int,
) -> int:
    """Put priced costs into the journal as events; return how many.

    What may have been sent already is stamped as attempted then, so that the window
    rule holds for it: past the window it is quarantined, and not counted twice.

    Args:
        view: the destination.
        priced: the events, no two of them with the same key.
        now_ms: wall time.
        max_journal_bytes: the destination's limit.

    Raises:
        JournalFullError: there is no room for them; they stay unpriced.
        JournalError: another command is at work.
        OSError: the disk failed; whatever is decided, the next command finishes.
    """
    with intervention.exclusive(view):
        _finish(view.folder)
        # Only what is still open: another command may have been faster.
        chosen = [each for each in priced if all(map(_is_unchanged, each.lines))]
        if not chosen:
            return 0
        payloads = [each.event for each in chosen]
        size = intervention.segment_size(payloads)
        view.folder.check_room(size, max_journal_bytes)
        folder = WriterFolder.create(view.folder.unpriced_path, now_ms)
        try:
            part = folder.path / f"{folder.segment_path(1).name}{PART_SUFFIX}"
            doubtful = {each.event: each.in_doubt_since_ms for each in chosen}
            intervention.write_segment(part, payloads, size, now_ms, attempted=doubtful)
            _write_note(folder.path, [line for each in chosen for line in each.lines])
            part.rename(folder.segment_path(1))  # from here on, it is decided
            folders.sync_folder(folder.path)
            _apply(view.folder, folder.path)
        finally:
            folder.close()
        return len(payloads)


def discard(view: DestinationView, lines: Iterable[UnpricedLine]) -> int:
    """Mark costs as given up; return how many. Their lines stay, for people to read.

    Raises:
        JournalError: another command is at work.
    """
    with intervention.exclusive(view):
        _finish(view.folder)
        chosen = [line for line in lines if _is_unchanged(line)]
        _set_states([(line.path, line.offset) for line in chosen], "gone")
        return len(chosen)


def recover(view: DestinationView) -> None:
    """Finish what a killed command had decided, and delete files that are all done.

    Raises:
        JournalError: another command is at work.
    """
    if not view.folder.unpriced_path.is_dir():
        return
    with intervention.exclusive(view):
        _finish(view.folder)
        for path in view.folder.unpriced_path.glob(f"*{SUFFIX}"):
            _delete_if_done(path)


def _finish(folder: DestinationFolder) -> None:
    for path in sorted(folder.unpriced_path.glob("*")):
        if not path.is_dir():
            continue
        writer = WriterFolder.adopt(path)
        if writer is None:
            continue  # not ours: no command puts a folder there without the lock
        try:
            if writer.segment_paths():
                _apply(folder, path)
            else:
                shutil.rmtree(path, ignore_errors=True)  # never decided
        finally:
            writer.close()


def _apply(folder: DestinationFolder, path: Path) -> None:
    """Mark the lines of decided events, and put these where they are shipped."""
    note = path / _MANIFEST
    if note.exists():
        rows = msgspec.json.decode(note.read_bytes(), type=list[tuple[str, int]])
        _set_states([(folder.unpriced_path / name, at) for name, at in rows], "done")
        note.unlink()
    path.rename(folder.path / path.name)
    folders.sync_folder(folder.path)


def _write_note(path: Path, lines: Iterable[UnpricedLine]) -> None:
    rows = [(line.path.name, line.offset) for line in lines]
    flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
    descriptor = os.open(path / _MANIFEST, flags, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(rows))
        file.flush()
        os.fsync(file.fileno())


def _set_states(places: Iterable[tuple[Path, int]], state: State) -> None:
    by_path: dict[Path, list[int]] = {}
    for path, offset in places:
        by_path.setdefault(path, []).append(offset)
    for path, offsets in by_path.items():
        with contextlib.suppress(FileNotFoundError):
            set_state(path, offsets, state)


def _is_unchanged(line: UnpricedLine) -> bool:
    opening = STATE_PREFIXES[line.cost.state]
    try:
        return bytes_at(line.path, line.offset, len(opening)) == opening
    except FileNotFoundError:
        return False


def _delete_if_done(path: Path) -> None:
    problems: list[UnreadableItem] = []
    states = {line.cost.state for line in _read(path, problems.append)}
    if problems or states & UNSETTLED_STATES:
        return
    lock = Lock(path)
    try:
        # A living process holds it, and may write another line at any moment.
        if lock.acquire():
            path.unlink(missing_ok=True)
    finally:
        lock.close()


def _read(path: Path, on_problem: OnProblem) -> Iterator[UnpricedLine]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return  # deleted meanwhile
    offset = 0
    with file:
        for line in file:
            try:
                cost = msgspec.json.decode(line, type=UnpricedCost)
            except msgspec.DecodeError:
                # Also the line that a living process is about to finish.
                place = f"{path.parent.name}/{path.name}@{offset}"
                on_problem(UnreadableItem(place, "is no unpriced cost of outlay's"))
            else:
                yield UnpricedLine(path, offset, cost)
            offset += len(line)
