"""Replace customer ids, which may be e-mail addresses, by keyed digests."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Final, Self

from outlay._model.keys import DERIVED_HEX_DIGITS

if TYPE_CHECKING:
    from outlay._model.settings import Settings

PREFIX: Final = "hc1_"
"""Hashed customer, version 1."""

# As many digits as a key has: 160 bits make a collision of two customers as unlikely as
# one of two operations.
_is_hashed: Final = re.compile(
    f"{PREFIX}[0-9a-f]{{{DERIVED_HEX_DIGITS}}}", re.ASCII
).fullmatch


class CustomerHasher:
    """Replaces customer ids by HMAC-SHA-256 digests, if there is a key.

    A plain digest is not enough: an attacker with a list of addresses could hash all of
    them. Two ids are left as they are: one that is hashed already, so that its costs
    can be tracked again, and the customer of unattributed costs.

    Thread safety: immutable.
    """

    def __init__(self, key: bytes | None, unattributed: str) -> None:
        self._key = key
        self._unattributed = unattributed

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the hasher that ``settings`` describe."""
        secret = settings.hash_customer_ids
        key = secret.get_secret_value().encode() if secret else None
        return cls(key, settings.unattributed_customer_id)

    def subject_for(self, customer_id: str) -> str:
        """Return the name under which the server knows a customer."""
        if (
            self._key is None
            or customer_id == self._unattributed
            or _is_hashed(customer_id)
        ):
            return customer_id
        digest = hmac.digest(self._key, customer_id.encode(), "sha256").hex()
        return PREFIX + digest[:DERIVED_HEX_DIGITS]
