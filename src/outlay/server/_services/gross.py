"""Tell the parts of a net cost apart: gross, corrections, closed periods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._metering.decimals import ZERO, multiply
from outlay.server._storage.page import Page
from outlay.server._storage.store import NO_FILTER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from outlay.server._metering.metric import Accumulator, CompiledMetric
    from outlay.server._records import ClosedPeriod
    from outlay.server._services.breakdown import TimeWindow
    from outlay.server._storage.store import Reader


def has_corrections(reader: Reader, namespace: str, as_of: int | None) -> bool:
    """Return whether the organization has any correction or closed period.

    Without one, every cost is gross.

    Args:
        reader: The view of the store.
        namespace: The organization.
        as_of: The instant that is asked about, in microseconds since 1970. If None, it
            is the current state.
    """
    times = [one.closed_at for one in reader.closed_periods(namespace)]
    _, count = reader.corrections(namespace, Page(0, 0))
    if count:
        [oldest], _ = reader.corrections(namespace, Page(1, count - 1))
        times.append(oldest.created_at)
    return bool(times) and (as_of is None or min(times) <= as_of)


def gross_cost(
    reader: Reader,
    metric: CompiledMetric,
    period: TimeWindow,
    where: Mapping[str, frozenset[str]] = NO_FILTER,
    as_of: int | None = None,
) -> Decimal:
    """Return the cost of a period without corrections. Without a value it is 0."""
    accumulator = metric.new_accumulator()
    for one in reader.contributions(
        metric, *period, where=where, gross=True, as_of=as_of
    ):
        accumulator.add(one)
    return _cost(metric, accumulator)


def closed_costs(
    reader: Reader,
    metric: CompiledMetric,
    period: TimeWindow,
    where: Mapping[str, frozenset[str]] = NO_FILTER,
    as_of: int | None = None,
) -> list[tuple[ClosedPeriod, Decimal]]:
    """Return what counts in a period and belongs to closed ones, oldest first."""
    periods = {one.start: one for one in reader.closed_periods(metric.cost.namespace)}
    sums: dict[int, Accumulator] = {}
    for closed, one in reader.closed_adjustments(
        metric, *period, where=where, as_of=as_of
    ):
        accumulator = sums.get(closed)
        if accumulator is None:
            accumulator = sums[closed] = metric.new_accumulator()
        accumulator.add(one)
    return [(periods[closed], _cost(metric, sums[closed])) for closed in sorted(sums)]


def _cost(metric: CompiledMetric, accumulator: Accumulator) -> Decimal:
    quantity = accumulator.result()
    return ZERO if quantity is None else multiply(quantity, metric.cost.unit_cost)
