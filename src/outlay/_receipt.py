"""The return value of `track_cost`."""

from __future__ import annotations

import msgspec

from outlay._model import keys


class Receipt(msgspec.Struct, frozen=True, gc=False, eq=False):
    """The return value of `track_cost`.

    Thread safety: immutable.

    Attributes:
        durable: Whether the event survives the death of this process from now on.
    """

    durable: bool
    _operation_id: str
    _hasher: keys.HashObject | None = None

    @property
    def idempotency_key(self) -> str:
        """The idempotency key. It is computed here, because most callers need none."""
        if self._hasher is None:
            return self._operation_id
        return keys.derive_key(self._hasher, self._operation_id)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Receipt):
            return NotImplemented
        return self._key_and_durability == other._key_and_durability

    def __hash__(self) -> int:
        return hash(self._key_and_durability)

    def __repr__(self) -> str:
        key, durable = self._key_and_durability
        return f"Receipt(idempotency_key={key!r}, durable={durable!r})"

    def __reduce__(self) -> tuple[type[Receipt], tuple[bool, str]]:
        """Pickle the key, because a hash object cannot be pickled."""
        return Receipt, (self.durable, self.idempotency_key)

    @property
    def _key_and_durability(self) -> tuple[str, bool]:
        return self.idempotency_key, self.durable
