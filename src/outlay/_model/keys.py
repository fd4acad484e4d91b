"""Idempotency keys, derived from the operation's own id.

The algorithm is frozen under its version prefix and written down byte for byte, with
test vectors for other languages, in ``docs/idempotency-keys.md``.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Final

VERSION: Final = "ok1"
DERIVED_PREFIX: Final = "ok1_"
RANDOM_PREFIX: Final = "okr_"

# 160 of SHA-256's 256 bits: two of 10^15 operations collide with probability under
# 1e-18 (birthday bound n²/2^161), and the key stays short enough to read out.
_HEX_DIGITS: Final = 40

_RANDOM_BYTES: Final = 16  # as many as a UUID


def netstring(text: str) -> bytes:
    """Frame ``text`` so that no two lists of parts give the same bytes.

    Source: https://cr.yp.to/proto/netstrings.txt, over the UTF-8 bytes.
    """
    encoded = text.encode()
    return b"%d:%b," % (len(encoded), encoded)


def key_prefix(
    source: str, event_type: str, customer_id: str, provider: str, line: str
) -> bytes:
    """Return the part of the digest's input that many operations share."""
    parts = (VERSION, source, event_type, customer_id, provider, line)
    return b"".join(map(netstring, parts))


def derive_key(prefix: bytes, operation_id: str) -> str:
    """Return the key of the operation ``operation_id`` under a `key_prefix`.

    The same arguments give the same key in every process, version and language.
    """
    # The last part needs no frame: it is whatever the framed parts leave.
    digest = sha256(prefix + operation_id.encode()).hexdigest()
    return DERIVED_PREFIX + digest[:_HEX_DIGITS]


def random_key() -> str:
    """Return a key that no other event has, for a cost without an operation id.

    Asks the operating system each time: a seeded generator would repeat itself in
    forked children and in restored snapshots of a machine.
    """
    return RANDOM_PREFIX + os.urandom(_RANDOM_BYTES).hex()
