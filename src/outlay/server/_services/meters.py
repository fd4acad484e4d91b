"""Read the meters and the raw events of billable metrics."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay.server._metering.decimals import ZERO
from outlay.server._metering.metric import CompiledMetric, compile_metric
from outlay.server._services.billable_metrics import get_billable_metric
from outlay.server._services.breakdown import (
    TimeWindow,
    event_filter,
    select_dimensions,
    stored_names,
    window_at,
)
from outlay.server._storage.event_store import EventFilter
from outlay.server._storage.page import Page
from outlay.server._wire.billable_models import (
    MeterGroup,
    MeterResponse,
    MeterWindow,
)
from outlay.server._wire.event_models import MeterEvent, MeterEventList
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import (
    FIRST_INSTANT,
    Pagination,
    format_instant,
    json_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._metering.metric import Accumulator, Contribution
    from outlay.server._records import ApiKey, CostMetric, ReceivedEvent
    from outlay.server._storage.store import Reader, Views
    from outlay.server._wire.billable_models import MeterQuery
    from outlay.server._wire.event_models import MeterEventQuery

_STEP: Final = 200  # events that are read together


class MeterService:
    """Reads meters. Thread safety: any thread. A call may take seconds."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def meter(self, key: ApiKey, metric_id: str, query: MeterQuery) -> MeterResponse:
        """Return the quantity of a period, by group and by window.

        Raises:
            HttpProblem: The metric or a dimension does not exist.
        """
        with self._views.reading() as reader:
            metric = compile_metric(get_billable_metric(reader, key, metric_id))
            if metric is None:
                return MeterResponse(metric_id, json_number(ZERO))
            return _MeterBuilder(reader, metric, query).response()

    def events(
        self, key: ApiKey, metric_id: str, query: MeterEventQuery
    ) -> MeterEventList:
        """Return raw events of a billable metric, the newest first.

        Raises:
            HttpProblem: The metric does not exist.
        """
        with self._views.reading() as reader:
            metric = get_billable_metric(reader, key, metric_id)
            where = EventFilter(
                types=frozenset(filter(None, [metric.event_type])),
                customers=None if query.subject is None else frozenset([query.subject]),
                start=max(query.start, _first_instant(metric)),
                end=query.end,
                external_id=query.external_id,
                external_subject=query.external_subject,
                as_of=query.as_of,
            )
            total = reader.count_events(key.namespace, where)
            page = Page(query.limit, query.offset)
            events = _page_of_events(reader, key.namespace, where, page)
        return MeterEventList(
            metric_id,
            [_meter_event(event) for event in events],
            Pagination(query.limit, query.offset, total),
        )


def _page_of_events(
    reader: Reader, namespace: str, where: EventFilter, page: Page
) -> list[ReceivedEvent]:
    """Return a page by its offset. The events before it are read and left out."""
    wanted = page.offset + page.limit
    events: list[ReceivedEvent] = []
    cursor: str | None = None
    while len(events) < wanted:
        step = min(_STEP, wanted - len(events))
        found, cursor = reader.events(namespace, where, step, cursor)
        events += found
        if cursor is None:
            break
    return events[page.offset :]


def _first_instant(metric: CostMetric) -> int:
    """Return the first instant whose events count for a metric."""
    if metric.billable is None or metric.billable.event_from is None:
        return FIRST_INSTANT
    return metric.billable.event_from


class _Cell(NamedTuple):
    """The values of a group, and a window. The total has neither."""

    values: tuple[str, ...] = ()
    window: TimeWindow | None = None


class _MeterBuilder:
    """Builds one meter from one consistent view."""

    def __init__(
        self, reader: Reader, metric: CompiledMetric, query: MeterQuery
    ) -> None:
        self._reader = reader
        self._metric = metric
        self._query = query
        self._start = max(query.start, _first_instant(metric.cost))
        self._window = None if query.window_size is None else Window(query.window_size)
        self._selection = select_dimensions(metric, "groupBy", query.group_by)
        self._where = event_filter(metric, query.filter_group_by, query.subject)

    def response(self) -> MeterResponse:
        """Return the meter."""
        total = self._cells(frozenset(), None, lambda _: _Cell())
        meter = MeterResponse(self._metric.cost.id, _value(total.get(_Cell())))
        names = stored_names(self._metric, self._selection.names)
        if not names and self._window is None:
            return meter
        cells = self._cells(names, self._window, self._cell)
        groups = sorted({cell.values for cell in cells})
        first = self._query.group_offset
        shown = {*groups[first : first + self._query.group_limit]}
        rows = sorted(cell for cell in cells if cell.values in shown)
        if self._window is not None:
            meter.windowed_values = [
                MeterWindow(
                    format_instant(cell.window.start),
                    format_instant(cell.window.end),
                    _value(cells[cell]),
                )
                for cell in rows
                if cell.window is not None
            ]
        if names:
            meter.grouped_values = [self._group(cell, cells[cell]) for cell in rows]
            meter.group_count = len(groups)
        return meter

    def _cell(self, contribution: Contribution) -> _Cell:
        window = self._window
        return _Cell(
            self._selection.values(contribution),
            None if window is None else window_at(window, contribution.bucket_at),
        )

    def _cells(
        self,
        names: frozenset[str],
        window: Window | None,
        cell_of: Callable[[Contribution], _Cell],
    ) -> dict[_Cell, Accumulator]:
        cells: defaultdict[_Cell, Accumulator]
        cells = defaultdict(self._metric.new_accumulator)
        if self._start < self._query.end:
            for contribution in self._reader.contributions(
                self._metric,
                self._start,
                self._query.end,
                names=names,
                where=self._where,
                window=window,
                as_of=self._query.as_of,
            ):
                cells[cell_of(contribution)].add(contribution)
        return dict(cells)

    def _group(self, cell: _Cell, accumulator: Accumulator) -> MeterGroup:
        values = dict(zip(self._selection.names, cell.values, strict=True))
        return MeterGroup(values, _value(accumulator), accumulator.events)


def _value(accumulator: Accumulator | None) -> msgspec.Raw:
    """Return a quantity. The contract has no null: without a value it is zero."""
    quantity = None if accumulator is None else accumulator.result()
    return json_number(ZERO if quantity is None else quantity)


def _meter_event(found: ReceivedEvent) -> MeterEvent:
    event = found.event
    return MeterEvent(
        event.id,
        event.type,
        event.source,
        event.subject or "",
        format_instant(event.at),
        event.key,
        msgspec.Raw(event.data.encode()),
        event.external_id,
        event.external_subject,
    )
