"""The parts that every service needs which writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._services.auth import Authenticator
    from outlay.server._settings import ServerSettings
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store


class WritingService:
    """A service that reads from the store, and writes on the commit thread.

    Args:
        store: The store.
        commits: The thread that writes.
        auth: The authenticator, which knows the organizations.
        settings: The server's settings.
        now: The source of the time, in microseconds since 1970.

    Attributes:
        changed: The functions that are called with the organization of each change.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        auth: Authenticator,
        settings: ServerSettings,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._commits = commits
        self._auth = auth
        self._settings = settings
        self._now = now
        self.changed: list[Callable[[str], None]] = []

    def _call_back(self, namespace: str) -> None:
        for call in self.changed:
            call(namespace)
