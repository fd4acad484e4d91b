"""Find the costs that a saved reconciliation matches with an invoice.

The last saved reconciliation of an event's provider, currency and day decides. It
matches events that it has seen, and whose corrections have not changed since.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from outlay._reconcile.costs import in_effect
from outlay._reconcile.matches import CostMatches
from outlay._reconcile.spans import Span
from outlay.server._metering.decimals import ZERO, add
from outlay.server._records import Aggregation
from outlay.server._services.export_rows import DAY
from outlay.server._services.tracked_costs import (
    PROVIDER_PATH,
    CorrectedEvents,
    as_reconciled,
)
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.page import ALL
from outlay.server._wire.response_models import (
    decode_data,
    from_microseconds,
    to_microseconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal

    from outlay._reconcile.costs import CostReader
    from outlay.server._metering.metric import CompiledMetric
    from outlay.server._records import (
        ClosedPeriod,
        Correction,
        ReceivedEvent,
        SavedReconciliation,
    )
    from outlay.server._services.export_rows import GroupTotal
    from outlay.server._storage.store import Reader
    from outlay.server._wire.export_models import ExportQuery

_PAGE: Final = 1000  # events
_AMOUNT_PATHS: Final = frozenset({"amount", "$.amount"})

GroupKey: TypeAlias = "tuple[str, ...]"
"""The customer and the dimensions of a total."""


@dataclass
class _Part:
    """The part of a total that one invoice has."""

    events: int = 0
    gross: Decimal = ZERO
    corrections: Decimal = ZERO


_Parts: TypeAlias = "dict[GroupKey, dict[str, _Part]]"


class _Candidate(NamedTuple):
    """An event that a reconciliation may match, by any of some digests."""

    received: ReceivedEvent
    fields: dict[str, Any]
    digests: tuple[bytes, ...]


class InvoicedCosts:
    """Divides totals by the invoices that their events were reconciled with.

    It reads the events of days that a reconciliation covers. Thread safety: one thread.

    Args:
        reader: The view of the store.
        namespace: The organization.
        default_currency: The currency of events that name none.
        query: The export.
    """

    def __init__(
        self,
        reader: Reader,
        namespace: str,
        default_currency: str,
        query: ExportQuery,
    ) -> None:
        self._reader = reader
        self._namespace = namespace
        self._query = query
        self._closed = reader.closed_periods(namespace)
        self._corrected = CorrectedEvents(reader, namespace, default_currency)
        saved, _ = reader.reconciliations(namespace, ALL)
        self._reconciliations = [
            _Reconciliation(one)
            for one in saved
            if one.counts(query.as_of)
            and _bounds(one)[0] < query.end
            and query.start < _bounds(one)[1]
        ]

    def split(
        self, metric: CompiledMetric, day: int, totals: Iterator[GroupTotal]
    ) -> Iterator[GroupTotal]:
        """Yield the totals of a day by invoice. Their sums stay the same.

        Args:
            metric: The metric of the totals.
            day: The start of the day, in microseconds since 1970.
            totals: The totals.
        """
        parts = self._parts(metric, day) if _sums_amounts(metric) else {}
        for total in totals:
            values = total.dimensions.values
            key = (total.customer, *(values[name] for name in metric.names))
            yield from _divided(total, parts.get(key, {}))

    def _parts(self, metric: CompiledMetric, day: int) -> _Parts:
        """Return the parts of the totals of a day that invoices have."""
        covering = [
            one
            for one in self._reconciliations
            if one.saved.currency == metric.cost.currency and one.overlaps(day)
        ]
        parts: _Parts = defaultdict(lambda: defaultdict(_Part))
        if not covering:
            return parts
        for page in self._events(metric, day, {one.saved.provider for one in covering}):
            for seen, candidates in self._candidates(covering, page):
                wanted = {digest for each in candidates for digest in each.digests}
                name = seen.reconciliation.saved.id
                found = self._reader.matches(self._namespace, name, wanted)
                for each in candidates:
                    if not found.isdisjoint(each.digests):
                        self._add(parts, seen, metric, each)
        return parts

    def _events(
        self, metric: CompiledMetric, day: int, providers: set[str]
    ) -> Iterator[Sequence[ReceivedEvent]]:
        query = self._query
        where = EventFilter(
            types=frozenset([metric.cost.event_type or ""]),
            customers=None if query.subject is None else frozenset([query.subject]),
            start=max(query.start, day),
            end=min(query.end, day + DAY),
            as_of=query.as_of,
            values={PROVIDER_PATH: frozenset(providers)},
        )
        cursor: str | None = None
        while True:
            page = self._reader.events(self._namespace, where, _PAGE, cursor)
            yield page.events
            cursor = page.cursor
            if cursor is None:
                return

    def _candidates(
        self, covering: Sequence[_Reconciliation], events: Sequence[ReceivedEvent]
    ) -> Iterator[tuple[_Seen, list[_Candidate]]]:
        """Yield the events of each reconciliation that decides about some."""
        found: defaultdict[int, list[_Candidate]] = defaultdict(list)
        corrections = self._corrected.corrections_of(events, self._query.as_of)
        effective = _by_event(corrections)
        seen = [self._seen(one, corrections) for one in covering]
        for received in events:
            if _counts_elsewhere(received.event.at, received.received_at, self._closed):
                continue
            fields = received.event.fields or decode_data(received.event.data)
            for place, one in enumerate(seen):
                if one.reconciliation.decides(received, fields):
                    digests = one.digests(received, fields, effective)
                    found[place].append(_Candidate(received, fields, digests))
                    break
        for place, candidates in found.items():
            yield seen[place], candidates

    def _seen(
        self, reconciliation: _Reconciliation, corrections: Sequence[Correction]
    ) -> _Seen:
        """Return a reconciliation with the corrections that it has seen."""
        saved = reconciliation.saved
        seen = [one for one in corrections if one.created_at <= saved.as_of]
        costs = self._corrected.costs(saved.provider, saved.currency, seen)
        return _Seen(reconciliation, costs, _by_event(seen))

    def _add(
        self,
        parts: _Parts,
        seen: _Seen,
        metric: CompiledMetric,
        one: _Candidate,
    ) -> None:
        value, dimensions, _ = metric.measure(one.fields)
        if value is None or isinstance(value, str):
            return
        event = one.received.event
        part = parts[event.customer, *dimensions][seen.reconciliation.saved.invoice_id]
        part.events += 1
        part.gross = add(part.gross, value)
        for correction in seen.corrections.get(event.id, ()):
            if (
                correction.delta is not None
                and correction.cost_id == metric.cost.id
                and not _counts_elsewhere(event.at, correction.created_at, self._closed)
            ):
                part.corrections = add(part.corrections, correction.delta)


class _Reconciliation:
    """A saved reconciliation, and the time that it covers."""

    def __init__(self, saved: SavedReconciliation) -> None:
        self.saved = saved
        self.matches = CostMatches(ZoneInfo(saved.zone), saved.period)
        self._start, self._end = _bounds(saved)

    def overlaps(self, day: int) -> bool:
        """Return whether it covers a part of the day that starts at an instant."""
        return self._start < day + DAY and day < self._end

    def decides(self, received: ReceivedEvent, fields: Mapping[str, Any]) -> bool:
        """Return whether it covers an event, whether it has seen it or not."""
        return (
            self._start <= received.event.at < self._end
            and fields.get("provider") == self.saved.provider
        )


class _Seen(NamedTuple):
    """A reconciliation, with the corrections of a page of events that it has seen.

    Attributes:
        reconciliation: The reconciliation.
        costs: The reader of the events, net of the corrections that it has seen.
        corrections: The corrections in effect that it has seen, by event.
    """

    reconciliation: _Reconciliation
    costs: CostReader
    corrections: Mapping[str, Sequence[Correction]]

    def digests(
        self,
        received: ReceivedEvent,
        fields: Mapping[str, Any],
        effective: Mapping[str, Sequence[Correction]],
    ) -> tuple[bytes, ...]:
        """Return the digests of which one matches an event. There may be none.

        Args:
            received: The event.
            fields: Its data.
            effective: The corrections in effect today, by event.
        """
        event = received.event
        if received.received_at > self.reconciliation.saved.as_of:
            return ()
        if self.corrections.get(event.id) != effective.get(event.id):
            return ()
        at = from_microseconds(event.at)
        cost = self.costs.read(event.id, at, event.type, fields)
        return () if cost is None else self.reconciliation.matches.of(cost)


def _divided(total: GroupTotal, parts: Mapping[str, _Part]) -> Iterator[GroupTotal]:
    """Yield the part of a total without an invoice, and that of each invoice."""
    if not parts:
        yield total
        return
    rest = total
    for invoice in sorted(parts):
        part = parts[invoice]
        cost = add(part.gross, part.corrections) if part.corrections else part.gross
        yield total._replace(
            events=part.events,
            quantity=cost,
            cost=cost,
            gross=part.gross,
            invoice=invoice,
        )
        gross = add(rest.gross, part.gross.copy_negate())
        is_gross = rest.gross is rest.cost
        cost = gross if is_gross else add(rest.cost, cost.copy_negate())
        rest = rest._replace(
            events=rest.events - part.events, quantity=cost, cost=cost, gross=gross
        )
    yield rest


def _by_event(corrections: Sequence[Correction]) -> dict[str, list[Correction]]:
    """Return the corrections in effect by event, in a fixed order."""
    effective = {
        one.correction_id for one in in_effect(map(as_reconciled, corrections))
    }
    by_event: defaultdict[str, list[Correction]] = defaultdict(list)
    for one in sorted(corrections, key=lambda one: one.id):
        if one.id in effective:
            by_event[one.event_id].append(one)
    return dict(by_event)


def _sums_amounts(metric: CompiledMetric) -> bool:
    """Return whether a metric adds up the amounts that reconciliations compare."""
    cost = metric.cost
    return (
        cost.aggregation is Aggregation.SUM
        and cost.unit_cost == 1
        and cost.value_property in _AMOUNT_PATHS
    )


def _counts_elsewhere(at: int, came_at: int, closed: Sequence[ClosedPeriod]) -> bool:
    """Return whether what came at a time counts in a later period than that of ``at``.

    All are in microseconds since 1970.
    """
    return any(one.start <= at < one.end and came_at >= one.closed_at for one in closed)


def _bounds(saved: SavedReconciliation) -> tuple[int, int]:
    """Return the first instant of a reconciliation, and the first one after it."""
    start, end = Span(saved.first, saved.last).bounds(ZoneInfo(saved.zone))
    return to_microseconds(start), to_microseconds(end)
