"""Create, list, rotate and revoke API keys.

A key gives others only what it has itself: its permissions, its organization, and no
longer life. So a stolen key with few permissions cannot become one with more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._services.auth import key_record, new_key, require_permission
from outlay.server._storage.page import Page
from outlay.server._wire.key_models import KeyCreate, KeyList, KeyResponse, KeyRotate
from outlay.server._wire.problems import (
    FieldError,
    HttpProblem,
    invalid_fields,
    not_found,
)
from outlay.server._wire.response_models import Pagination, format_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from outlay.server._records import ApiKey
    from outlay.server._services.auth import Authenticator
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store
    from outlay.server._wire.request_models import ListQuery

_MICROSECONDS: Final = 1_000_000


class KeyService:
    """Creates, lists, rotates and revokes API keys.

    Thread safety: the event loop's thread.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        auth: Authenticator,
        now: Callable[[], int],
    ) -> None:
        self._store = store
        self._commits = commits
        self._auth = auth
        self._now = now

    async def create(self, caller: ApiKey, body: KeyCreate) -> KeyResponse:
        """Store a new key of the caller's organization.

        Raises:
            HttpProblem: 400 for an unknown permission or a wrong end, 403 for a
                permission that the caller lacks.
        """
        now = self._now()
        _check_grant(caller, body.permissions, body.expires_at, now)
        key = new_key()
        try:
            record = key_record(
                key,
                name=body.name,
                namespace=caller.namespace,
                permissions=body.permissions,
                now=now,
                expires_at=body.expires_at,
            )
        except ValueError as error:
            raise invalid_fields([FieldError("permissions", str(error))]) from None
        await self._commits.run(lambda: self._store.add_key(record))
        return key_response(record, key)

    async def list(self, caller: ApiKey, query: ListQuery) -> KeyList:
        """Return a page of the organization's keys, newest first."""
        self._auth.check_namespace(caller, "merchantId", query.merchant_id)
        await self.write_uses()
        with self._store.reading() as reader:
            keys, total = reader.keys(caller.namespace, Page(query.limit, query.offset))
        return KeyList(
            [key_response(key) for key in keys],
            Pagination(query.limit, query.offset, total),
        )

    async def get(self, caller: ApiKey, key_id: str) -> KeyResponse:
        """Return a key of the caller's organization.

        Raises:
            HttpProblem: 404, because there is no such key.
        """
        await self.write_uses()
        return key_response(self._find(caller, key_id))

    async def rotate(self, caller: ApiKey, key_id: str, body: KeyRotate) -> KeyResponse:
        """Store a new key with the permissions of another, which expires soon.

        Raises:
            HttpProblem: 403, 404, or 409 for a key that is not valid any more.
        """
        now = self._now()
        old = self._find(caller, key_id)
        if not old.is_valid(now):
            raise HttpProblem(
                409,
                "this key is not valid any more; create a new one",
                code="KEY_ENDED",
            )
        key = new_key()
        successor, end = rotated(
            old, key, now, body.overlap_seconds, expires_at=body.expires_at
        )
        _check_grant(caller, old.permissions, successor.expires_at, now)
        await self._commits.run(lambda: self._store.rotate_key(key_id, successor, end))
        return key_response(successor, key)

    async def revoke(self, caller: ApiKey, key_id: str) -> None:
        """Revoke a key of the caller's organization. The next request is refused.

        Raises:
            HttpProblem: 404, because there is no such key.
        """
        self._find(caller, key_id)
        now = self._now()
        await self._commits.run(lambda: self._store.revoke_key(key_id, now))

    async def write_uses(self) -> None:
        """Write which keys were used since the last call.

        Raises:
            StoreUnavailableError: The database failed to write.
        """
        used = self._auth.take_used()
        if used:
            now = self._now()
            await self._commits.run(lambda: self._store.note_key_uses(used, now))

    def _find(self, caller: ApiKey, key_id: str) -> ApiKey:
        with self._store.reading() as reader:
            key = reader.key_with_id(caller.namespace, key_id)
        if key is None:
            raise not_found("key", key_id)
        return key


def rotated(
    old: ApiKey,
    key: str,
    now: int,
    overlap_seconds: int,
    *,
    expires_at: int | None = None,
) -> tuple[ApiKey, int]:
    """Return the record of ``key``, which replaces ``old``, and the end of ``old``.

    Args:
        old: The key that is replaced.
        key: The new key.
        now: The time, in microseconds since 1970.
        overlap_seconds: The seconds for which the old key stays valid.
        expires_at: The end of the new key. If None, it lives as long as the old one.
    """
    if expires_at is None and old.expires_at is not None:
        expires_at = now + old.expires_at - old.created_at
    successor = key_record(
        key,
        name=old.name,
        namespace=old.namespace,
        permissions=old.permissions,
        now=now,
        expires_at=expires_at,
    )
    return successor, now + overlap_seconds * _MICROSECONDS


def key_response(key: ApiKey, secret: str | None = None) -> KeyResponse:
    """Return the body that describes a key.

    Args:
        key: The key's record.
        secret: The key itself, in the response of its creation. Defaults to None.
    """
    return KeyResponse(
        key.id,
        key.name,
        key.namespace,
        sorted(key.permissions),
        key.hint,
        format_instant(key.created_at),
        _instant(key.expires_at),
        _instant(key.revoked_at),
        _instant(key.last_used_at),
        secret,
    )


def _instant(at: int | None) -> str | None:
    return None if at is None else format_instant(at)


def _check_grant(
    caller: ApiKey, permissions: Iterable[str], expires_at: int | None, now: int
) -> None:
    """Refuse a grant of more than the caller has."""
    for permission in permissions:
        require_permission(caller, permission)
    if expires_at is not None and expires_at <= now:
        raise invalid_fields([FieldError("expiresAt", "must be in the future")])
    limit = caller.expires_at
    if limit is not None and (expires_at is None or expires_at > limit):
        raise invalid_fields(
            [
                FieldError(
                    "expiresAt",
                    "must not be later than the end of the key that asks, "
                    + format_instant(limit),
                )
            ]
        )
