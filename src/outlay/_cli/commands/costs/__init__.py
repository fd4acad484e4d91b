"""``outlay costs``: show totals by customer, dimension or time."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._cli.commands.costs.totals import (
    COST,
    Change,
    Result,
    Row,
    WindowTotals,
    changes,
    csv_rows,
    find_overlaps,
    label_in,
    largest,
    sums_by_currency,
    totals_by_labels,
    totals_by_window,
    totals_json,
)
from outlay._cli.connection import open_api
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    condition,
    connection_settings,
    positive,
)
from outlay._cli.output import (
    Table,
    pluralize,
    print_data,
    print_table,
)
from outlay._cli.periods import (
    Period,
    add_period_options,
    period_before,
    period_of,
    period_text,
)
from outlay.api import SummaryOptions
from outlay.errors import RejectedError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from outlay.api import Api, CostMetric, SummaryGroup, UnmatchedType, Window

WINDOWS: Final = ("MINUTE", "HOUR", "DAY", "MONTH")

_MAX_WINDOWS: Final = 400  # windows that dimensions break down, one request each

_DESCRIPTION: Final = """\
Show the totals of the cost metrics, to the last digit. The default period is the
current month, in UTC. An event without a value for a dimension is shown as "-".
"""

_EPILOG: Final = """\
examples:
  outlay costs
  outlay costs --by customer,provider --month 2026-10 --top 10
  outlay costs --by customer --window day --compare
  outlay costs --cost inference --window DAY --where customer=cus_123
"""


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
        type=positive,
        metavar="COUNT",
        help="show the largest totals, and the sum of all others as one",
    )
    add(
        "--compare",
        action="store_true",
        help="show the period before beside it; of a running period, the same part; "
        "with --window, the first window beside the first, and so on",
    )
    add(
        "--where",
        type=condition,
        action="append",
        default=[],
        metavar="DIMENSION=VALUE",
        help="count only these events; may be repeated: for one dimension, any of the "
        "values counts",
    )
    add_period_options(parser)
    add_format_options(parser)
    add_connection_options(parser)


class _Costs(NamedTuple):
    """The server's response about costs.

    Attributes:
        metrics: The cost metrics that the arguments select.
        results: Their totals.
        earlier: Their totals of the period before, if periods are compared.
        unmatched: The event types that no metric counts.
    """

    metrics: Sequence[CostMetric]
    results: Sequence[Result]
    earlier: Sequence[Result]
    unmatched: Sequence[UnmatchedType]


def run(arguments: argparse.Namespace) -> int:
    """Read the totals from the server, and show them."""
    period = period_of(arguments)
    before = period_before(period) if arguments.compare else None
    by = arguments.by or (() if arguments.window else (COST,))
    costs = _read(arguments, period, before, by)
    # Metrics without events would hide the others among rows of zeros.
    shown = [
        each
        for each in costs.results
        if each.summary.events != 0 or each.summary.excluded
    ] or costs.results
    overlaps = find_overlaps(shown)
    if overlaps and COST not in by and not arguments.format:
        by = (*by, COST)
    columns, totals = _totals(arguments, by, shown)
    compared = None
    if before:
        earlier = _earlier(arguments, by, costs.earlier, (period, before))
        compared = changes(totals, earlier, skip=len(columns) - len(by))
    if arguments.format:
        document = totals_json(period, costs.results, overlaps, costs.unmatched)
        if before:
            document["before"] = totals_json(before, costs.earlier, {}, ())
        print_data(arguments.format, document, csv_rows(columns, totals, compared))
        return ExitCode.DONE
    if not costs.metrics:
        print("no cost metric yet; type: outlay metrics create --defaults")
    elif before and compared is not None:
        _print_changes((period, before), columns, compared, (shown, costs.earlier))
    else:
        _print_result(period, columns, totals, shown)
    _print_notes(shown, overlaps)
    _print_unmatched(costs.unmatched)
    return ExitCode.DONE


def _read(
    arguments: argparse.Namespace,
    period: Period,
    before: Period | None,
    by: Sequence[str],
) -> _Costs:
    """Ask the server."""
    where = _conditions(arguments)
    with open_api(connection_settings(arguments)) as api:
        metrics = _selected(api.metrics(), arguments.cost)
        _check_dimensions(metrics, [*(set(by) - {COST}), *where])
        read = partial(
            _results,
            api,
            metrics,
            by=by,
            window=arguments.window,
            options=SummaryOptions(where=where, as_of=arguments.as_of),
        )
        return _Costs(
            metrics,
            read(period),
            read(before) if before else (),
            () if arguments.cost else _unmatched(api, period, arguments.as_of),
        )


def _totals(
    arguments: argparse.Namespace, by: Sequence[str], results: Sequence[Result]
) -> tuple[tuple[str, ...], dict[Row, Decimal]]:
    """Return the columns of the labels, and the totals."""
    if arguments.window:
        columns: tuple[str, ...] = ("from", *by)
        totals = totals_by_window(results, by)
    else:
        columns = tuple(by)
        totals = totals_by_labels(results, by)
    if arguments.top is not None:
        totals = largest(totals, arguments.top, skip=len(columns) - len(by))
    return columns, totals


def _earlier(
    arguments: argparse.Namespace,
    by: Sequence[str],
    results: Sequence[Result],
    periods: tuple[Period, Period],
) -> dict[Row, Decimal]:
    """Return the totals of the period before, under the labels of the period."""
    if not arguments.window:
        return totals_by_labels(results, by)
    return totals_by_window(results, by, label_in(*periods, arguments.window))


def _results(
    api: Api,
    metrics: Iterable[CostMetric],
    period: Period,
    *,
    by: Sequence[str],
    window: Window | None,
    options: SummaryOptions,
) -> list[Result]:
    """Return the totals of the metrics that can have the wanted values."""
    where = options.get("where") or {}
    return [
        _result(api, metric, period, by=by, window=window, options=options)
        for metric in metrics
        # No event of a metric without the dimension can have the value.
        if len(metric.dimensions_among(where)) == len(where)
    ]


def _result(
    api: Api,
    metric: CostMetric,
    period: Period,
    *,
    by: Sequence[str],
    window: Window | None,
    options: SummaryOptions,
) -> Result:
    """Return the totals of one metric."""
    dimensions = metric.dimensions_among(by)
    read = partial(api.summary, metric, **options)
    if window is None:
        return Result(metric, read(*period, by=dimensions))
    summary = read(*period, window=window)
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
            groups = read(*part, by=dimensions).groups
        bounds = Period(each.window_start, each.window_end)
        windows.append(WindowTotals(bounds, each.cost, groups))
    return Result(metric, summary, tuple(windows))


def _unmatched(
    api: Api, period: Period, as_of: datetime | None
) -> tuple[UnmatchedType, ...]:
    """Return the event types that no metric counts. Other services cannot tell."""
    try:
        return api.unmatched(*period, as_of=as_of)
    except RejectedError:
        return ()


# The arguments.


def _conditions(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Return the values that count, by dimension."""
    where: dict[str, list[str]] = defaultdict(list)
    for name, value in arguments.where:
        where[name].append(value)
    return where


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, text.split(","))))


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


# The output.


def _print_result(
    period: Period,
    columns: Sequence[str],
    totals: Mapping[Row, Decimal],
    results: Sequence[Result],
) -> None:
    """Print the totals as a table."""
    blank = ("",) * (len(columns) - 1)
    print(f"{period_text(*period)}, UTC")
    print_table(
        Table(
            (*columns, "total", ""),
            [(*row.labels, amount, row.currency) for row, amount in totals.items()],
            [
                ("all", *blank, amount, currency)
                for currency, amount in sums_by_currency(results).items()
            ],
        )
    )


def _print_changes(
    periods: tuple[Period, Period],
    columns: Sequence[str],
    compared: Mapping[Row, Change],
    results: tuple[Sequence[Result], Sequence[Result]],
) -> None:
    """Print the totals of two periods as a table."""
    period, before = periods
    now, earlier = (sums_by_currency(each) for each in results)
    blank = ("",) * (len(columns) - 1)
    print(f"{period_text(*period)}, beside {period_text(*before)}, UTC")
    print_table(
        Table(
            (*columns, "total", "before", "change", ""),
            [
                (*row.labels, *each, str(each), row.currency)
                for row, each in compared.items()
            ],
            [
                ("all", *blank, *each, str(each), currency)
                for currency in sorted({*now, *earlier})
                for each in [Change(now.get(currency), earlier.get(currency))]
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


def _print_unmatched(unmatched: Iterable[UnmatchedType]) -> None:
    """Print which event types count in no total, and what to type."""
    for each in unmatched:
        print(
            f"{each.event_type}: {pluralize(each.events, 'event')} not in any metric; "
            f"type: outlay metrics create NAME --event-type {each.event_type}"
        )
