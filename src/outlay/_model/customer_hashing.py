"""Pseudonyms: digests in the place of customer ids, which may be e-mail addresses."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Final, Self

from outlay._model.keys import DERIVED_HEX_DIGITS

if TYPE_CHECKING:
    from outlay._model.settings import Settings

PREFIX: Final = "hc1_"
"""Hashed customer, version 1."""

# As many as a key has, for the same reason: 160 bits make a collision of two customers
# as unlikely as that of two operations.
_is_pseudonym: Final = re.compile(
    f"{PREFIX}[0-9a-f]{{{DERIVED_HEX_DIGITS}}}", re.ASCII
).fullmatch


class CustomerHasher:
    """Replaces customer ids by HMAC-SHA-256 digests, if there is a key.

    A plain digest would not do: whoever has a list of addresses could hash them all.
    What is a pseudonym already, and the bucket of costs that are nobody's, stay as they
    are; so what was kept under a pseudonym can be tracked again.
    """

    def __init__(self, key: bytes | None, bucket: str) -> None:
        self._key = key
        self._bucket = bucket

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the settings ask for."""
        secret = settings.hash_customer_ids
        key = secret.get_secret_value().encode() if secret else None
        return cls(key, settings.unattributed_customer_id)

    def subject_for(self, customer_id: str) -> str:
        """Return the name under which the server knows a customer."""
        if (
            self._key is None
            or customer_id == self._bucket
            or _is_pseudonym(customer_id)
        ):
            return customer_id
        digest = hmac.digest(self._key, customer_id.encode(), "sha256").hex()
        return PREFIX + digest[:DERIVED_HEX_DIGITS]
