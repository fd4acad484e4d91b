"""The arguments of a client: its settings, the fields of a cost, and the hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from outlay._model.events import CostEvent

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from outlay._model.events import Json, OperationId, Provenance
    from outlay._model.money import Amount

DropHook: TypeAlias = Callable[[CostEvent, str], None]
"""Called with an event that was dropped, and the reason.

The hook may track costs. If those are dropped too, they are counted and logged, and the
hook is not called for them."""

DeadLetterHook: TypeAlias = Callable[[CostEvent, str, str], None]
"""Called with an event that will not be sent again, the reason, and the message."""

DeliveredHook: TypeAlias = Callable[[Sequence[CostEvent]], None]
"""Called with the events that the server accepted in one response, in no order."""


class SettingsInput(TypedDict, total=False):
    """Settings as keyword arguments. `Settings` explains each of them."""

    api_key: str | None
    base_url: str | None
    source: str | None
    namespace: str | None
    journal_dir: Path | str | None
    shipping: Literal["thread", "agent", "none"] | None
    durability: Literal["process", "disk", "memory"] | None
    batching: Literal["auto", "never", "always"] | None
    metrics: bool | None
    compression: Literal["auto", "never", "always"] | None
    allow_credits: bool | None
    currency: str | None
    price_book: Path | str | None
    update_prices: bool | None
    customer_id: str | None
    unattributed: Literal["default_customer", "error", "drop"] | None
    unattributed_customer_id: str | None
    hash_customer_ids: str | None
    max_journal_bytes: int | None
    segment_bytes: int | None
    max_memory_bytes: int | None
    max_unpriced_bytes: int | None
    max_batch_events: int | None
    max_batch_bytes: int | None
    max_senders: int | None
    linger: float | None
    timeout: float | None
    deadline: float | None
    retry_initial: float | None
    retry_max: float | None
    parked_retry_interval: float | None
    dedupe_window: float | None
    dedupe_margin: float | None
    exit_timeout: float | None


class TrackFields(TypedDict, total=False):
    """The optional arguments of `Client.track_cost`, which explains each of them."""

    customer_id: str | None
    operation_id: OperationId | None
    provider: str | None
    operation: str | None
    region: str | None
    line: str | None
    quantity: Amount | None
    unit: str | None
    provenance: Provenance
    timestamp: datetime | None
    data: Mapping[str, Json] | None
