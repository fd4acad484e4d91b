"""Find the file system of a folder, and what it means for the journal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOUNTS: Final = Path("/proc/self/mountinfo")

_NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs"}
    | {"nfs4", "smb2", "smb3", "smbfs"}
)
_MEMORY: Final = frozenset({"ramfs", "tmpfs"})
_CONTAINER_LAYER: Final = frozenset({"aufs", "overlay"})


def read_mounts() -> list[str]:
    """Return the lines of ``mountinfo``, see proc(5). Without it, there are none."""
    try:
        return _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:  # Not Linux.
        return []


def file_system_type(folder: Path, mounts: Iterable[str]) -> str | None:
    """Return the type of the file system of an existing folder, such as ``nfs4``.

    Args:
        folder: The folder.
        mounts: The mounts, see `read_mounts`.

    Returns:
        The type, or None if no mount holds the folder.
    """
    path, found, longest = folder.resolve(), None, -1
    for line in mounts:
        # 36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda1 rw
        mount, _, file_system = line.partition(" - ")
        name = mount.split()[4]
        point = Path(re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), name))
        # Of two mounts at one point, the later one hides the earlier one.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = file_system.split()[0], len(point.parts)
    return found


def file_system_warning(file_system: str | None, *, durable: bool) -> str | None:
    """Return what is wrong with a file system for the journal, or None.

    Args:
        file_system: The type, such as ``nfs4``. None if it is not known.
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
