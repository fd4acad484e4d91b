"""Take the costs that capture observed, with or without a price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Unpack

import msgspec

from outlay._client import pipeline_of
from outlay._fork import ensure_forked_state
from outlay._model import keys
from outlay._model.attribution import Attribution, current_attribution
from outlay._model.clock import format_rfc3339
from outlay._model.events import decode_event, encode_event
from outlay._model.unpriced_cost import UnpricedCost
from outlay._unattributed import tracking_captured
from outlay.errors import JournalFullError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from outlay._client import Client
    from outlay._client_options import TrackFields
    from outlay._journal.unpriced_store import StoredCost
    from outlay._model.money import Amount
    from outlay._receipt import Receipt


class CaptureSink:
    """Takes the costs that capture observed, for one client.

    It differs from `Client.track_cost` in two ways. A cost belongs to the attribution
    that capture names, whatever the running code is attributed to. And a missing
    customer never raises, because the observed call must not fail: a cost that
    ``unattributed="error"`` would refuse is dropped and counted.

    Cheap to create. Thread safety: any thread.
    """

    def __init__(self, client: Client) -> None:
        self._client: Final = client

    def track_captured(
        self,
        attribution: Attribution,
        event_type: str,
        amount: Amount,
        **fields: Unpack[TrackFields],
    ) -> Receipt:
        """Track a captured cost.

        Args:
            attribution: The customer and the defaults of the other fields.
            event_type: The event type. See `Client.track_cost`.
            amount: The exact amount.
            **fields: The other arguments of `Client.track_cost`.

        Raises:
            InvalidEventError: A field breaks a rule. Nothing was tracked.
            ClosedError: The client is closed. Nothing was tracked.
        """
        captured = tracking_captured.set(True)
        running = current_attribution.set(attribution)
        try:
            return self._client.track_cost(event_type, amount, **fields)
        finally:
            current_attribution.reset(running)
            tracking_captured.reset(captured)

    def store_unpriced(
        self,
        event_type: str,
        *,
        why: tuple[str, str],
        observation: bytes,
        **fields: Unpack[TrackFields],
    ) -> StoredCost | None:
        """Store a captured cost whose amount is not known yet.

        A cost without an operation id gets a random one now. So it counts once,
        whenever it is priced.

        Args:
            event_type: The event type. See `Client.track_cost`.
            why: The reason that there is no price, for machines and for people.
            observation: The observation as JSON, which price lists read later.
            **fields: The other arguments of `Client.track_cost`. Nothing is taken from
                the attribution of the running code.

        Returns:
            The stored cost, or None if it was dropped: there was no room, or it has no
            customer and the setting ``unattributed`` refuses it.

        Raises:
            InvalidEventError: A field breaks a rule. Nothing was stored.
            ClosedError: The client is closed. Nothing was stored.
        """
        ensure_forked_state()
        pipeline = pipeline_of(self._client)
        payload = self._compose_without_amount(event_type, fields)
        if fields.get("customer_id") is None and not pipeline.unattributed.accepts(
            event_type, payload
        ):
            return None
        cost = UnpricedCost(
            "waiting",
            *why,
            format_rfc3339(pipeline.clock.now_ms()),
            pipeline.settings.currency,
            msgspec.Raw(payload),
            msgspec.Raw(observation),
        )
        try:
            return pipeline.unpriced.add(cost)
        except JournalFullError as error:
            pipeline.dropped.add(payload, "unpriced_full", error)
            return None

    def _compose_without_amount(self, event_type: str, fields: TrackFields) -> bytes:
        pipeline = pipeline_of(self._client)
        customer_id = fields.get("customer_id")
        labels = (
            event_type,
            customer_id or pipeline.unattributed.fallback,
            fields.get("provider"),
            fields.get("line"),
            fields.get("operation"),
            fields.get("region"),
            fields.get("unit"),
            fields.get("provenance", "priced"),
        )
        operation_id = fields.get("operation_id")
        if operation_id is None:
            operation_id = keys.random_key()
            pipeline.count_random_key(event_type)
        *_, payload = pipeline.composer.compose(
            labels,
            0,
            operation_id,
            fields.get("timestamp"),
            fields.get("quantity"),
            fields.get("data"),
        )
        pipeline.lifecycle.start()
        event = decode_event(payload)
        del event.data["amount"]  # no reader may take the 0 for an amount
        return encode_event(event)

    def replacing_unpriced(self, stored: StoredCost) -> AbstractContextManager[bool]:
        """Replace an unpriced cost by its event, which is tracked inside of ``with``.

        Capture learned the price in another way. A kill in between neither loses nor
        doubles the cost.

        Args:
            stored: The value that `store_unpriced` returned in this process.

        Returns:
            A context manager. It returns whether the cost still waits. If not, a
            command has tracked or discarded it, and there is nothing to track. It
            raises OSError if the disk cannot note the change.
        """
        return pipeline_of(self._client).unpriced.replacing(stored)
