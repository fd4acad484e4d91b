"""Events that left the pipeline undelivered, kept on disk for people to read.

One file of JSON lines for each writing process, so that two never interleave. A line
is written before its event is marked settled: a crash between the two writes a second
line with the same idempotency key, and loses nothing.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from outlay._model.clock import Clock, format_rfc3339

if TYPE_CHECKING:
    from pathlib import Path

_FILE_MODE: Final = 0o600

Kind = Literal["dead", "quarantined"]


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One line of a dead-letter file.

    Attributes:
        kind: ``dead``: the server refused the event for good. ``quarantined``: it may
            have been counted, and resending it might double it.
        reason: one word for machines.
        message: one sentence for people, the server's own where it gave one.
        buried_at: RFC 3339, UTC.
        attempts: attempts in all.
        event: the request body as tracked.
        first_attempt_at: RFC 3339, UTC; absent when unknown or never attempted.
    """

    kind: Kind
    reason: str
    message: str
    recorded_at: str
    attempts: int
    event: msgspec.Raw
    first_attempt_at: str | None = None


class DeadLetters:
    """Appends to the dead-letter file of this process.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self, folder: Path, writer: str, clock: Clock) -> None:
        self._folder = folder
        self._writer = writer
        self._clock = clock

    def write(
        self,
        kind: Kind,
        reason: str,
        message: str,
        *,
        payload: bytes,
        first_attempt_ms: int | None,
        attempts: int,
    ) -> None:
        """Append a dead letter.

        Raises:
            OSError: the folder cannot be written to.
        """
        letter = DeadLetter(
            kind,
            reason,
            message,
            format_rfc3339(self._clock.now_ms()),
            attempts,
            msgspec.Raw(payload),
            format_rfc3339(first_attempt_ms) if first_attempt_ms else None,
        )
        line = msgspec.json.encode(letter) + b"\n"
        self._write(f"{self._writer}.jsonl", line, os.O_APPEND)

    def store_corrupt_bytes(self, segment: str, offset: int, damaged: bytes) -> None:
        """Keep bytes of a segment that are no frame.

        Raises:
            OSError: the folder cannot be written to.
        """
        name = f"{segment.replace('/', '-')}-{offset}.damaged"
        # In place of what was kept when the segment was read before.
        self._write(name, damaged.rstrip(b"\0"), os.O_TRUNC)

    def _write(self, name: str, content: bytes, start_at: int) -> None:
        flags = os.O_CREAT | start_at | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(self._folder / name, flags, _FILE_MODE)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            start = file.tell()
            if file.write(content) < len(content):
                # The disk filled up within the line. Half of it is no dead letter.
                file.truncate(start)
                raise OSError(errno.ENOSPC, "no room for a dead letter", name)
