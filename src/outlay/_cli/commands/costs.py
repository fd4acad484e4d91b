"""``outlay costs``: show totals by customer, dimension or time."""

from __future__ import annotations

import argparse
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    connection_settings,
    parse_time,
)
from outlay._cli.output import (
    Table,
    plain,
    plain_or_none,
    pluralize,
    print_data,
    print_table,
)
from outlay._cli.server_api import ServerApi
from outlay._model.clock import SystemClock, from_ms
from outlay._model.money import exact_sum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from outlay._cli.server_api import CostMetric, Summary, SummaryGroup

WINDOWS: Final = ("MINUTE", "HOUR", "DAY", "MONTH")

_MAX_WINDOWS: Final = 400  # windows that dimensions break down, one request each

_COST: Final = "cost"
"""A dimension of every metric: the metric's name."""

_DESCRIPTION: Final = """\
Show the totals of the cost metrics, to the last digit. The default period is the
current month, in UTC. An event without a value for a dimension is shown as "-".
"""

_EPILOG: Final = """\
examples:
  outlay costs
  outlay costs --by customer,provider --month 2026-10 --top 10
  outlay costs --cost inference --window DAY --where customer=cus_123
"""


class Period(NamedTuple):
    """The period ``start <= t < end``. Both are aware."""

    start: datetime
    end: datetime


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


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add(
        "--cost",
        action="append",
        default=[],
        metavar="NAME|ID",
        help="only this cost metric; may be repeated (default: all)",
    )
    add(
        "--by",
        type=_names,
        metavar="DIMENSIONS",
        help="break down by these dimensions, separated by commas; every metric has "
        "'cost' and 'customer' (default: cost, or nothing with --window)",
    )
    add(
        "--window",
        type=str.upper,
        choices=WINDOWS,
        help="break down by time: MINUTE, HOUR, DAY or MONTH, in UTC",
    )
    add(
        "--top",
        type=_positive,
        metavar="COUNT",
        help="show the largest totals, and the sum of all others as one",
    )
    add(
        "--where",
        type=_condition,
        action="append",
        default=[],
        metavar="DIMENSION=VALUE",
        help="count only these events; may be repeated: for one dimension, any of the "
        "values counts",
    )
    add(
        "--month",
        type=parse_time,
        metavar="MONTH",
        help="the period, such as 2026-10 (default: this month)",
    )
    add(
        "--from",
        dest="start",
        type=parse_time,
        metavar="TIME",
        help="start of the period, such as 2026-11-01 (default: start of the month)",
    )
    add(
        "--to",
        dest="end",
        type=parse_time,
        metavar="TIME",
        help="end of the period, which itself does not count (default: end of the "
        "month)",
    )
    add_format_options(parser)
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the totals from the server, and show them."""
    period = _period(arguments)
    by = arguments.by or (() if arguments.window else (_COST,))
    where: dict[str, list[str]] = defaultdict(list)
    for name, value in arguments.where:
        where[name].append(value)
    with ServerApi(connection_settings(arguments)) as api:
        metrics = _selected(api.metrics(), arguments.cost)
        _check_dimensions(metrics, [*(set(by) - {_COST}), *where])
        results = [
            _result(api, metric, period, by=by, window=arguments.window, where=where)
            for metric in metrics
            # No event of a metric without the dimension can have the value.
            if len(metric.dimensions_among(where)) == len(where)
        ]
    # Metrics without events would hide the others among rows of zeros.
    shown = [
        each for each in results if each.summary.events != 0 or each.summary.excluded
    ]
    shown = shown or results
    overlaps = _overlaps(shown)
    if overlaps and _COST not in by and not arguments.format:
        by = (*by, _COST)
    if arguments.window:
        columns: tuple[str, ...] = ("from", *by)
        totals = _totals_by_window(shown, by)
    else:
        columns = by
        totals = _totals_by_labels(shown, by)
    if arguments.top is not None:
        totals = _largest(totals, arguments.top, skip=len(columns) - len(by))
    if arguments.format:
        document = _as_json(period, results, overlaps)
        print_data(arguments.format, document, _csv_rows(columns, totals))
    elif not metrics:
        print("no cost metric yet; type: outlay metrics create --defaults")
    else:
        _print_result(period, columns, totals, shown)
        _print_notes(shown, overlaps)
    return ExitCode.DONE


def _result(
    api: ServerApi,
    metric: CostMetric,
    period: Period,
    *,
    by: Sequence[str],
    window: str | None,
    where: Mapping[str, Sequence[str]],
) -> Result:
    """Return the totals of one metric."""
    dimensions = metric.dimensions_among(by)
    if window is None:
        return Result(metric, api.summary(metric, *period, by=dimensions, where=where))
    summary = api.summary(metric, *period, window=window, where=where)
    if dimensions and len(summary.time_series) > _MAX_WINDOWS:
        raise UsageError(
            f"{len(summary.time_series):,} windows of {metric.name} have costs; pass a "
            "shorter period or a longer window"
        )
    windows = []
    for each in summary.time_series:
        # The first and the last window may reach out of the period.
        part = Period(
            max(each.window_start, period.start), min(each.window_end, period.end)
        )
        groups: tuple[SummaryGroup, ...] = ()
        if dimensions:
            groups = api.summary(metric, *part, by=dimensions, where=where).groups
        bounds = Period(each.window_start, each.window_end)
        windows.append(WindowTotals(bounds, each.cost, groups))
    return Result(metric, summary, tuple(windows))


# The arguments.


def _period(arguments: argparse.Namespace) -> Period:
    """Return the period. A missing end of it is the start or the end of the month."""
    start, end = arguments.start, arguments.end
    if arguments.month is not None:
        if start or end:
            raise UsageError("pass --month, or --from and --to, but not both")
        start = _first_of_month(arguments.month)
    try:
        if start is None:
            last = end - _INSTANT if end else from_ms(SystemClock().now_ms())
            start = _first_of_month(last)
        if end is None:
            end = _first_of_month(_first_of_month(start) + _OVER_A_MONTH)
    except OverflowError:
        raise UsageError("the calendar ends there; pass both --from and --to") from None
    if start >= end:
        raise UsageError(f"--from {_short(start)} is not before --to {_short(end)}")
    return Period(start, end)


_INSTANT: Final = timedelta(microseconds=1)
_OVER_A_MONTH: Final = timedelta(days=31)  # from a first: in the next month


def _first_of_month(moment: datetime) -> datetime:
    return datetime(moment.year, moment.month, 1, tzinfo=UTC)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no count; pass 1 or more")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, text.split(","))))


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not DIMENSION=VALUE")
    return name, value


def _selected(metrics: Sequence[CostMetric], names: Sequence[str]) -> list[CostMetric]:
    """Return the metrics of these names or ids, or all without names."""
    known = {metric.id for metric in metrics} | {metric.name for metric in metrics}
    for name in names:
        if name not in known:
            there = ", ".join(metric.name for metric in metrics) or "none"
            raise UsageError(f"no cost metric {name!r}; there are: {there}")
    return [
        metric
        for metric in metrics
        if not names or metric.id in names or metric.name in names
    ]


def _check_dimensions(metrics: Sequence[CostMetric], names: Iterable[str]) -> None:
    """Refuse a dimension that no metric has."""
    known = [*dict.fromkeys(name for metric in metrics for name in metric.dimensions)]
    for name in names:
        if metrics and name not in known:
            raise UsageError(f"no dimension {name!r}; there are: {', '.join(known)}")


# The totals.


def _totals_by_labels(
    results: Iterable[Result], by: Sequence[str]
) -> dict[Row, Decimal]:
    """Return the totals by dimensions, over all cost metrics."""
    shares: dict[Row, list[Decimal]] = defaultdict(list)
    for metric, summary, _ in results:
        for labels, cost in _labelled(metric, by, summary.groups, summary.total):
            shares[Row(labels, metric.currency)].append(cost)
    return {row: exact_sum(shares[row]) for row in sorted(shares)}


def _totals_by_window(
    results: Iterable[Result], by: Sequence[str]
) -> dict[Row, Decimal]:
    """Return the totals by window of time and dimensions, over all cost metrics."""
    shares: dict[Row, list[Decimal]] = defaultdict(list)
    for metric, _, windows in results:
        for window in windows:
            start = _short(window.period.start)
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
            metric.name if name == _COST else values.get(metric.wire_name(name), "-")
            for name in by
        )
        yield labels, cost


def _largest(
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
        kept = labels[skip:] if rank < count else ("(other)",) * len(labels[skip:])
        row = Row((*labels[:skip], *kept), currency)
        shown[labels[:skip], rank, row].append(amount)
    return {key[-1]: exact_sum(shown[key]) for key in sorted(shown)}


def _totals(results: Iterable[Result]) -> dict[str, Decimal]:
    """Return the sum of all cost metrics by currency."""
    shares: dict[str, list[Decimal]] = defaultdict(list)
    for metric, summary, _ in results:
        shares[metric.currency].append(summary.total or Decimal())
    return {currency: exact_sum(shares[currency]) for currency in sorted(shares)}


def _overlaps(results: Iterable[Result]) -> dict[str, list[str]]:
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


# The output.


def _print_result(
    period: Period,
    columns: Sequence[str],
    totals: Mapping[Row, Decimal],
    results: Sequence[Result],
) -> None:
    """Print the totals as a table."""
    blank = ("",) * (len(columns) - 1)
    print(f"{_short(period.start)} to {_short(period.end)}, UTC")
    print_table(
        Table(
            (*columns, "total", ""),
            [(*row.labels, amount, row.currency) for row, amount in totals.items()],
            [
                ("all", *blank, amount, currency)
                for currency, amount in _totals(results).items()
            ],
        )
    )


def _print_notes(results: Iterable[Result], overlaps: Mapping[str, list[str]]) -> None:
    """Print which events count twice, and which in no total."""
    for event_type, names in overlaps.items():
        print(
            f"{' and '.join(names)} count the same events, {event_type}, and 'all' "
            "adds them up; pass --cost to select one"
        )
    for metric, summary, _ in results:
        if summary.excluded:
            events = pluralize(summary.excluded, "event")
            print(f"{metric.name}: {events} without a usable value, in no total")


def _short(moment: datetime) -> str:
    """Return ``moment`` in UTC, without a time of day or seconds that are zero."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return text.removesuffix(":00").removesuffix(" 00:00")


def _csv_rows(
    columns: Sequence[str], totals: Mapping[Row, Decimal]
) -> list[dict[str, object]]:
    return [
        {
            **dict(zip(columns, row.labels, strict=True)),
            "total": plain(amount),
            "currency": row.currency,
        }
        for row, amount in totals.items()
    ]


def _as_json(
    period: Period, results: Sequence[Result], overlaps: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Return the totals for scripts. Amounts are strings, which keep all digits."""
    totals = _totals(results)
    return {
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "costs": [_result_json(result) for result in results],
        "totals": {currency: plain(amount) for currency, amount in totals.items()},
        "overlaps": overlaps,
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
                name: group.dimensions[metric.wire_name(name)]
                for name in metric.dimensions
                if metric.wire_name(name) in group.dimensions
            },
            "total": plain(group.cost),
        }
        for group in groups
    ]
