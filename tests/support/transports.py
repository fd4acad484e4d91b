"""Transports that answer from a script; no network."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from outlay.transport import TransportResponse
from tests.support.answers import accepted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Line: TypeAlias = (
    "TransportResponse | BaseException | Callable[[str, bytes], TransportResponse]"
)
"""What to do about a request: answer, raise, or look at it first."""

_ACCEPTED: Final = accepted()


class ScriptedTransport:
    """Answers from a script, then accepts everything. Thread safety: any thread.

    Attributes:
        posts: path and body of each request, in order.
        closed: whether `close` was called.
    """

    def __init__(
        self, script: Iterable[Line] = (), otherwise: Line = _ACCEPTED
    ) -> None:
        """Answer with the lines of ``script`` in turn, then with ``otherwise``."""
        self.posts: list[tuple[str, bytes]] = []
        self.closed = False
        self._script: Final = deque(script)
        self._otherwise: Final = otherwise
        self._changed: Final = threading.Condition()

    def script(self, *lines: Line) -> None:
        """Add to the script."""
        with self._changed:
            self._script.extend(lines)

    def post(self, path: str, body: bytes) -> TransportResponse:
        """Record the request and do what the script says."""
        with self._changed:
            self.posts.append((path, body))
            line = self._script.popleft() if self._script else self._otherwise
            self._changed.notify_all()
        if isinstance(line, BaseException):
            raise line
        return line if isinstance(line, TransportResponse) else line(path, body)

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def wait_for_posts(self, count: int, timeout: float = 20.0) -> None:
        """Wait until there were ``count`` requests."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.posts) >= count, timeout)
        assert done, f"{len(self.posts)} of {count} requests within {timeout} s"
