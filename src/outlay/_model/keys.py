"""Derive idempotency keys from the operations' own ids.

The algorithm is frozen under its version prefix. ``docs/idempotency-keys.md`` specifies
it byte for byte, with test vectors for other languages.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Final, Protocol, Self

VERSION: Final = "ok1"
DERIVED_PREFIX: Final = "ok1_"
RANDOM_PREFIX: Final = "okr_"

# 160 of SHA-256's 256 bits: two of 10^15 operations collide with probability under
# 1e-18 (birthday bound n²/2^161). The key stays short enough to read out.
DERIVED_HEX_DIGITS: Final = 40

_RANDOM_BYTES: Final = 16  # as many as a UUID


class HashObject(Protocol):
    """A hash object of `hashlib`."""

    def copy(self) -> Self:
        """Return an independent hash of the same input so far."""
        ...

    def update(self, data: bytes, /) -> None:
        """Add to the input."""
        ...

    def hexdigest(self) -> str:
        """Return the digest of the input so far."""
        ...


def netstring(text: str) -> bytes:
    """Frame ``text`` so that no two lists of parts give the same bytes.

    Source: https://cr.yp.to/proto/netstrings.txt, over the UTF-8 bytes.
    """
    encoded = text.encode()
    return b"%d:%b," % (len(encoded), encoded)


def shared_key_hash(
    source: str, event_type: str, customer_id: str, provider: str, line: str
) -> HashObject:
    """Return a hash of the parts that operations share. `derive_key` completes it."""
    parts = (VERSION, source, event_type, customer_id, provider, line)
    return sha256(b"".join(map(netstring, parts)))


def derive_key(hasher: HashObject, operation_id: str) -> str:
    """Return the key of an operation.

    The same arguments give the same key in every process, version and language.
    """
    # A copy, because the hash is shared. The last part needs no frame.
    hasher = hasher.copy()
    hasher.update(operation_id.encode())
    return DERIVED_PREFIX + hasher.hexdigest()[:DERIVED_HEX_DIGITS]


def random_key() -> str:
    """Return a key that no other event has, for a cost without an operation id.

    It asks the operating system each time. A seeded generator would repeat itself in
    forked children, and in restored snapshots of a machine.
    """
    return RANDOM_PREFIX + os.urandom(_RANDOM_BYTES).hex()
