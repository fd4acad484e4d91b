"""Define the bodies of requests and responses about API keys."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from outlay.server._wire.request_models import Instant, RequestModel, Text
from outlay.server._wire.response_models import Pagination, ResponseModel

DAY: Final = 86_400  # seconds
MAX_OVERLAP: Final = 90 * DAY


class KeyCreate(RequestModel):
    """A new API key of the caller's organization."""

    name: Text
    permissions: Annotated[list[str], Field(min_length=1)]
    expires_at: Instant | None = None


class KeyRotate(RequestModel):
    """The replacement of an API key by a new one with the same permissions."""

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP)] = DAY
    """The time for which the old key stays valid."""

    expires_at: Instant | None = None
    """The end of the new key. If None, it lives as long as the old one would have."""


class KeyResponse(ResponseModel, tag_field="object", tag="apiKey"):
    """An API key. The key itself is in the response of its creation only."""

    id: str
    name: str
    merchant_id: str
    permissions: list[str]
    hint: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None
    key: str | None = None


class KeyList(ResponseModel, tag_field="object", tag="list"):
    """A page of API keys, newest first."""

    data: list[KeyResponse]
    pagination: Pagination
