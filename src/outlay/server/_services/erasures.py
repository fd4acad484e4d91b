"""Replace a customer's id by a pseudonym, while the server serves."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from outlay.server._wire.erasure_models import ErasureList, ErasureResponse
from outlay.server._wire.response_models import format_instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._records import ApiKey
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store

_RANDOM_BYTES: Final = 12


class ErasureService:
    """Begins erasures, and lists those that run.

    Thread safety: the event loop's thread.
    """

    def __init__(
        self, store: Store, commits: CommitThread, now: Callable[[], int]
    ) -> None:
        self._store = store
        self._commits = commits
        self._now = now

    async def begin(self, key: ApiKey, customer: str) -> ErasureResponse:
        """Begin to replace a customer's id. An erasure that runs goes on.

        The pseudonym is random, so that nothing leads back to the id.
        """
        now = self._now()
        pseudonym = "erased_" + secrets.token_hex(_RANDOM_BYTES)
        used = await self._commits.run(
            lambda: self._store.begin_erasure(key.namespace, customer, pseudonym, now)
        )
        return ErasureResponse(used, format_instant(now))

    def running(self, key: ApiKey) -> ErasureList:
        """Return the erasures of the organization that are not finished."""
        with self._store.reading() as reader:
            found = reader.erasures(key.namespace)
        return ErasureList(
            [
                ErasureResponse(one.pseudonym, format_instant(one.started_at))
                for one in found
            ]
        )
