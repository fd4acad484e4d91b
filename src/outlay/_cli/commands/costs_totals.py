"""Totals of cost metrics, as a table for people or JSON for scripts."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._cli.output_amounts import aligned, plain
from outlay._model.money import exact_sum

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outlay._cli.server_api import CostMetric, Summary


COST: Final = "cost"
"""The built-in dimension of the cost metric's own name."""


class Period(NamedTuple):
    """The time that counts: ``start <= t < end``, both aware."""

    start: datetime
    end: datetime


class Result(NamedTuple):
    """What one cost metric came to."""

    metric: CostMetric
    summary: Summary


class Row(NamedTuple):
    """What of a total falls to one combination of labels; currencies do not mix."""

    labels: tuple[str, ...]
    currency: str


def rows(results: Iterable[Result], by: Sequence[str]) -> dict[Row, Decimal]:
    """Return the totals by the dimensions ``by``, of all cost metrics together.

    One of them may be `COST`, the metric's name. A metric without a dimension has "-"
    there, so that the rows always add up to the whole.
    """
    shares: dict[Row, list[Decimal]] = defaultdict(list)
    for metric, summary in results:
        groups: list[tuple[dict[str, str], Decimal | None]]
        groups = [(group.dimensions, group.cost) for group in summary.groups]
        if not metric.dimensions_among(by):
            groups = [({}, summary.total)]
        for values, cost in groups:
            labels = tuple(
                metric.name if name == COST else values.get(metric.wire_name(name), "-")
                for name in by
            )
            shares[Row(labels, metric.currency)].append(cost or Decimal())
    return {row: exact_sum(shares[row]) for row in sorted(shares)}


def totals_by_window(results: Iterable[Result]) -> dict[Row, Decimal]:
    """Return the totals by window of time, of all cost metrics together."""
    shares: dict[Row, list[Decimal]] = defaultdict(list)
    for metric, summary in results:
        for point in summary.time_series:
            row = Row((format_instant(point.window_start),), metric.currency)
            shares[row].append(point.cost)
    return {row: exact_sum(shares[row]) for row in sorted(shares)}


def totals(results: Iterable[Result]) -> dict[str, Decimal]:
    """Return the sum of all cost metrics by currency."""
    shares: dict[str, list[Decimal]] = defaultdict(list)
    for metric, summary in results:
        shares[metric.currency].append(summary.total or Decimal())
    return {currency: exact_sum(shares[currency]) for currency in sorted(shares)}


def show(period: Period, results: Sequence[Result], by: Sequence[str] | None) -> None:
    """Print a table of the dimensions ``by``, or of windows of time if it is None."""
    from outlay._cli import output as _tables

    shares = totals_by_window(results) if by is None else rows(results, by)
    sums = totals(results)
    texts = iter(aligned([*shares.values(), *sums.values()]))
    labels = ("from",) if by is None else tuple(by)
    blank = ("",) * (len(labels) - 1)
    body = [(*row.labels, next(texts), row.currency) for row in shares]
    footer = [("all", *blank, next(texts), currency) for currency in sums]
    print(f"{format_instant(period.start)} to {format_instant(period.end)}, UTC")
    _tables.show(
        _tables.table((*labels, "total", ""), body, amounts=["total"], footer=footer)
    )
    for metric, summary in results:
        if summary.excluded:
            print(
                f"{metric.name}: {summary.excluded} events had no usable value and "
                "are in no total"
            )


def format_instant(moment: datetime) -> str:
    """Return ``moment`` in UTC without a time of day or seconds that are zero."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return text.removesuffix(":00").removesuffix(" 00:00")


def as_json(period: Period, results: Sequence[Result]) -> str:
    """Return the totals as a JSON document; amounts are strings, exact everywhere."""
    document = {
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "costs": [_result_json(result) for result in results],
        "totals": {
            currency: plain(amount) for currency, amount in totals(results).items()
        },
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _result_json(result: Result) -> dict[str, Any]:
    metric, summary = result
    return {
        "id": metric.id,
        "name": metric.name,
        "eventType": metric.event_type,
        "currency": metric.currency,
        "total": None if summary.total is None else plain(summary.total),
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
                "from": point.window_start.isoformat(),
                "to": point.window_end.isoformat(),
                "total": plain(point.cost),
            }
            for point in summary.time_series
        ],
    }
