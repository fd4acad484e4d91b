"""What a file system means for the journal in it."""

from __future__ import annotations

from typing import Final

_NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs"}
    | {"nfs4", "smb2", "smb3", "smbfs"}
)
_MEMORY: Final = frozenset({"ramfs", "tmpfs"})
_CONTAINER_LAYER: Final = frozenset({"aufs", "overlay"})


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
