"""Check the folder of the journal, and the files that a process may open."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.commands.doctor.file_systems import (
    file_system_type,
    file_system_warning,
    read_mounts,
)
from outlay._cli.commands.doctor.findings import Finding, Level
from outlay._cli.journal_options import current_destination
from outlay._cli.output import pluralize
from outlay._journal import segments
from outlay._journal.admin.inspect import find_journal_dir
from outlay._journal.folders import default_journal_dir
from outlay._journal.locks import Lock
from outlay._journal.recovery import most_folders
from outlay.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay._model.settings import Settings

_PROBE_BYTES: Final = 64 * 1024  # the smallest segment that a setting allows
_FEW_DESCRIPTORS: Final = 256  # macOS starts programs with as many


def check_folder(settings: Settings) -> Iterator[Finding]:
    """Yield findings about the folder: its place, permissions, space and locks."""
    folder = find_journal_dir(settings.journal_dir)
    if settings.journal_dir is None and folder != default_journal_dir():
        text = f"{folder} may not survive a reboot; set OUTLAY_JOURNAL_DIR"
        yield Finding(Level.WARN, "folder", text)
    if not folder.exists():
        yield _missing_folder(folder)
        return
    file_system = file_system_type(folder, read_mounts())
    durable = settings.durability == "disk"
    if warning := file_system_warning(file_system, durable=durable):
        text = f"{folder} ({file_system}) {warning}; set OUTLAY_JOURNAL_DIR"
        yield Finding(Level.WARN, "folder", f"{text} to a folder on a local disk")
    if not folder.is_dir():
        text = f"{folder} is no folder; set OUTLAY_JOURNAL_DIR to one"
        yield Finding(Level.FAIL, "folder", text)
        return
    try:
        yield _permissions(folder)
        yield _space(folder, settings)
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as probe:
            yield _locks(Path(probe))
            yield _mapping(Path(probe))
    except OSError as error:
        text = (
            f"{folder} cannot be used ({error.strerror or error}); events would be "
            "kept in memory only: set OUTLAY_JOURNAL_DIR to a folder of this user"
        )
        yield Finding(Level.FAIL, "folder", text)


def _missing_folder(folder: Path) -> Finding:
    for each in (folder, *folder.parents):
        if each.is_symlink() and not each.exists():
            text = f"{each} is a link that leads nowhere; remove or correct it"
            return Finding(Level.FAIL, "folder", text)
    parent = next(each for each in folder.parents if each.exists())
    if os.access(parent, os.W_OK | os.X_OK):
        text = f"{folder} does not exist yet; the first event creates it"
        return Finding(Level.OK, "folder", text)
    text = (
        f"{folder} does not exist, and this user cannot write to {parent}; set "
        "OUTLAY_JOURNAL_DIR to a folder of this user"
    )
    return Finding(Level.FAIL, "folder", text)


def _permissions(folder: Path) -> Finding:
    found = folder.stat()
    # The files have permissions of their own; but others see names and sizes.
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022:
        text = f"others can change {folder} (mode {mode:o}): chmod 700"
        return Finding(Level.WARN, "folder", text)
    if found.st_uid != os.getuid():
        text = f"{folder} belongs to user {found.st_uid}, and this is {os.getuid()}"
        return Finding(Level.WARN, "folder", text)
    return Finding(Level.OK, "folder", f"{folder} (mode {mode:o})")


def _space(folder: Path, settings: Settings) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free:,} bytes are free on the disk"
    if free < settings.segment_bytes:
        text += ", not enough for one segment; events would be kept in memory only"
        return Finding(Level.FAIL, "space", text)
    if free < settings.max_journal_bytes:
        text += (
            f", less than max_journal_bytes={settings.max_journal_bytes:,}: an outage "
            "would fill the disk. Free space, or lower OUTLAY_MAX_JOURNAL_BYTES"
        )
        return Finding(Level.WARN, "space", text)
    return Finding(Level.OK, "space", text)


def _locks(probe: Path) -> Finding:
    one, other = Lock(probe / "lock"), Lock(probe / "lock")
    try:
        if one.acquire() and not other.acquire():
            return Finding(Level.OK, "locks", "the file system locks files")
        text = "the file system does not really lock files; set OUTLAY_JOURNAL_DIR to"
        return Finding(Level.FAIL, "locks", f"{text} a folder on a local disk")
    except JournalError as error:
        return Finding(Level.FAIL, "locks", str(error))
    finally:
        one.close()
        other.close()


def _mapping(probe: Path) -> Finding:
    """Write a mapped file, as the journal does, and read it as a plain file."""
    path, mark = probe / "segment", b"outlay"
    with closing(segments.create_file(path, _PROBE_BYTES, 0)) as memory:
        memory[-len(mark) :] = mark
        if path.read_bytes().endswith(mark):
            return Finding(Level.OK, "mapping", "the file system maps files")
    text = "bytes of a mapped file cannot be read back; set OUTLAY_JOURNAL_DIR to"
    return Finding(Level.FAIL, "mapping", f"{text} a folder on a local disk")


def check_descriptors(settings: Settings) -> Iterator[Finding]:
    """Report how many dead writers' folders a process can hold at the same time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        yield Finding(Level.OK, "descriptors", "open files have no limit")
        return
    adopted = most_folders(agent=False, descriptors=soft)
    text = (
        f"{soft:,} open files (ulimit -n); adopts "
        f"{pluralize(adopted, 'dead writer')} at a time"
    )
    if soft < _FEW_DESCRIPTORS:
        text += f": raise the limit to {_FEW_DESCRIPTORS} or more"
        yield Finding(Level.WARN, "descriptors", text)
    else:
        yield Finding(Level.OK, "descriptors", text)
    view = current_destination(settings)
    if not view.folder.exists:
        return
    # An agent raises its own limit as far as it may.
    most = most_folders(agent=True, descriptors=hard)
    living = sum(not writer.is_dead for writer in view.writers())
    if living > most:
        text = (
            f"an agent that may open {hard:,} files follows {most:,} of "
            f"{pluralize(living, 'living writer')} at a time: raise its hard limit"
        )
        yield Finding(Level.WARN, "descriptors", text)
