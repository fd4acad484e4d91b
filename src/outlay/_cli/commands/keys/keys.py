"""The API keys of a server, wherever they are changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta


class ApiKey(BaseModel):
    """An API key, as the server describes it.

    Attributes:
        hint: The last characters of the key.
        key: The key itself, if it is new.
    """

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True
    )

    id: str
    name: str
    permissions: tuple[str, ...]
    hint: str = ""
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    last_used_at: AwareDatetime | None = None
    key: str | None = None

    def state(self, now: datetime) -> str:
        """Return ``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "valid"


class Keys(Protocol):
    """Creates, lists, rotates and revokes API keys.

    Each method raises an `OutlayError` that says what to do.
    """

    def create(
        self, name: str, permissions: Sequence[str], expires_at: datetime | None
    ) -> ApiKey:
        """Create a key, and return it with itself."""
        ...

    def all(self) -> list[ApiKey]:
        """Return all keys, newest first."""
        ...

    def rotate(
        self, key_id: str, overlap: timedelta, expires_at: datetime | None
    ) -> ApiKey:
        """Create a key in place of another, which stays valid for ``overlap``."""
        ...

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        ...
