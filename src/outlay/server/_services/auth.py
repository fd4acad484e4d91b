"""Authenticate API keys, and check their permissions and organizations."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from outlay.server._records import ApiKey
from outlay.server._services.access import AccessRecords
from outlay.server._wire.problems import (
    HttpProblem,
    missing_permission,
    not_found,
    other_organization,
    unauthorized,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from outlay.server._settings import ServerSettings
    from outlay.server._storage.store import Store

ALL_PERMISSIONS: Final = "*"

PERMISSIONS: Final = frozenset(
    {
        ALL_PERMISSIONS,
        "events:create",
        "events:read",
        "costs:write",
        "costs:read",
        "costMetrics:write",
        "apiKeys:read",
        "apiKeys:write",
        "metrics:read",
        "events:correct",
        "periods:close",
        "customers:erase",
        "retention:write",
        "revenue:read",
        "revenue:write",
        "budgets:read",
        "budgets:write",
    }
)
"""All permissions. The contract names only the first ones that create or write."""

ANY_KEY: Final = ""
"""The permission that every valid key has."""

_IMPLIED: Final = {"costMetrics:write": "costs:write"}  # its newer name

KEY_PREFIX: Final = "sk_test_"  # never sk_live_: this is not the live service
_KEY_BYTES: Final = 24
_ID_BYTES: Final = 12
_HINT_CHARS: Final = 4  # 16 of 192 random bits

_SCHEME: Final = b"bearer "

ANONYMOUS: Final = ApiKey(b"", "anybody", "", frozenset(), 0)
"""The key of requests to routes that need no key."""


def new_key() -> str:
    """Return a new key: the prefix of test keys, and 192 random bits."""
    return KEY_PREFIX + secrets.token_hex(_KEY_BYTES)


def key_digest(key: str) -> bytes:
    """Return the digest of a key, which is stored instead of the key.

    A plain SHA-256, without salt or stretching, is enough for 192 random bits, because
    they cannot be guessed. A look-up of a digest needs no constant time either. Its
    timing could reveal digests, and a digest does not lead to its key.
    """
    return sha256(key.encode()).digest()


def key_record(
    key: str,
    *,
    name: str,
    namespace: str,
    permissions: Iterable[str],
    now: int,
    expires_at: int | None = None,
) -> ApiKey:
    """Return the record of ``key`` for the store.

    Args:
        key: The key.
        name: A name that tells the key from others.
        namespace: The organization.
        permissions: The permissions, from `PERMISSIONS`.
        now: The time of creation, in microseconds since 1970.
        expires_at: The end of the key, in the same unit. If None, it has no end.

    Raises:
        ValueError: A permission does not exist.
    """
    granted = frozenset(permissions)
    if unknown := granted - PERMISSIONS:
        allowed = ", ".join(sorted(PERMISSIONS))
        raise ValueError(f"no permission {min(unknown)!r}; choose from {allowed}")
    return ApiKey(
        key_digest(key),
        name,
        namespace,
        granted,
        now,
        "key_" + secrets.token_hex(_ID_BYTES),
        key[-_HINT_CHARS:],
        expires_at,
    )


class Authenticator:
    """Authenticates requests. Thread safety: the event loop's thread."""

    def __init__(
        self, store: Store, settings: ServerSettings, now: Callable[[], int]
    ) -> None:
        self._store = store
        self._now = now
        self._used: set[bytes] = set()  # since `take_used`
        self._access = AccessRecords(store)
        everything = frozenset({ALL_PERMISSIONS})
        self._operator = ApiKey(
            b"", "operator", settings.namespace, everything, 0, "operator"
        )
        self._fixed: ApiKey | None = None
        self._dev: ApiKey | None = None
        if settings.dev:
            granted = frozenset({ALL_PERMISSIONS})
            self._dev = ApiKey(
                b"", "development", settings.namespace, granted, 0, "development"
            )
        if settings.api_key is not None:
            # In memory only. A fixed key can be guessable, so that its digest must not
            # be on disk.
            self._fixed = ApiKey(
                key_digest(settings.api_key),
                "fixed",
                settings.namespace,
                frozenset({ALL_PERMISSIONS}),
                0,
                "fixed",
            )

    def authenticate(self, authorization: bytes | None) -> ApiKey:
        """Return the key of a request.

        Args:
            authorization: The value of the header ``Authorization``, or None.

        Raises:
            HttpProblem: 401, because the key is missing, unknown, revoked or expired.
        """
        if self._dev is not None:
            return self._dev
        if authorization is None or authorization[:7].lower() != _SCHEME:
            raise unauthorized("send the header 'Authorization: Bearer <API key>'")
        return self._key_with(sha256(authorization[7:].strip()).digest())

    def key_of_session(self, digest: bytes) -> ApiKey | None:
        """Return the key of a session of the dashboard, or None if it was revoked.

        Args:
            digest: The SHA-256 of the key. Empty for the operator of the server, who
                opened a one-time link and has all permissions.
        """
        if not digest:
            return self._dev or self._operator
        try:
            return self._key_with(digest)
        except HttpProblem:
            return None

    def _key_with(self, digest: bytes) -> ApiKey:
        if self._fixed is not None and digest == self._fixed.digest:
            return self._fixed
        key = self._access.key(digest)
        if key is None:
            raise unauthorized(
                "this API key is not known here; check it, and the base URL"
            )
        if not key.is_valid(self._now()):
            ended = "expired" if key.revoked_at is None else "was revoked"
            raise unauthorized(f"this API key {ended}; use another one")
        self._used.add(digest)
        return key

    def take_used(self) -> set[bytes]:
        """Return the digests of stored keys that were used since the last call."""
        used, self._used = self._used, set()
        return used

    def check_namespace(self, key: ApiKey, field: str, namespace: str | None) -> None:
        """Refuse a request for another organization than the key's.

        Args:
            key: The request's API key.
            field: The name of the field, for the error message.
            namespace: The requested organization. If None, it is the key's own.

        Raises:
            HttpProblem: 403 for another organization, 404 for an unknown one.
        """
        if namespace is None or namespace == key.namespace:
            return
        with self._store.reading() as reader:
            known = reader.namespaces()
        known.update(one.namespace for one in (self._fixed, self._dev) if one)
        if namespace in known:
            raise other_organization(field, namespace)
        raise not_found("organization", namespace)


def require_permission(key: ApiKey, permission: str) -> None:
    """Refuse a key without ``permission``.

    Raises:
        HttpProblem: 403, with the missing permission.
    """
    granted = key.permissions
    if permission == ANY_KEY or ALL_PERMISSIONS in granted or permission in granted:
        return
    if any(_IMPLIED.get(other) == permission for other in granted):
        return
    raise missing_permission(permission)
