"""Turn events and totals into the rows of exports, page by page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from outlay.server._metering.decimals import ZERO, add, format_plain, multiply
from outlay.server._metering.metric import CompiledMetric, compile_metric
from outlay.server._services.gross import has_corrections
from outlay.server._storage.event_store import CursorError, EventFilter
from outlay.server._storage.page import ALL
from outlay.server._storage.store import CUSTOMER_NAME, NO_FILTER
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import format_instant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from outlay.server._metering.metric import Accumulator
    from outlay.server._records import CostMetric, ReceivedEvent
    from outlay.server._storage.store import Reader
    from outlay.server._wire.export_models import ExportQuery

Row: TypeAlias = Sequence[str | None]
"""The values of a row. Every amount is a text with all of its digits."""

DAY: Final = 86_400_000_000  # microseconds
_REMEMBERED: Final = 4096  # texts that rows share
_CURSOR: Final = re.compile(r"(cst_[a-zA-Z0-9]+)_(-?\d{1,9})", re.ASCII)

_encoder: Final = msgspec.json.Encoder()
encode_json: Final = _encoder.encode
encode_json_lines: Final = _encoder.encode_lines
decode_texts: Final = msgspec.json.Decoder(dict[str, str]).decode


class RowPage(NamedTuple):
    """A page of rows, and the cursor of the next page or None."""

    rows: list[Row]
    cursor: str | None


class Dimensions(NamedTuple):
    """The values of dimensions, by name and as JSON. Many rows share them."""

    values: Mapping[str, str]
    text: str


class GroupTotal(NamedTuple):
    """The cost of one customer and set of dimensions, in a metric on one day.

    Attributes:
        day: The start of the day in UTC, in microseconds since 1970.
        customer: The customer's id.
        dimensions: The values of the metric's dimensions.
        events: The number of events, net.
        quantity: The net quantity.
        cost: The net cost.
        gross: The cost without corrections.
        invoice: The id of the invoice that the cost was reconciled with, or ''.
    """

    metric: CompiledMetric
    day: int
    customer: str
    dimensions: Dimensions
    events: int
    quantity: Decimal
    cost: Decimal
    gross: Decimal
    invoice: str = ""

    @property
    def corrections(self) -> Decimal:
        """The net cost minus the gross cost."""
        return add(self.cost, self.gross.copy_negate())


Split: TypeAlias = Callable[
    [CompiledMetric, int, "Iterator[GroupTotal]"], "Iterator[GroupTotal]"
]
"""A function that divides the totals of a metric on the day that starts at an instant.

Their sums stay the same.
"""


class TotalKind(NamedTuple):
    """A kind of rows of totals.

    Attributes:
        rows_of: A function that returns the rows of a total.
        more_dimensions: The JSONPath of dimensions that rows need, by name. Of a metric
            without a dimension of this path, the events are read instead of the
            rollups, which is slow.
        split: A function that divides the totals of a metric on a day, or None.
    """

    rows_of: Callable[[GroupTotal], Sequence[Row]]
    more_dimensions: Mapping[str, str]
    split: Split | None = None


EVENT_COLUMNS: Final = (
    "id",
    "timestamp",
    "receivedAt",
    "type",
    "source",
    "customerId",
    "externalId",
    "idempotencyKey",
    "data",
)
TOTAL_COLUMNS: Final = (
    "costId",
    "costName",
    "day",
    "customerId",
    "dimensions",
    "events",
    "quantity",
    "unit",
    "cost",
    "grossCost",
    "corrections",
    "currency",
)


def event_page(reader: Reader, namespace: str, query: ExportQuery) -> RowPage:
    """Return a page of events, the newest first.

    Raises:
        CursorError: The cursor is not one of this store.
    """
    where = EventFilter(
        customers=None if query.subject is None else frozenset([query.subject]),
        start=query.start,
        end=query.end,
        as_of=query.as_of,
    )
    page = reader.events(namespace, where, query.limit, query.cursor)
    return RowPage([_event_row(one) for one in page.events], page.cursor)


def _event_row(received: ReceivedEvent) -> Row:
    event = received.event
    return (
        event.id,
        format_instant(event.at),
        format_instant(received.received_at),
        event.type,
        event.source,
        event.customer,
        event.external_id,
        event.key,
        event.data,
    )


def total_page(
    reader: Reader,
    namespace: str,
    query: ExportQuery,
    kind: TotalKind,
    now: int,
) -> RowPage:
    """Return a page of totals by metric, day, customer and dimensions.

    It ends with a whole day of a metric, so that it may have some more rows.

    Args:
        reader: The view of the store.
        namespace: The organization.
        query: The period and the page.
        kind: The kind of the rows.
        now: The time, in microseconds since 1970. No correction counts after it.

    Raises:
        CursorError: The cursor is not one of this export.
    """
    rows: list[Row] = []
    is_corrected = has_corrections(reader, namespace, query.as_of)
    last = now if is_corrected else None
    for metric, day in _days(reader, namespace, query, kind.more_dimensions, last):
        if len(rows) >= query.limit:
            return RowPage(rows, f"{metric.cost.id}_{day}")
        source = _Source(reader, metric, query, kind.more_dimensions)
        totals = _totals(source, day, is_corrected=is_corrected)
        if kind.split is not None:
            totals = kind.split(metric, day * DAY, totals)
        for total in totals:
            rows += kind.rows_of(total)
    return RowPage(rows, None)


def total_rows(total: GroupTotal) -> Sequence[Row]:
    """Return the row of a total."""
    cost = total.metric.cost
    quantity = format_plain(total.quantity)
    amount = quantity if total.cost is total.quantity else format_plain(total.cost)
    is_gross = total.gross is total.cost
    return (
        (
            cost.id,
            cost.name,
            _day_text(total.day),
            total.customer,
            total.dimensions.text,
            str(total.events),
            quantity,
            cost.unit,
            amount,
            amount if is_gross else format_plain(total.gross),
            "0" if is_gross else format_plain(total.corrections),
            cost.currency,
        ),
    )


@lru_cache(maxsize=_REMEMBERED)
def _day_text(day: int) -> str:
    return format_instant(day)[:10]


@lru_cache(maxsize=_REMEMBERED)
def _dimensions(names: tuple[str, ...], values: tuple[str, ...]) -> Dimensions:
    by_name = dict(zip(names, values, strict=True))
    return Dimensions(by_name, encode_json(by_name).decode())


def _days(
    reader: Reader,
    namespace: str,
    query: ExportQuery,
    more_dimensions: Mapping[str, str],
    last: int | None,
) -> Iterator[tuple[CompiledMetric, int]]:
    """Yield each metric and day that may have rows, from the cursor on."""
    costs, _ = reader.costs(namespace, None, ALL)
    after = _place(query.cursor)
    is_after = after is None
    detailed = [
        msgspec.structs.replace(
            cost, group_by={**cost.group_by, **_missing(cost, more_dimensions)}
        )
        for cost in costs
    ]
    for metric in filter(None, map(compile_metric, detailed)):
        if after is not None and metric.cost.id == after[0]:
            is_after = True
        times = reader.time_range(metric)
        if not is_after or times is None:
            continue
        # A correction may count up to now, long after the last event.
        end = min(query.end, max(times[1], last or times[1]) + 1)
        first = max(query.start, times[0]) // DAY
        if after is not None and metric.cost.id == after[0]:
            first = max(first, after[1])
        for day in range(first, -(-end // DAY)):
            yield metric, day


def _place(cursor: str | None) -> tuple[str, int] | None:
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise CursorError("pass the Outlay-Next-Cursor of the page before")
    return found[1], int(found[2])


class _Source(NamedTuple):
    """The source of the totals of one metric."""

    reader: Reader
    metric: CompiledMetric
    query: ExportQuery
    more_dimensions: Mapping[str, str]

    @property
    def window(self) -> Window:
        """The window of contributions. Within minutes, they come from the events."""
        is_extended = any(name in self.metric.names for name in self.more_dimensions)
        return Window.MINUTE if is_extended else Window.DAY

    @property
    def aliases(self) -> dict[str, int]:
        """The needed dimensions that the metric has under another name.

        Each has the position of its value.
        """
        positions = {
            self.metric.cost.group_by[name]: position
            for position, name in enumerate(self.metric.names)
        }
        return {
            name: positions[path]
            for name, path in self.more_dimensions.items()
            if name not in self.metric.names
        }


def _missing(cost: CostMetric, more_dimensions: Mapping[str, str]) -> dict[str, str]:
    """Return the dimensions whose paths a metric has under no name."""
    known = set(cost.group_by.values())
    return {name: path for name, path in more_dimensions.items() if path not in known}


def _totals(source: _Source, day: int, *, is_corrected: bool) -> Iterator[GroupTotal]:
    """Yield the totals of a day, by customer and dimensions."""
    metric = source.metric
    net = _groups(source, day, gross=False)
    gross = _groups(source, day, gross=True) if is_corrected else net
    aliases = source.aliases
    names = (*metric.names, *aliases)
    unit_cost = metric.cost.unit_cost
    is_money = unit_cost == 1  # then the quantity is the cost, to the last digit
    for key in sorted({**net, **gross}):
        total, before = net.get(key), gross.get(key)
        quantity = _quantity(total)
        cost = quantity if is_money else multiply(quantity, unit_cost)
        if before is not total:
            before_cost = multiply(_quantity(before), unit_cost)
        else:
            before_cost = cost
        yield GroupTotal(
            metric,
            day * DAY,
            key[0],
            _dimensions(
                names, (*key[1:], *[key[1 + place] for place in aliases.values()])
            ),
            0 if total is None else total.events,
            quantity,
            cost,
            before_cost,
        )


def _groups(
    source: _Source, day: int, *, gross: bool
) -> dict[tuple[str, ...], Accumulator]:
    metric, query = source.metric, source.query
    groups: dict[tuple[str, ...], Accumulator] = {}
    where = (
        NO_FILTER
        if query.subject is None
        else {CUSTOMER_NAME: frozenset([query.subject])}
    )
    for one in source.reader.contributions(
        metric,
        max(query.start, day * DAY),
        min(query.end, (day + 1) * DAY),
        names=frozenset([CUSTOMER_NAME, *metric.names]),
        where=where,
        window=source.window,
        gross=gross,
        as_of=source.query.as_of,
    ):
        key = (one.customer, *one.dimensions)
        accumulator = groups.get(key)
        if accumulator is None:
            accumulator = groups[key] = metric.new_accumulator()
        accumulator.add(one)
    return groups


def _quantity(accumulator: Accumulator | None) -> Decimal:
    found = None if accumulator is None else accumulator.result()
    return ZERO if found is None else found
