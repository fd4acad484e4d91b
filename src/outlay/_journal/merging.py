"""Merge the folders of dead writers that left few events.

A process that tracks one event and ends leaves a folder, two locks and two pages. Many
of them, as cron leaves during an outage, would fill the journal with almost nothing. So
an adopter merges them into one folder. A kill at any instant leaves each event in one
place:

1. ``.merging-<name>/merged/`` is made. While it exists, nothing is decided.
2. The folders are moved into ``.merging-<name>/``, under both of their locks.
3. Their events are written to a segment in ``merged/``, and synced to the disk.
4. ``merged/`` gets its name, ``<name>``, under which it is adopted. That decides it.
5. ``.merging-<name>/`` is deleted, with the folders in it.

After a kill, the next process that scans moves the folders back, or deletes them.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Final

from outlay._journal import frames, segments
from outlay._journal.folders import (
    SUMMARY_FILE,
    WriterFolder,
    segment_name,
    sync_folder,
    writer_name_after,
)
from outlay._journal.frames import SEGMENT_HEADER_BYTES, SETTLED, CorruptRange, Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from outlay._journal.folders import DestinationFolder

MERGE_FROM: Final = 16
"""The number of folders of other writers from which on small ones are merged."""

SMALL_BYTES: Final = 64 * 1024
"""The most bytes of events in a folder that is merged. A merged folder grows up to this
size, and each event is copied a few times at most."""

_MERGED: Final = "merged"
_FOLDER_MODE: Final = 0o700


def merge(
    folder: DestinationFolder, writers: Iterable[Path], now_ms: int, *, most: int
) -> int:
    """Merge small folders of dead writers, and return how many.

    The caller holds the lock of commands.

    Args:
        folder: The destination.
        writers: The folders of other writers, oldest first.
        now_ms: The wall time, in ms since 1970.
        most: The most folders to lock at the same time. Each takes two descriptors.

    Raises:
        OSError: The disk failed. Nothing was merged, or a later scan finishes it.
    """
    with contextlib.ExitStack() as locks:
        sources: list[WriterFolder] = []
        events: list[Frame] = []
        for path in writers:
            if len(sources) >= most:
                break
            source = WriterFolder.adopt(path)
            if source is None:
                continue
            small = _events_if_small(source)
            if small is None:
                source.close()
                continue
            locks.callback(source.close)
            sources.append(source)
            events += small
        if len(sources) < 2:
            return 0
        _replace(folder, sources, events, now_ms)
        return len(sources)


def _replace(
    folder: DestinationFolder,
    sources: list[WriterFolder],
    events: list[Frame],
    now_ms: int,
) -> None:
    name = writer_name_after(sources[0].name)
    merging = folder.merging_path(name)
    merged = merging / _MERGED
    merging.mkdir(mode=_FOLDER_MODE)
    merged.mkdir(mode=_FOLDER_MODE)
    try:
        for source in sources:
            source.path.rename(merging / source.name)
        if events:
            segments.copy_frames(merged / segment_name(1), events, now_ms)
        merged.rename(folder.path / name)
    except BaseException:
        _finish(folder, merging)
        raise
    sync_folder(folder.path)
    _finish(folder, merging)


def recover(folder: DestinationFolder) -> None:
    """Finish or take back what a killed process had begun.

    The caller holds the lock of commands.

    Raises:
        OSError: The disk failed.
    """
    for merging in folder.merging():
        _finish(folder, merging)


def _finish(folder: DestinationFolder, merging: Path) -> None:
    if (merging / _MERGED).exists():
        for source in undecided_sources(merging):
            source.rename(folder.path / source.name)
    shutil.rmtree(merging)


def undecided_sources(merging: Path) -> Iterator[Path]:
    """Yield the folders in ``merging`` whose events are in no other place."""
    if (merging / _MERGED).exists():
        for path in sorted(merging.iterdir()):
            if path.name != _MERGED:
                yield path


def _events_if_small(source: WriterFolder) -> list[Frame] | None:
    """Return the events that are not settled, or None if the folder must stay.

    One with damage stays, because its bytes are kept and reported when it is read. So
    does a copy, whose events may have been sent from the original.
    """
    found: list[Frame] = []
    room = SMALL_BYTES
    if (source.path / SUMMARY_FILE).exists():
        return None
    for path in source.segment_paths():
        try:
            if segments.is_copy(path):
                return None
            with segments.open_file(path) as memory:
                unsettled = _plain_frames(memory, room)
        except OSError:  # and a JournalError is one
            return None
        if unsettled is None:
            return None
        found += unsettled
        room -= sum(len(frame.payload) for frame in unsettled)
    return found


def _plain_frames(memory: frames.Buffer, room: int) -> list[Frame] | None:
    """Return the unsettled frames, or None if they are damaged or too many."""
    length = frames.declared_length(memory)
    if length is None or length > len(memory):
        return None
    found: list[Frame] = []
    offset = SEGMENT_HEADER_BYTES
    while frame := frames.read_frame(memory, offset, length, final=True):
        if isinstance(frame, CorruptRange) or frame.stamp.first_attempt_ms is None:
            return None
        offset = frame.end
        if frame.state not in SETTLED:
            room -= len(frame.payload)
            if room < 0:
                return None
            found.append(frame)
    # Bytes of frames that are gone were not read as frames.
    return None if frames.is_sealed(memory) and offset < length else found
