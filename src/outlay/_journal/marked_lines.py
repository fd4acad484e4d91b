"""JSON lines whose state is changed in place.

Dead letters and unpriced costs are kept so: one file for each writing process, one line
for each record. The first member of a record is its state. Blanks may follow it, so
that a longer state fits later. Its process may append while a command changes states.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SUFFIX: Final = ".jsonl"
_FILE_MODE: Final = 0o600
_PREFIX: Final = re.compile(rb'(\{"[a-z]+":")([a-z]+)" *')


class MarkedLine(NamedTuple):
    """A line of a file, as it was read.

    Attributes:
        path: The file.
        offset: The offset of the line in it, in bytes.
        content: The bytes of the line, with its break.
    """

    path: Path
    offset: int
    content: bytes

    @property
    def state(self) -> str:
        """The state, or an empty string if the line has none."""
        found = _PREFIX.match(self.content)
        return found[2].decode() if found else ""

    @property
    def location(self) -> str:
        """The folder, the file and the offset, for people."""
        return f"{self.path.parent.name}/{self.path.name}@{self.offset}"

    def is_unchanged(self) -> bool:
        """Return whether the file still has these bytes there."""
        try:
            return _read_at(self.path, self.offset, len(self.content)) == self.content
        except FileNotFoundError:
            return False


def encode(record: msgspec.Struct, longest_state: str = "") -> bytes:
    """Return the line of a record.

    Args:
        record: Its first field is the state.
        longest_state: The longest state that the line may get. Defaults to its own.
    """
    line = msgspec.json.encode(record) + b"\n"
    state, comma, rest = line.partition(b",")
    shortest = len(b'{"state":""') + len(longest_state)
    return state.ljust(shortest) + comma + rest


def append(descriptor: int, line: bytes, name: str) -> int:
    """Append a line to an open file, all of it or nothing, and return its offset.

    Args:
        descriptor: The file, opened with ``O_APPEND``. Only the caller appends to it.
        line: The line, with its break.
        name: The name of the file, for the error.

    Raises:
        OSError: The disk is full or failed. The file is as before.
    """
    offset = os.lseek(descriptor, 0, os.SEEK_END)
    if os.write(descriptor, line) < len(line):
        # The disk filled up within the line. Half of it is no record.
        os.ftruncate(descriptor, offset)
        raise OSError(errno.ENOSPC, "no room for a line", name)
    return offset


def open_for_append(path: Path, *, new: bool = False) -> int:
    """Open a file of lines and return its descriptor."""
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
    return os.open(path, flags | (os.O_EXCL if new else 0), _FILE_MODE)


def paths_in(folder: Path) -> list[Path]:
    """Return the files of lines in a folder, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def read(path: Path) -> Iterator[MarkedLine]:
    """Yield the lines of a file that were not blanked; none if the file is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    offset = 0
    with file:
        for line in file:
            if line.strip():
                yield MarkedLine(path, offset, line)
            offset += len(line)


def current_state(line: MarkedLine) -> str:
    """Return the state that a line has now, or an empty string if it was changed.

    Raises:
        FileNotFoundError: The file is gone.
    """
    now = line._replace(content=_read_at(line.path, line.offset, len(line.content)))
    is_same = _without_state(now.content) == _without_state(line.content)
    return now.state if is_same else ""


def set_state(
    path: Path, offsets: Iterable[int], state: str, *, synced: bool = True
) -> None:
    """Change the state of the lines at ``offsets``. A line without a state stays.

    Args:
        path: The file.
        offsets: The offsets of the lines, in bytes.
        state: The new state of all of them.
        synced: Whether to return only when the disk has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for offset in offsets:
            found = _PREFIX.match(os.pread(descriptor, _MAX_PREFIX_BYTES, offset))
            prefix = found[1] + state.encode() + b'"' if found else b""
            if found and len(prefix) <= found.end():
                os.pwrite(descriptor, prefix.ljust(found.end()), offset)
        if synced:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


_MAX_PREFIX_BYTES: Final = 64


def blank(line: MarkedLine) -> bool:
    """Overwrite a line with blanks; return False if it has changed meanwhile."""
    descriptor = os.open(line.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = len(line.content)
        if os.pread(descriptor, size, line.offset) != line.content:
            return False
        os.pwrite(descriptor, b" " * len(line.content.rstrip(b"\n")), line.offset)
        return True
    finally:
        os.close(descriptor)


def size_of(folder: Path) -> int:
    """Return the bytes of all files of lines in a folder."""
    total = 0
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _without_state(content: bytes) -> bytes:
    return _PREFIX.sub(b"", content, count=1)


def _read_at(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
