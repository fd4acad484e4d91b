"""Read the tracked costs of one provider, net of corrections, for a reconciliation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay._reconcile import costs as reconcile_costs
from outlay._reconcile.costs import (
    CostReader,
    MetricPrice,
    NetAmounts,
    decode_data,
)
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.page import ALL, Page
from outlay.server._wire.response_models import from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from outlay._reconcile.joining import Reconciliation
    from outlay._reconcile.values import Cost
    from outlay.server._records import Correction
    from outlay.server._storage.store import Reader, Views

_PAGE: Final = 1000
PROVIDER_PATH: Final = "$.provider"


def tracked_costs(
    store: Views,
    namespace: str,
    default_currency: str,
    of: Reconciliation,
    as_of: int | None = None,
) -> Iterator[Cost]:
    """Yield the costs that a reconciliation needs, from one consistent view.

    Args:
        store: The store.
        namespace: The organization.
        default_currency: The currency of events that name none.
        of: The reconciliation, which has read its bill.
        as_of: The last instant of receipt that counts, in microseconds since 1970. If
            None, all events and corrections count.

    Raises:
        BillError: Neither the bill nor the caller names the provider.
    """
    window = of.window
    where = EventFilter(
        start=to_microseconds(window.start),
        end=to_microseconds(window.end),
        as_of=as_of,
        values={PROVIDER_PATH: frozenset([of.provider])},
    )
    with store.reading() as reader:
        costs = cost_reader(
            reader,
            namespace,
            of.provider,
            of.currency,
            default_currency=default_currency,
            corrections=all_corrections(reader, namespace, as_of),
        )
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


def cost_reader(
    reader: Reader,
    namespace: str,
    provider: str,
    currency: str,
    *,
    default_currency: str,
    corrections: Iterable[Correction],
) -> CostReader:
    """Return a reader of the costs of one provider in one currency, net."""
    metrics = {
        cost.id: MetricPrice(cost.unit_cost, cost.currency)
        for cost in reader.costs(namespace, None, ALL)[0]
    }
    net = NetAmounts(map(as_reconciled, corrections), metrics, currency)
    return CostReader(provider, currency, default_currency, net)


def as_reconciled(one: Correction) -> reconcile_costs.Correction:
    """Return a correction in the form that reconciliations read."""
    return reconcile_costs.Correction(
        one.id, one.event_id, one.kind.value, one.delta, one.cost_id, one.reverts
    )


def all_corrections(
    reader: Reader, namespace: str, as_of: int | None
) -> list[Correction]:
    """Return the corrections up to an instant, in microseconds since 1970, or all."""
    corrections: list[Correction] = []
    offset = 0
    while True:
        found, number = reader.corrections(namespace, Page(_PAGE, offset))
        corrections += [
            one for one in found if as_of is None or one.created_at <= as_of
        ]
        offset += len(found)
        if not found or offset >= number:
            return corrections
