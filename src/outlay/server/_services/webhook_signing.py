"""Sign messages as the specification Standard Webhooks says.

Source: github.com/standard-webhooks/standard-webhooks, its specification, 2026-11.
The signed content is ``id.timestamp.body``. The signature is ``v1,`` and the base64 of
its HMAC-SHA256. A secret is ``whsec_`` and the base64 of 24 to 64 bytes.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_SECRET_MARK: Final = "whsec_"  # noqa: S105 - it marks a secret, and is none
_SECRET_BYTES: Final = 32


def new_secret() -> bytes:
    """Return a new random secret."""
    return secrets.token_bytes(_SECRET_BYTES)


def format_secret(secret: bytes) -> str:
    """Return a secret as its receiver needs it."""
    return _SECRET_MARK + b64encode(secret).decode()


def signed_headers(
    keys: Iterable[bytes], message_id: str, body: bytes, now: int
) -> list[tuple[bytes, bytes]]:
    """Return the headers of an attempt.

    Args:
        keys: The secrets of the webhook. Each makes a signature, and one is enough.
        message_id: The id of the message, the same for each attempt.
        body: The body, exactly as it is sent.
        now: The time of the attempt, in microseconds since 1970.
    """
    timestamp = now // 1_000_000
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = [b"v1," + b64encode(hmac.digest(key, content, sha256)) for key in keys]
    return [
        (b"webhook-id", message_id.encode()),
        (b"webhook-timestamp", b"%d" % timestamp),
        (b"webhook-signature", b" ".join(signatures)),
    ]
