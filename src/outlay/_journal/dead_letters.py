"""Store events that will not be sent, for people to read.

One file of JSON lines for each writing process, so that two never interleave. A line is
written before its event is marked settled. A crash between the two leaves a second line
with the same idempotency key, and loses nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from outlay._journal import marked_lines
from outlay._model.clock import Clock, format_rfc3339

if TYPE_CHECKING:
    from pathlib import Path

_FILE_MODE: Final = 0o600

Kind = Literal["dead", "quarantined"]

RESENT: Final = "sent"
"""The state of a line whose event a person made pending again. It is not longer than
``dead``, because it takes its place."""


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One line of a dead-letter file.

    Attributes:
        kind: ``dead`` if the server refused the event for good. ``quarantined`` if it
            may have been counted, so that sending it again might count it twice.
            ``sent`` if a person made it pending again.
        reason: One word for machines.
        message: One sentence for people, the server's own if it sent one.
        recorded_at: The time at which the line was written, as RFC 3339 in UTC.
        attempts: The number of attempts, of all processes.
        event: The request body, as it was tracked.
        first_attempt_at: The time of the first attempt, as RFC 3339 in UTC. Absent if
            it is unknown, or if there was no attempt.
    """

    kind: Literal["dead", "quarantined", "sent"]
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
            OSError: The folder cannot be written to.
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
        path = self._folder / f"{self._writer}{marked_lines.SUFFIX}"
        descriptor = marked_lines.open_for_append(path)
        try:
            marked_lines.append(descriptor, marked_lines.encode(letter), path.name)
        finally:
            os.close(descriptor)

    def store_corrupt_bytes(self, segment: str, offset: int, corrupt: bytes) -> None:
        """Store bytes of a segment that are no frame.

        Raises:
            OSError: The folder cannot be written to.
        """
        path = self._folder / f"{segment.replace('/', '-')}-{offset}.damaged"
        # Replace the copy from an earlier reading of the segment.
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(path, flags, _FILE_MODE)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(corrupt.rstrip(b"\0"))
