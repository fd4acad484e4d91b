"""Add up contributions of which some take others off again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._metering.metric import Contribution, NumberAccumulator
from outlay.server._storage.store import CUSTOMER_NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from outlay.server._metering.metric import CompiledMetric, Dimensions


def netted(
    metric: CompiledMetric,
    names: Collection[str],
    start: int,
    contributions: Iterable[Contribution],
) -> Iterator[Contribution]:
    """Yield one contribution for each group that has events left.

    Args:
        metric: A metric that can subtract.
        names: The dimensions in which groups differ, or `CUSTOMER_NAME`.
        start: The start of the period, in microseconds since 1970.
        contributions: Contributions that match the filter of the query. Those with
            negative counts take events off that others count.
    """
    sums: dict[tuple[str, Dimensions], NumberAccumulator] = {}
    by_customer = CUSTOMER_NAME in names
    kept = [name in names for name in metric.names]
    has_dimensions, nothing = any(kept), ("",) * len(kept)
    for one in contributions:
        dimensions = nothing
        if has_dimensions:
            pairs = zip(kept, one.dimensions, strict=True)
            dimensions = tuple([text if is_kept else "" for is_kept, text in pairs])
        key = (one.customer if by_customer else "", dimensions)
        total = sums.get(key)
        if total is None:
            total = sums[key] = NumberAccumulator(metric.aggregation)
        total.add(one)
    for (customer, dimensions), total in sums.items():
        if total.events:
            yield Contribution(
                start,
                customer,
                dimensions,
                total.events,
                total.skipped,
                total.value,
                (start, 0),
                total.other_currency,
            )
