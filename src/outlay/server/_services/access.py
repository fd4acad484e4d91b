"""Look up API keys and ended tokens, without reading the store for each request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outlay.server._records import ApiKey
    from outlay.server._storage.store import Store


class AccessRecords:
    """Remembers what the store says of keys and tokens, until one begins or ends.

    So a revocation holds with the next request, also one by another program. Thread
    safety: the event loop's thread.

    Args:
        store: The store of the keys and tokens.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version: int | None = None
        self._keys: dict[bytes, ApiKey] = {}
        self._ended_tokens: frozenset[bytes] | None = None

    def key(self, digest: bytes) -> ApiKey | None:
        """Return the API key with this SHA-256.

        Raises:
            StoreUnavailableError: The database cannot be read.
        """
        self._forget_if_changed()
        key = self._keys.get(digest)
        if key is None:
            with self._store.reading() as reader:
                key = reader.key(digest)
            if key is not None:  # A client can make up any number of unknown keys.
                self._keys[digest] = key
        return key

    def is_ended(self, digest: bytes) -> bool:
        """Return whether the token with this digest was ended.

        Raises:
            StoreUnavailableError: The database cannot be read.
        """
        self._forget_if_changed()
        if self._ended_tokens is None:
            with self._store.reading() as reader:
                self._ended_tokens = reader.ended_tokens()
        return digest in self._ended_tokens

    def _forget_if_changed(self) -> None:
        version = self._store.access_version()
        if version != self._version:
            self._keys = {}
            self._ended_tokens = None
            self._version = version
