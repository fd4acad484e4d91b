"""Count the open connections of a server, and close those that take too long."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from outlay.server._http.byte_budget import ByteBudget

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("outlay.server")

_SWEEP_SECONDS: Final = 0.5  # between two looks for overdue connections


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits of connections, before a key is known.

    Attributes:
        connections: The most open connections.
        per_address: The most open connections of one address.
        head_seconds: The longest time for a request line and its headers.
        body_seconds: The longest time for a body.
        write_seconds: The longest time for which a client may not read.
        head_bytes: The most bytes of all unfinished large heads.
    """

    connections: int
    per_address: int
    head_seconds: float
    body_seconds: float
    write_seconds: float
    head_bytes: int


class Connection(Protocol):
    """A connection, as `Connections` sees it."""

    def is_overdue(self, now: float) -> bool:
        """Return whether the client has taken too long, by the loop's clock."""
        ...

    def expire(self, now: float) -> None:
        """Close, because the client has taken too long."""
        ...

    def evict(self) -> None:
        """Close, because another connection needs the place."""
        ...


class Connections:
    """The open connections of a server.

    A connection waits while it has no complete request. If there are too many
    connections, the one that has waited longest makes room for a new one. So idle
    connections, however many, keep no client out.

    Thread safety: the event loop's thread.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.heads = ByteBudget(limits.head_bytes)
        # Of each address: the number of its connections, and those that wait, with the
        # longest first.
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._waiting: defaultdict[str, dict[Connection, None]] = defaultdict(dict)
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close overdue connections from now on, until `stop`."""
        now = loop.time()
        for connection in [one for one in self._open if one.is_overdue(now)]:
            connection.expire(now)
        self._timer = loop.call_later(_SWEEP_SECONDS, self.start, loop)

    def stop(self) -> None:
        """Close no more connections."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, connection: Connection, address: str) -> bool:
        """Add a connection, which waits. Return False if there is no room for it."""
        has_room = self._make_room(address)
        self._open.add(connection)
        self._counts[address] += 1
        if has_room:
            self._waiting[address][connection] = None
        return has_room

    def remove(self, connection: Connection, address: str) -> None:
        """Remove a closed connection."""
        self._open.discard(connection)
        self._counts[address] -= 1
        self._waiting[address].pop(connection, None)
        if not self._counts[address]:
            del self._counts[address], self._waiting[address]

    def wait(self, connection: Connection, address: str) -> None:
        """Note that a connection waits for its next request."""
        self._waiting[address][connection] = None

    def work(self, connection: Connection, address: str) -> None:
        """Note that a connection has a request."""
        self._waiting[address].pop(connection, None)

    def _make_room(self, address: str) -> bool:
        if self._counts[address] >= self.limits.per_address:
            return self._evict_of(address)
        if len(self._open) >= self.limits.connections:
            # The address with the most connections gives one up.
            return self._evict_of(max(self._counts, key=self._counts.__getitem__))
        return True

    def _evict_of(self, address: str) -> bool:
        oldest = next(iter(self._waiting[address]), None)
        if oldest is None:
            log.warning("refused a connection of %s, which has too many", address)
            return False
        log.warning("closed an idle connection of %s, which has too many", address)
        del self._waiting[address][oldest]
        oldest.evict()
        return True
