"""Read the tracked costs of one provider, net of corrections, for a reconciliation."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from outlay._reconcile import costs as reconcile_costs
from outlay._reconcile.costs import (
    CostReader,
    MetricPrice,
    NetAmounts,
    decode_data,
)
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.page import ALL
from outlay.server._wire.response_models import from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from outlay._reconcile.joining import Reconciliation
    from outlay._reconcile.values import Cost
    from outlay.server._records import Correction, ReceivedEvent
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
        events = CorrectedEvents(reader, namespace, default_currency)
        cursor: str | None = None
        while True:
            page = reader.events(namespace, where, _PAGE, cursor)
            corrections = events.corrections_of(page.events, as_of)
            costs = events.costs(of.provider, of.currency, corrections)
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


class CorrectedEvents:
    """Reads pages of events as costs, net of their corrections.

    Memory grows with the corrections of a page, and not with all of them.

    Args:
        reader: The view of the store.
        namespace: The organization.
        default_currency: The currency of events that name none.
    """

    def __init__(self, reader: Reader, namespace: str, default_currency: str) -> None:
        self._reader = reader
        self._namespace = namespace
        self._default_currency = default_currency

    @cached_property
    def _metrics(self) -> Mapping[str, MetricPrice]:
        costs, _ = self._reader.costs(self._namespace, None, ALL)
        return {one.id: MetricPrice(one.unit_cost, one.currency) for one in costs}

    def corrections_of(
        self, events: Sequence[ReceivedEvent], as_of: int | None
    ) -> list[Correction]:
        """Return the corrections of events up to an instant.

        Args:
            events: The events.
            as_of: The instant, in microseconds since 1970. If None, all are returned.
        """
        ids = [received.event.id for received in events]
        found = self._reader.corrections_of(self._namespace, ids)
        return [one for one in found if as_of is None or one.created_at <= as_of]

    def costs(
        self, provider: str, currency: str, corrections: Iterable[Correction]
    ) -> CostReader:
        """Return a reader of the events of one provider in one currency.

        Args:
            provider: The provider, as events name it.
            currency: The currency.
            corrections: The corrections of the events that are read.
        """
        net = NetAmounts(map(as_reconciled, corrections), self._metrics, currency)
        return CostReader(provider, currency, self._default_currency, net)


def as_reconciled(one: Correction) -> reconcile_costs.Correction:
    """Return a correction in the form that reconciliations read."""
    return reconcile_costs.Correction(
        one.id, one.event_id, one.kind.value, one.delta, one.cost_id, one.reverts
    )
