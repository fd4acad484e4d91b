"""Small file systems, for what happens when one is full."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """Mount a small file system on ``folder``, which is made.

    Args:
        folder: The folder.
        size: The size, as ``mount`` has it. Defaults to 1 MiB.

    Raises:
        OSError: this machine, or this user, may not.
    """
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        raise PermissionError(f"cannot mount a file system: {mounted.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, how: str) -> None:
    """Change how a mounted file system may be used: ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def may_mount() -> bool:
    """Return whether mounting is worth a try."""
    return os.geteuid() == 0
