"""``outlay costs``: totals by customer, dimension, or window of time."""

from __future__ import annotations

import argparse
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from outlay._cli.commands.costs_totals import (
    COST,
    Period,
    Result,
    as_json,
    format_instant,
    show,
)
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import add_connection, settings_of
from outlay._cli.server_api import ServerApi
from outlay._model.clock import SystemClock, from_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outlay._cli.server_api import CostMetric

WINDOWS: Final = ("MINUTE", "HOUR", "DAY", "MONTH")

_DESCRIPTION: Final = """\
Show what the cost metrics come to, to the last digit; without a period, this month,
in UTC. What has no value for a dimension is shown as "-".
"""

_EPILOG: Final = """\
examples:
  outlay costs
  outlay costs --by customer,provider --from 2026-10-01 --to 2026-11-01
  outlay costs --cost inference --window DAY --where customer=cus_123
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, arguments and examples."""
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
        default=(COST,),
        metavar="DIMENSIONS",
        help="break down by these, separated by commas; 'cost' and 'customer' are "
        "always there (default: cost)",
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
        help="count only these events; repeated for one dimension, any of the values",
    )
    add(
        "--from",
        dest="start",
        type=_instant,
        metavar="TIME",
        help="first instant that counts, such as 2026-11-01 (default: this month's)",
    )
    add(
        "--to",
        dest="end",
        type=_instant,
        metavar="TIME",
        help="first instant that does not count any more (default: next month's first)",
    )
    add("--json", action="store_true", help="print JSON; amounts are exact strings")
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Ask for the summaries, and show them."""
    period = _period(arguments.start, arguments.end)
    where: dict[str, list[str]] = defaultdict(list)
    for name, value in arguments.where:
        where[name].append(value)
    with ServerApi(settings_of(arguments)) as api:
        metrics = _chosen(api.metrics(), arguments.cost)
        _check_dimensions(metrics, [*(set(arguments.by) - {COST}), *where])
        results = []
        for metric in metrics:
            # No event of a metric without the dimension can have the value.
            if len(metric.dimensions_among(where)) == len(where):
                by = metric.dimensions_among(arguments.by)
                summary = api.summary(
                    metric, *period, by=by, window=arguments.window, where=where
                )
                results.append(Result(metric, summary))
    if arguments.json:
        print(as_json(period, results))
    elif not metrics:
        print("no cost metric yet; create one with: outlay metrics create")
    else:
        show(period, results, None if arguments.window else arguments.by)
    return ExitCode.DONE


def _period(start: datetime | None, end: datetime | None) -> Period:
    """Return the period; what was not given is where the month begins or ends."""
    try:
        if start is None:
            last = end - _INSTANT if end else from_ms(SystemClock().now_ms())
            start = _first_of_month(last)
        if end is None:
            end = _first_of_month(_first_of_month(start) + _OVER_A_MONTH)
    except OverflowError:
        raise UsageError("the calendar ends there; pass both --from and --to") from None
    if start >= end:
        raise UsageError(
            f"--from {format_instant(start)} is not before --to {format_instant(end)}"
        )
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


def _chosen(metrics: Sequence[CostMetric], names: Sequence[str]) -> list[CostMetric]:
    """Return the metrics of these names or ids; all if none are given."""
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
    """Refuse a dimension that none of the metrics has."""
    known = [*dict.fromkeys(name for metric in metrics for name in metric.dimensions)]
    for name in names:
        if metrics and name not in known:
            raise UsageError(f"no dimension {name!r}; there are: {', '.join(known)}")
