"""Living writers whose events another process ships: the agent's side of the journal.

What one look may find, and why it is safe at each instant:

- A new writer. Whoever gets its ``shipper.lock`` ships for it; the others try again at
  their next look. A process that ships its own events holds that lock itself.
- A new segment. A name without a header is one that is being created, or that its
  writer died over: it waits for the next look, or for the writer's death.
- A dead writer. Its lock is taken first, and its segments are listed afterwards: in the
  other order, one that was opened in between would be deleted with the folder.
- Nothing of a follower that was killed: its locks are free, and all that it knew is in
  the frames. What it had under way is stamped there.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Final

from outlay._journal import frames, segments

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from outlay._journal.folders import WriterFolder

SHORTEST_PAUSE: Final = 0.05
"""Seconds between looks while there is something to find."""

LONGEST_PAUSE: Final = 1.0
"""Seconds between looks when nothing happens: an event waits no longer to be seen."""


class PollInterval:
    """Says how long to pause between looks: longer, the longer nothing was found."""

    def __init__(self) -> None:
        self._seconds = SHORTEST_PAUSE

    def next(self, *, found: bool) -> float:
        """Return seconds until the next look, after one that found something or not."""
        longer = min(2 * self._seconds, LONGEST_PAUSE)
        self._seconds = SHORTEST_PAUSE if found else longer
        return self._seconds


class FollowedWriter:
    """One writer that may live, and how much of it has been handed over.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self, folder: WriterFolder) -> None:
        """Follow the writer of ``folder``, whose ``shipper.lock`` is ours."""
        self.folder = folder
        self._known: set[str] = set()

    def new_segments(self) -> list[Path]:
        """Return segments that no earlier call returned, oldest first."""
        present = {path.name: path for path in self.folder.segment_paths()}
        self._known &= present.keys()
        new = [
            path
            for name, path in present.items()
            if name not in self._known and (self.folder.is_owned or _has_header(path))
        ]
        self._known.update(path.name for path in new)
        return new

    def end_offsets(self) -> dict[str, float]:
        """Return where each segment ends now; infinity: where it ends for good."""
        return {
            f"{self.folder.name}/{path.name}": tail
            for path in self.folder.segment_paths()
            if (tail := _tail(path)) is not None
        }


def _has_header(path: Path) -> bool:
    memory = segments.map_readonly(path)
    if memory is None:
        return False
    memory.close()
    return True


def _tail(path: Path) -> float | None:
    memory = None
    with contextlib.suppress(OSError):
        memory = segments.map_readonly(path)
    if memory is None:  # settled and deleted, or not a segment yet
        return None
    with memory:
        return math.inf if frames.is_sealed(memory) else frames.published_end(memory)


def end_offsets_of(followed: Iterable[FollowedWriter]) -> dict[str, float]:
    """Return where the segments of all ``followed`` writers end now."""
    return {
        name: tail for each in followed for name, tail in each.end_offsets().items()
    }
