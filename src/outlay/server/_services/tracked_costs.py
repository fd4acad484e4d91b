"""Read the tracked costs of one provider, net of corrections, for a reconciliation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._reconcile.costs import (
    Correction,
    CostReader,
    MetricPrice,
    NetAmounts,
    decode_data,
)
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.page import ALL, Page
from outlay.server._wire.response_models import from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay._reconcile.joining import Reconciliation
    from outlay._reconcile.values import Cost
    from outlay.server._storage.store import Reader, Views

_PAGE: Final = 1000
_PROVIDER_PATH: Final = "$.provider"


def tracked_costs(
    store: Views, namespace: str, default_currency: str, of: Reconciliation
) -> Iterator[Cost]:
    """Yield the costs that a reconciliation needs, from one consistent view.

    Args:
        store: The store.
        namespace: The organization.
        default_currency: The currency of events that name none.
        of: The reconciliation, which has read its bill.

    Raises:
        BillError: Neither the bill nor the caller names the provider.
    """
    window = of.window
    where = EventFilter(
        start=to_microseconds(window.start),
        end=to_microseconds(window.end),
        values={_PROVIDER_PATH: frozenset([of.provider])},
    )
    with store.reading() as reader:
        metrics = {
            cost.id: MetricPrice(cost.unit_cost, cost.currency)
            for cost in reader.costs(namespace, None, ALL)[0]
        }
        net = NetAmounts(_corrections(reader, namespace), metrics, of.currency)
        costs = CostReader(of.provider, of.currency, default_currency, net)
        cursor: str | None = None
        while True:
            page = reader.events(namespace, where, _PAGE, cursor)
            for received in page.events:
                event = received.event
                cost = costs.read(
                    event.id,
                    from_microseconds(event.at),
                    event.type,
                    decode_data(event.data),
                )
                if cost is not None:
                    yield cost
            cursor = page.cursor
            if cursor is None:
                return


def _corrections(reader: Reader, namespace: str) -> Iterator[Correction]:
    offset = 0
    while True:
        found, number = reader.corrections(namespace, Page(_PAGE, offset))
        for one in found:
            yield Correction(
                one.id,
                one.event_id,
                one.kind.value,
                one.delta,
                one.cost_id,
                one.reverts,
            )
        offset += len(found)
        if not found or offset >= number:
            return
