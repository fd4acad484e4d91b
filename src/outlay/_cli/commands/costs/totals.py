"""The totals of cost metrics by dimension and time, as values, CSV and JSON."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import MAX_PREC, ROUND_HALF_EVEN, Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._cli.output import plain, plain_or_none
from outlay._cli.periods import Period, short_time
from outlay._model.money import exact_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from outlay.api import CostMetric, Summary, SummaryGroup, UnmatchedType, Window

COST: Final = "cost"
"""A dimension of every metric: the metric's name."""


OTHERS: Final = "(other)"
"""The label of all rows after the largest ones."""


NO_WINDOW: Final = "-"
"""The label of a window of the period before that has none beside it."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT: Final = timedelta(microseconds=1)
_LENGTHS: Final = {
    "MINUTE": timedelta(minutes=1),
    "HOUR": timedelta(hours=1),
    "DAY": timedelta(days=1),
}


class Result(NamedTuple):
    """A cost metric and its totals.

    Attributes:
        metric: The cost metric.
        summary: Its totals over the period, without dimensions if there are windows.
        windows: Its totals in each window with costs, if ``--window`` was given.
    """

    metric: CostMetric
    summary: Summary
    windows: tuple[WindowTotals, ...] = ()


class WindowTotals(NamedTuple):
    """The totals of one window: ``period.start <= t < period.end``."""

    period: Period
    total: Decimal
    groups: tuple[SummaryGroup, ...]


class Row(NamedTuple):
    """The labels and the currency of one total. Currencies are never added."""

    labels: tuple[str, ...]
    currency: str


def totals_by_labels(
    results: Iterable[Result], by: Sequence[str]
) -> dict[Row, Decimal]:
    """Return the totals by dimensions, over all cost metrics."""
    shares: dict[Row, list[Decimal]] = defaultdict(list)
    for metric, summary, _ in results:
        for labels, cost in _labelled(metric, by, summary.groups, summary.total):
            shares[Row(labels, metric.currency)].append(cost)
    return {row: exact_sum(shares[row]) for row in sorted(shares)}


def totals_by_window(
    results: Iterable[Result],
    by: Sequence[str],
    label: Callable[[datetime], str] = short_time,
) -> dict[Row, Decimal]:
    """Return the totals by window of time and dimensions, over all cost metrics.

    Args:
        results: The totals of the metrics.
        by: The dimensions.
        label: A function that returns the label of a window's start.
    """
    shares: dict[Row, list[Decimal]] = defaultdict(list)
    for metric, _, windows in results:
        for window in windows:
            start = label(window.period.start)
            for labels, cost in _labelled(metric, by, window.groups, window.total):
                shares[Row((start, *labels), metric.currency)].append(cost)
    return {row: exact_sum(shares[row]) for row in sorted(shares)}


def _labelled(
    metric: CostMetric,
    by: Sequence[str],
    groups: Iterable[SummaryGroup],
    total: Decimal | None,
) -> Iterator[tuple[tuple[str, ...], Decimal]]:
    """Yield the costs of one metric with their labels.

    A metric without one of the dimensions has "-" there, so that the rows always add
    up to the whole.
    """
    shares = [(group.dimensions, group.cost) for group in groups]
    if not metric.dimensions_among(by):
        shares = [({}, total or Decimal())]
    for values, cost in shares:
        labels = tuple(
            metric.name if name == COST else values.get(name) or "-" for name in by
        )
        yield labels, cost


def largest(
    totals: Mapping[Row, Decimal], count: int, *, skip: int
) -> dict[Row, Decimal]:
    """Return the ``count`` largest totals of each currency, and the sum of the others.

    Args:
        totals: The totals by label.
        count: The number of label combinations to keep.
        skip: The number of first labels that are a time, and are not compared.
    """
    sums: dict[Row, list[Decimal]] = defaultdict(list)
    for (labels, currency), amount in totals.items():
        sums[Row(labels[skip:], currency)].append(amount)
    ranks: dict[str, list[Row]] = defaultdict(list)
    for key in sorted(sums, key=lambda key: (-exact_sum(sums[key]), key)):
        ranks[key.currency].append(key)
    # Sorted by time first, then by rank. The others have the last rank.
    shown: dict[tuple[tuple[str, ...], int, Row], list[Decimal]] = defaultdict(list)
    for (labels, currency), amount in totals.items():
        rank = min(ranks[currency].index(Row(labels[skip:], currency)), count)
        kept = labels[skip:] if rank < count else (OTHERS,) * len(labels[skip:])
        row = Row((*labels[:skip], *kept), currency)
        shown[labels[:skip], rank, row].append(amount)
    return {key[-1]: exact_sum(shown[key]) for key in sorted(shown)}


class Change(NamedTuple):
    """A total beside that of the period before. None stands for no costs."""

    total: Decimal | None
    before: Decimal | None

    def __str__(self) -> str:
        """Return the change in percent, such as ``+12.50 %``, or "-"."""
        if not self.before:
            return "-"
        with localcontext(prec=MAX_PREC):
            parts = ((self.total or 0) - self.before) * 10_000
        # Two decimals are for reading. The amounts beside it have all digits.
        percent = (parts / abs(self.before)).quantize(1, ROUND_HALF_EVEN).scaleb(-2)
        return f"{percent:+,.2f} %"


def changes(
    totals: Mapping[Row, Decimal], before: Mapping[Row, Decimal], *, skip: int = 0
) -> dict[Row, Change]:
    """Return each total beside the one before. A row of either period has a row.

    If ``totals`` has rows for all others, the labels that only ``before`` has are in
    such rows.

    Args:
        totals: The totals by label.
        before: The totals of the period before, by label.
        skip: The number of first labels that are a time.
    """
    kept = {Row(labels[skip:], currency) for labels, currency in totals}
    earlier: dict[Row, list[Decimal]] = defaultdict(list)
    for (labels, currency), amount in before.items():
        others = (OTHERS,) * len(labels[skip:])
        hidden = (
            Row(labels[skip:], currency) not in kept and Row(others, currency) in kept
        )
        shown = (*labels[:skip], *others) if hidden else labels
        earlier[Row(shown, currency)].append(amount)
    rows = [*totals, *(row for row in sorted(earlier) if row not in totals)]
    rows.sort(key=lambda row: [(time == NO_WINDOW, time) for time in row.labels[:skip]])
    return {
        row: Change(
            totals.get(row), exact_sum(earlier[row]) if row in earlier else None
        )
        for row in rows
    }


def label_in(
    period: Period, before: Period, window: Window
) -> Callable[[datetime], str]:
    """Return a function that labels a window of ``before`` by the one beside it.

    The n-th window of one period is beside the n-th of the other. A month may have more
    days than the one after it: the label of a window without one beside it is "-".
    """
    first, last = (
        _number(moment, window) for moment in (period.start, period.end - _INSTANT)
    )
    shift = first - _number(before.start, window)

    def label(start: datetime) -> str:
        number = _number(start, window) + shift
        return short_time(_start(number, window)) if number <= last else NO_WINDOW

    return label


def _number(moment: datetime, window: Window) -> int:
    """Return the number of the window that has ``moment``, in UTC."""
    if window == "MONTH":
        return moment.year * 12 + moment.month - 1
    return (moment - _EPOCH) // _LENGTHS[window]


def _start(number: int, window: Window) -> datetime:
    """Return the start of a window by its number."""
    if window == "MONTH":
        return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return _EPOCH + number * _LENGTHS[window]


def sums_by_currency(results: Iterable[Result]) -> dict[str, Decimal]:
    """Return the sum of all cost metrics by currency."""
    shares: dict[str, list[Decimal]] = defaultdict(list)
    for metric, summary, _ in results:
        shares[metric.currency].append(summary.total or Decimal())
    return {currency: exact_sum(shares[currency]) for currency in sorted(shares)}


def find_overlaps(results: Iterable[Result]) -> dict[str, list[str]]:
    """Return the names of the metrics that count the same event type, if several do."""
    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for metric, _, _ in results:
        if metric.event_type is not None:
            names[metric.event_type, metric.currency].append(metric.name)
    return {
        event_type: several
        for (event_type, _), several in names.items()
        if len(several) > 1
    }


def csv_rows(
    columns: Sequence[str],
    totals: Mapping[Row, Decimal],
    compared: Mapping[Row, Change] | None = None,
) -> list[dict[str, object]]:
    """Return the rows of the CSV table, with a column more if periods are compared."""
    if compared is not None:
        return [
            {
                **dict(zip(columns, row.labels, strict=True)),
                "total": plain_or_none(change.total),
                "before": plain_or_none(change.before),
                "currency": row.currency,
            }
            for row, change in compared.items()
        ]
    return [
        {
            **dict(zip(columns, row.labels, strict=True)),
            "total": plain(amount),
            "currency": row.currency,
        }
        for row, amount in totals.items()
    ]


def totals_json(
    period: Period,
    results: Sequence[Result],
    overlaps: Mapping[str, list[str]],
    unmatched: Iterable[UnmatchedType],
) -> dict[str, Any]:
    """Return the totals for scripts. Amounts are strings, which keep all digits."""
    totals = sums_by_currency(results)
    return {
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "costs": [_result_json(result) for result in results],
        "totals": {currency: plain(amount) for currency, amount in totals.items()},
        "overlaps": overlaps,
        "unmatched": {each.event_type: each.events for each in unmatched},
    }


def _result_json(result: Result) -> dict[str, Any]:
    metric, summary, windows = result
    return {
        "id": metric.id,
        "name": metric.name,
        "eventType": metric.event_type,
        "currency": metric.currency,
        "total": plain_or_none(summary.total),
        "events": summary.events,
        "excluded": summary.excluded,
        "groups": _groups_json(metric, summary.groups),
        "windows": [
            {
                "from": window.period.start.isoformat(),
                "to": window.period.end.isoformat(),
                "total": plain(window.total),
                **({"groups": groups} if groups else {}),
            }
            for window in windows
            for groups in [_groups_json(metric, window.groups)]
        ],
    }


def _groups_json(
    metric: CostMetric, groups: Iterable[SummaryGroup]
) -> list[dict[str, Any]]:
    return [
        {
            "dimensions": {
                name: group.dimensions[name]
                for name in metric.dimensions
                if name in group.dimensions
            },
            "total": plain(group.cost),
        }
        for group in groups
    ]
