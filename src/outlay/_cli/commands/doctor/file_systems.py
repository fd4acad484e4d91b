"""Find the file system of a folder, and what it means for the journal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOUNTS: Final = Path("/proc/self/mountinfo")

_NETWORK: Final = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
    }
)
_MEMORY: Final = frozenset({"ramfs", "tmpfs"})
_CONTAINER_LAYER: Final = frozenset({"aufs", "overlay"})


class Mount(NamedTuple):
    """A mounted file system: where, and of which type."""

    point: Path
    type: str


def read_mounts() -> list[Mount]:
    """Return the mounted file systems, or none where the system does not tell."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # Not Linux.
        return []
    return list(parse_mounts(lines.splitlines()))


def parse_mounts(lines: Iterable[str]) -> Iterable[Mount]:
    """Yield the mounts of lines of ``mountinfo``, see proc(5)."""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), fields.split()[4])
        yield Mount(Path(point), rest.split()[0])


def file_system_of(folder: Path, mounts: Iterable[Mount]) -> str | None:
    """Return the type of the file system that holds ``folder``."""
    found: Mount | None = None
    for mount in mounts:
        # Of two mounts at one point, the later one hides the earlier one.
        if folder.is_relative_to(mount.point) and (
            found is None or len(mount.point.parts) >= len(found.point.parts)
        ):
            found = mount
    return None if found is None else found.type


def file_system_warning(file_system: str, *, durable: bool) -> str | None:
    """Return what is wrong with a file system for the journal, or None.

    Args:
        file_system: The type, such as ``nfs4``.
        durable: Whether events must survive a power cut.
    """
    if file_system in _NETWORK:
        return "is a network file system, whose locks and mapped files can fail"
    if file_system in _CONTAINER_LAYER:
        return "is the layer of a container, which is deleted with the container"
    if file_system in _MEMORY:
        text = "is in memory, so a restart of the machine or container loses its events"
        return f"{text}; durability=disk cannot change that" if durable else text
    return None
