"""What can be set on the server, with its limits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ("ServerSettings",)


class ServerSettings(BaseModel):
    """Settings of one server. Immutable; environment variables are not read here.

    Raises:
        pydantic.ValidationError: a value is outside of what its field allows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on. Loopback by default: the server speaks plain HTTP."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 4600
    """Port to listen on; 0 takes any free one."""

    database: Path | Literal[":memory:"] = Path("outlay.db")
    """The SQLite file, created on first use. ``:memory:`` is a temporary file that
    goes away with the server."""

    api_key: Annotated[str | None, Field(min_length=1, repr=False)] = None
    """A fixed key with all powers. None: the keys in the database count, and a
    database without any gets a generated one."""

    namespace: Annotated[str, Field(pattern=r"^org_[a-zA-Z0-9]+$")] = "org_local"
    """The organization of the fixed and of the generated key."""

    dedupe_window: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(hours=24)
    """How long after its first receipt an idempotency key is remembered."""

    accept_unmatched: bool = False
    """Accept events that no cost reads, instead of answering 422."""

    strict_products: bool = False
    """Answer 404 to a cost of an unknown product, instead of registering it."""

    strict_timestamps: bool = False
    """Answer 400 to a time without an offset, instead of reading it as UTC."""

    default_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """Currency of a cost metric that names none."""

    max_event_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    """Largest body of one event or of any request but a batch."""

    max_batch_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """Largest body of a batch."""

    max_batch_events: Annotated[int, Field(ge=1)] = 1000
    """Most events in one batch: as many as the service's own retired batch took."""

    max_waiting_events: Annotated[int, Field(ge=1)] = 100_000
    """Events that may wait for the disk at once; past it the answer is 503."""

    access_log: bool = False
    """Log a line for every request."""
