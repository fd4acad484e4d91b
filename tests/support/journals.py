"""Journals, opened as the client opens them, and what lies in their folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from outlay._journal.frames import FRAME_MAGIC, align_up
from outlay._journal.journal import Destination, Journal, JournalLimits, ShippingRole
from outlay._model.clock import Clock, SystemClock
from outlay._model.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from pathlib import Path

    from outlay._journal.segment_reader import PendingEvent

KIB: Final = 1024
CREDENTIAL: Final = "sk_test_do_not_store_me"
DESTINATION: Final = Destination("http://127.0.0.1:4600", None, CREDENTIAL)
LIMITS: Final = JournalLimits(
    segment_bytes=64 * KIB, max_journal_bytes=1024 * KIB, max_memory_bytes=2048 * KIB
)


_opened: Final[list[Journal]] = []


def close_journals() -> None:
    """Close all journals that `make_journal` returned."""
    while _opened:
        _opened.pop().close()


def make_journal(
    journal_dir: Path,
    *,
    destination: Destination = DESTINATION,
    limits: JournalLimits = LIMITS,
    in_memory: bool = False,
    role: ShippingRole = ShippingRole.SELF,
    clock: Clock | None = None,
) -> Journal:
    """Return a journal with small segments."""
    clock = clock or SystemClock()
    journal = Journal(
        destination,
        limits,
        journal_dir=journal_dir,
        in_memory=in_memory,
        role=role,
        clock=clock,
        log=RateLimitedLog(clock),
    )
    _opened.append(journal)
    return journal


def take_all(journal: Journal) -> list[PendingEvent]:
    """Return all pending events."""
    taken: list[PendingEvent] = []
    while batch := journal.reader.take(100, 1024 * KIB):
        taken += batch
    return taken


def payloads(events: list[PendingEvent]) -> list[bytes]:
    """Return what the events carry."""
    return [event.payload for event in events]


def segment_files(journal_dir: Path) -> list[Path]:
    """Return all segments of all writers of all destinations."""
    return sorted(journal_dir.glob("*/*/*.seg"))


def corrupt(segment: Path, at: bytes) -> None:
    """Flip a byte of the segment, behind the only place where ``at`` stands."""
    content = segment.read_bytes()
    assert content.count(at) == 1
    offset = content.index(at) + len(at)
    flip(segment, offset)


def flip(segment: Path, offset: int) -> None:
    """Flip the byte at ``offset``; a second time, it is as it was."""
    # In place: a process may have the file mapped.
    with segment.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def last_frame(segment: Path) -> range:
    """Return where in the file its newest event lies, header and all."""
    content = segment.read_bytes()
    return range(content.rindex(FRAME_MAGIC), align_up(len(content.rstrip(b"\0"))))


def dead_letters(journal_dir: Path) -> list[dict[str, Any]]:
    """Return all dead letters."""
    files = sorted(journal_dir.glob("*/dead/*.jsonl"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]
