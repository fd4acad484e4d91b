"""Set how long an organization's events are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._records import MICROSECONDS_PER_HOUR
from outlay.server._wire.response_models import format_instant
from outlay.server._wire.retention_models import RetentionResponse

if TYPE_CHECKING:
    from outlay.server._records import ApiKey
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store

_DAY: Final = 24 * MICROSECONDS_PER_HOUR


class RetentionService:
    """Sets and shows retention. Thread safety: the event loop's thread."""

    def __init__(self, store: Store, commits: CommitThread) -> None:
        self._store = store
        self._commits = commits

    async def set(self, key: ApiKey, days: int | None) -> RetentionResponse:
        """Keep the events of the organization for ``days``. None has no limit."""
        keep = None if days is None else days * _DAY
        await self._commits.run(lambda: self._store.set_retention(key.namespace, keep))
        return self.get(key)

    def get(self, key: ApiKey) -> RetentionResponse:
        """Return how long the events of the organization are kept."""
        with self._store.reading() as reader:
            found = reader.retention(key.namespace)
        before = found.deleted_before
        return RetentionResponse(
            None if found.keep is None else found.keep // _DAY,
            None if before is None else format_instant(before),
        )
