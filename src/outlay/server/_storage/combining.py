"""Combine the events of an hour, customer and set of dimensions into one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from outlay.server._metering.metric import (
    CompiledMetric,
    Dimensions,
    NumberAccumulator,
)
from outlay.server._records import MICROSECONDS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable

Combined: TypeAlias = dict[tuple[int, str, Dimensions], NumberAccumulator]
"""The accumulators of events, by hour, customer and dimensions."""

MeteredEvent: TypeAlias = tuple[int, int, str, dict[str, Any]]
"""The parts of an event that a metric reads: order of receipt, time, customer, data."""


def combine(
    metric: CompiledMetric, combined: Combined, events: Iterable[MeteredEvent]
) -> None:
    """Add events to the accumulators of their hour, customer and set of dimensions.

    Args:
        metric: The metric. It must be able to roll up.
        combined: The accumulators, to which new ones are added.
        events: The events of the metric's type.
    """
    measure, aggregation = metric.measure, metric.aggregation
    for seq, at, customer, fields in events:
        value, dimensions, other_currency = measure(fields)
        key = (at // MICROSECONDS_PER_HOUR, customer, dimensions)
        accumulator = combined.get(key)
        if accumulator is None:
            accumulator = combined[key] = NumberAccumulator(aggregation)
        # Only a metric that cannot roll up reads texts.
        accumulator.add_event(
            value,  # type: ignore[arg-type]
            at,
            seq,
            other_currency=other_currency,
        )
