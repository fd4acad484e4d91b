"""The states of a client, and the clients that a fork or an exit concerns."""

from __future__ import annotations

import enum
import threading
import weakref
from typing import TYPE_CHECKING, Final, Protocol

from outlay._model.clock import SystemClock
from outlay.errors import ClosedError

if TYPE_CHECKING:
    from outlay._model.settings import Settings


class ClientState(enum.Enum):
    """The state of a client.

    NEW ──track──▶ RUNNING ──close──▶ CLOSED;  in a forked child RUNNING is NEW again.
                      └──────exit───▶ EXITING

    While the process exits, other exit hooks, finalisers and daemon threads may still
    track. Their events go to the journal, for the next process.
    """

    NEW = "new"
    RUNNING = "running"
    EXITING = "exiting"
    CLOSED = "closed"


class Lifecycle:
    """Changes the state of a client.

    Thread safety: any thread, re-entrant.

    Attributes:
        state: The state. Read it without a lock.
    """

    def __init__(self) -> None:
        self.state = ClientState.NEW
        self._lock = threading.RLock()

    def start(self) -> None:
        """Go to RUNNING from NEW. Called with each event that finds another state.

        Raises:
            ClosedError: The client is closed.
        """
        with self._lock:
            if self.state is ClientState.CLOSED:
                raise ClosedError("this client is closed; create another")
            if self.state is ClientState.NEW:
                self.state = ClientState.RUNNING

    def end(self, state: ClientState) -> bool:
        """Go to CLOSED or EXITING, and return whether the client was open before."""
        with self._lock:
            if self.state is ClientState.CLOSED:
                return False
            self.state = state
            return True

    def reset_after_fork(self) -> None:
        """Start again in a forked child. A closed client stays closed."""
        self._lock = threading.RLock()
        if self.state is not ClientState.CLOSED:
            self.state = ClientState.NEW


class LiveClient(Protocol):
    """The methods of a client that this module calls."""

    settings: Settings

    def _reset_after_fork(self) -> None: ...

    def _close_at_exit(self, timeout: float) -> None: ...


live_clients: Final[weakref.WeakSet[LiveClient]] = weakref.WeakSet()
"""The clients of this process that are not closed."""


def reset_all_after_fork() -> None:
    """Reset the clients in a forked child."""
    for client in list(live_clients):
        client._reset_after_fork()  # noqa: SLF001 - part of `LiveClient`


def close_all_at_exit() -> None:
    """Ship pending events at exit. The time limits of all clients run together."""
    clock = SystemClock()
    started = clock.monotonic()
    for client in list(live_clients):
        elapsed = clock.monotonic() - started
        client._close_at_exit(  # noqa: SLF001 - part of `LiveClient`
            max(0.0, client.settings.exit_timeout - elapsed)
        )
