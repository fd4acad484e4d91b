"""Notice what other servers of the ledger change."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

import psycopg

from outlay.server._storage.postgres import connecting

if TYPE_CHECKING:
    from outlay.server._storage.postgres.connecting import PostgresConnection

log = logging.getLogger("outlay.server")

EventType = tuple[str, str]
"""An organization and an event type."""

_POLL_SECONDS: Final = 0.5
_FRESH_SECONDS: Final = 0.002  # in which the events of one batch are looked up

_TYPES: Final = """
    SELECT DISTINCT namespace, event_type FROM costs
    WHERE event_type IS NOT NULL AND aggregation IS NOT NULL AND deleted_at IS NULL
"""


class Watcher:
    """Knows which event types have a metric, and when an API key changed.

    Thread safety: any thread.

    Args:
        url: The URL of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()  # of the connection
        self._connection: PostgresConnection | None = None
        self._types: frozenset[EventType] = frozenset()
        self._registry = -1
        self._keys = -1
        self._local = 0  # changes of this server
        self._snapshot = ""
        self._checked_at = float("-inf")
        self._stopping = threading.Event()
        # A daemon, because a server that was not stopped must not keep the process.
        self._thread = threading.Thread(
            target=self._poll, name="outlay-watcher", daemon=True
        )

    def start(self) -> None:
        """Read the current state, and start to poll.

        Raises:
            psycopg.Error: The database cannot be read.
        """
        self.check()
        self._thread.start()

    def stop(self) -> None:
        """End the polling."""
        self._stopping.set()
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    @property
    def version(self) -> tuple[int, int, int]:
        """A value that changes with each change of an API key or the registry."""
        return self._registry, self._keys, self._local

    @property
    def snapshot(self) -> str:
        """A value that changes with each commit, half a second later at most."""
        return self._snapshot

    def changed_here(self) -> None:
        """Note that this server changed something."""
        self._local += 1

    def knows(self, namespace: str, event_type: str) -> bool:
        """Return whether a metric reads events of this type.

        What is known costs nothing. What is not is looked up at once, so that an event
        is never refused because another server's metric was not noticed yet.

        Raises:
            StoreUnavailableError: The database cannot be read.
        """
        key = namespace, event_type
        if key in self._types:
            return True
        if time.monotonic() - self._checked_at > _FRESH_SECONDS:
            try:
                self.check()
            except psycopg.Error as error:
                raise connecting.unreadable(error) from error
        return key in self._types

    def check(self) -> None:
        """Read what changed.

        Raises:
            psycopg.Error: The database cannot be read.
        """
        with self._lock:
            try:
                self._read()
            except psycopg.Error:
                # PostgreSQL may have been restarted since the last look.
                self._disconnect()
                self._read()

    def _read(self) -> None:
        if self._connection is None:
            self._connection = connecting.connect(self._url, target_session_attrs="any")
        registry, keys, self._snapshot = self._connection.execute(
            "SELECT registry, keys, pg_current_snapshot()::text FROM outlay_state"
        ).fetchone()
        if registry != self._registry:
            # The types may be newer than their number. They are read again then.
            rows = self._connection.execute(_TYPES)
            self._types = frozenset((namespace, name) for namespace, name in rows)
        self._registry, self._keys = registry, keys
        self._checked_at = time.monotonic()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _poll(self) -> None:
        failing = False
        while not self._stopping.wait(_POLL_SECONDS):
            try:
                self.check()
            except psycopg.Error as error:
                if not failing:
                    log.warning(
                        "PostgreSQL cannot be read (%s); the server goes on trying",
                        connecting.reason(error),
                    )
                failing = True
            else:
                failing = False
