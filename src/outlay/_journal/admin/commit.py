"""Replace marked lines by pending events, in one step that a kill cannot split.

A command writes the events into a folder that no shipper reads. Then it writes a
manifest of the lines that they replace. From the renaming of the manifest on, the step
is decided. The lines are marked, and only then does the folder get the name under which
it is shipped. After a kill, the next command or adopter finishes a step that was
decided, and removes one that was not. So no event is sent while its line can still be
put back, and none is forgotten.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay._journal import marked_lines, merging
from outlay._journal.folders import (
    COMMANDS_LOCK,
    MANIFEST_FILE,
    PART_SUFFIX,
    SEGMENT_SUFFIX,
    new_writer_name,
    segment_name,
    sync_folder,
)
from outlay._journal.locks import Lock
from outlay._journal.segments import segment_size, write_segment
from outlay.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from outlay._journal.folders import DestinationFolder
    from outlay._journal.marked_lines import MarkedLine

_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700


class Replacement(NamedTuple):
    """An event, and the lines that it replaces.

    Attributes:
        event: The payload. None if the event is pending already, so that the lines only
            get their new state.
        lines: The lines, as they were read.
        in_doubt_since_ms: The time at which the event may first have been sent, in ms
            since 1970. Defaults to never.
    """

    event: bytes | None
    lines: Sequence[MarkedLine]
    in_doubt_since_ms: int | None = None


class _Manifest(msgspec.Struct, frozen=True):
    """The lines that a commit marks.

    Attributes:
        state: Their new state.
        lines: Their files, from the destination's folder on, and their offsets.
    """

    state: str
    lines: list[tuple[str, int]]


@contextlib.contextmanager
def exclusive(folder: DestinationFolder) -> Iterator[None]:
    """Keep other commands and mergers out, and finish what a killed one had decided.

    Raises:
        JournalError: Another command is at work, or a newer outlay owns the folder.
    """
    folder.check_format()
    lock = Lock(folder.dead_path / COMMANDS_LOCK)
    try:
        if not lock.acquire():
            raise JournalError(
                f"another command is changing {folder.path}; wait for it, then try "
                "again"
            )
        merging.recover(folder)
        for staged, target in folder.staged().items():
            _finish(folder, staged, target)
        yield
    finally:
        lock.close()


def commit(
    folder: DestinationFolder,
    batches: Iterable[Sequence[Replacement]],
    state: str,
    *,
    now_ms: int,
    max_journal_bytes: int,
) -> int:
    """Replace lines by pending events, all of them or none.

    A replacement with a line that has changed since it was read is left out. The caller
    holds `exclusive`.

    Args:
        folder: The destination.
        batches: The replacements. Each batch becomes a segment, with one sync to disk.
        state: The new state of the lines.
        now_ms: The wall time, in ms since 1970.
        max_journal_bytes: The limit of the destination's segments, in bytes.

    Returns:
        The number of events that became pending.

    Raises:
        JournalFullError: There is no room, and all lines stay as they are.
        OSError: The disk failed. If the step was decided, it is finished later.
    """
    name = new_writer_name(now_ms)
    staged = folder.staged_path(name)
    lines: list[tuple[str, int]] = []
    events = 0
    staged.mkdir(mode=_FOLDER_MODE)
    try:
        for number, batch in enumerate(batches, 1):
            current = [each for each in batch if _is_current(each)]
            payloads = {
                each.event: each.in_doubt_since_ms
                for each in current
                if each.event is not None
            }
            if payloads:
                size = _size_of(staged) + segment_size([*payloads])
                folder.check_room(size, max_journal_bytes)
                write_segment(
                    staged / segment_name(number),
                    [*payloads],
                    now_ms,
                    attempted=payloads,
                )
            lines += [
                (str(line.path.relative_to(folder.path)), line.offset)
                for each in current
                for line in each.lines
            ]
            events += len(payloads)
        if lines:
            _decide(staged, _Manifest(state, lines))
    except BaseException:
        # The manifest first: a kill must leave no decided step without its events.
        (staged / MANIFEST_FILE).unlink(missing_ok=True)
        shutil.rmtree(staged, ignore_errors=True)
        raise
    _finish(folder, staged, folder.path / name)
    return events


def _is_current(replacement: Replacement) -> bool:
    return all(line.is_unchanged() for line in replacement.lines)


def _size_of(staged: Path) -> int:
    return sum(path.stat().st_size for path in staged.iterdir())


def _decide(staged: Path, manifest: _Manifest) -> None:
    """Write the manifest. From its renaming on, the step will be finished."""
    path = staged / MANIFEST_FILE
    part = path.with_name(f"{path.name}{PART_SUFFIX}")
    descriptor = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(manifest))
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(staged)


def _finish(folder: DestinationFolder, staged: Path, target: Path) -> None:
    """Mark the lines of a decided step, then let its events be shipped."""
    try:
        content = (staged / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        shutil.rmtree(staged, ignore_errors=True)  # never decided
        return
    manifest = msgspec.json.decode(content, type=_Manifest)
    by_file: dict[str, list[int]] = {}
    for name, offset in manifest.lines:
        by_file.setdefault(name, []).append(offset)
    for name, offsets in by_file.items():
        with contextlib.suppress(FileNotFoundError):
            marked_lines.set_state(folder.path / name, offsets, manifest.state)
    if not any(staged.glob(f"*{SEGMENT_SUFFIX}")):
        shutil.rmtree(staged, ignore_errors=True)
        return
    staged.rename(target)
    sync_folder(folder.path)
