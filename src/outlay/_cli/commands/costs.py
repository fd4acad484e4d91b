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
    add_json_option,
    connection_settings,
)
from outlay._cli.output import (
    Table,
    plain,
    plain_or_none,
    pluralize,
    print_json,
    print_table,
)
from outlay._cli.server_api import ServerApi
from outlay._model.clock import SystemClock, from_ms
from outlay._model.money import exact_sum

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outlay._cli.server_api import CostMetric, Summary

WINDOWS: Final = ("MINUTE", "HOUR", "DAY", "MONTH")

_COST: Final = "cost"
"""A dimension of every metric: the metric's name."""

_DESCRIPTION: Final = """\
Show the totals of the cost metrics, to the last digit. The default period is the
current month, in UTC. An event without a value for a dimension is shown as "-".
"""

_EPILOG: Final = """\
examples:
  outlay costs
  outlay costs --by customer,provider --from 2026-10-01 --to 2026-11-01
  outlay costs --cost inference --window DAY --where customer=cus_123
"""


class Period(NamedTuple):
    """The period ``start <= t < end``. Both are aware."""

    start: datetime
    end: datetime


class Result(NamedTuple):
    """A cost metric and its summary."""

    metric: CostMetric
    summary: Summary


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
    breakdown = parser.add_mutually_exclusive_group()
    breakdown.add_argument(
        "--by",
        type=_names,
        default=(_COST,),
        metavar="DIMENSIONS",
        help="break down by these dimensions, separated by commas; every metric has "
        "'cost' and 'customer' (default: cost)",
    )
    breakdown.add_argument(
        "--window",
        type=str.upper,
        choices=WINDOWS,
        help="break down by time: MINUTE, HOUR, DAY or MONTH, in UTC",
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
        "--from",
        dest="start",
        type=_instant,
        metavar="TIME",
        help="start of the period, such as 2026-11-01 (default: start of the month)",
    )
    add(
        "--to",
        dest="end",
        type=_instant,
        metavar="TIME",
        help="end of the period, which itself does not count (default: end of the "
        "month)",
    )
    add_json_option(parser)
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the summaries from the server, and show them."""
    period = _period(arguments.start, arguments.end)
    where: dict[str, list[str]] = defaultdict(list)
    for name, value in arguments.where:
        where[name].append(value)
    with ServerApi(connection_settings(arguments)) as api:
        metrics = _selected(api.metrics(), arguments.cost)
        _check_dimensions(metrics, [*(set(arguments.by) - {_COST}), *where])
        results = [
            Result(
                metric,
                api.summary(
                    metric,
                    *period,
                    by=metric.dimensions_among(arguments.by),
                    window=arguments.window,
                    where=where,
                ),
            )
            for metric in metrics
            # No event of a metric without the dimension can have the value.
            if len(metric.dimensions_among(where)) == len(where)
        ]
    if arguments.json:
        print_json(_as_json(period, results), indent=2)
    elif not metrics:
        print("no cost metric yet; create one with: outlay metrics create")
    else:
        _print_result(period, results, None if arguments.window else arguments.by)
    return ExitCode.DONE


# The arguments.


def _period(start: datetime | None, end: datetime | None) -> Period:
    """Return the period. A missing end of it is the start or the end of the month."""
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


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 2026-11-01 or 2026-11-01T12:00:00Z"
        ) from None


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
    """Return the totals by dimensions, over all cost metrics.

    A metric without one of the dimensions has "-" there, so that the rows always add
    up to the whole.
    """
    shares: dict[Row, list[Decimal]] = defaultdict(list)
    for metric, summary in results:
        groups: list[tuple[dict[str, str], Decimal | None]]
        groups = [(group.dimensions, group.cost) for group in summary.groups]
        if not metric.dimensions_among(by):
            groups = [({}, summary.total)]
        for values, cost in groups:
            labels = tuple(
                metric.name
                if name == _COST
                else values.get(metric.wire_name(name), "-")
                for name in by
            )
            shares[Row(labels, metric.currency)].append(cost or Decimal())
    return {row: exact_sum(shares[row]) for row in sorted(shares)}


def _totals_by_window(results: Iterable[Result]) -> dict[Row, Decimal]:
    """Return the totals by window of time, over all cost metrics."""
    shares: dict[Row, list[Decimal]] = defaultdict(list)
    for metric, summary in results:
        for window in summary.time_series:
            row = Row((_short(window.window_start),), metric.currency)
            shares[row].append(window.cost)
    return {row: exact_sum(shares[row]) for row in sorted(shares)}


def _totals(results: Iterable[Result]) -> dict[str, Decimal]:
    """Return the sum of all cost metrics by currency."""
    shares: dict[str, list[Decimal]] = defaultdict(list)
    for metric, summary in results:
        shares[metric.currency].append(summary.total or Decimal())
    return {currency: exact_sum(shares[currency]) for currency in sorted(shares)}


def _print_result(
    period: Period, results: Sequence[Result], by: Sequence[str] | None
) -> None:
    """Print a table by dimensions, or by windows of time if ``by`` is None."""
    if by is None:
        labels: tuple[str, ...] = ("from",)
        shares = _totals_by_window(results)
    else:
        labels = tuple(by)
        shares = _totals_by_labels(results, by)
    blank = ("",) * (len(labels) - 1)
    print(f"{_short(period.start)} to {_short(period.end)}, UTC")
    print_table(
        Table(
            (*labels, "total", ""),
            [(*row.labels, amount, row.currency) for row, amount in shares.items()],
            [
                ("all", *blank, amount, currency)
                for currency, amount in _totals(results).items()
            ],
        )
    )
    for metric, summary in results:
        if summary.excluded:
            events = pluralize(summary.excluded, "event")
            print(f"{metric.name}: {events} without a usable value, in no total")


def _short(moment: datetime) -> str:
    """Return ``moment`` in UTC, without a time of day or seconds that are zero."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return text.removesuffix(":00").removesuffix(" 00:00")


def _as_json(period: Period, results: Sequence[Result]) -> dict[str, Any]:
    """Return the totals for scripts. Amounts are strings, which keep all digits."""
    return {
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "costs": [_result_json(result) for result in results],
        "totals": {
            currency: plain(amount) for currency, amount in _totals(results).items()
        },
    }


def _result_json(result: Result) -> dict[str, Any]:
    metric, summary = result
    return {
        "id": metric.id,
        "name": metric.name,
        "eventType": metric.event_type,
        "currency": metric.currency,
        "total": plain_or_none(summary.total),
        "events": summary.events,
        "excluded": summary.excluded,
        "groups": [
            {
                "dimensions": {
                    name: group.dimensions[metric.wire_name(name)]
                    for name in metric.dimensions
                    if metric.wire_name(name) in group.dimensions
                },
                "total": plain(group.cost),
            }
            for group in summary.groups
        ],
        "windows": [
            {
                "from": window.window_start.isoformat(),
                "to": window.window_end.isoformat(),
                "total": plain(window.cost),
            }
            for window in summary.time_series
        ],
    }
