"""Name the cubes in which rollups of a metric are kept.

A cube keeps some of the dimensions and adds up over the others:

    TOTAL       no dimension
    CUSTOMER    the customer
    LABELS      all dimensions of the metric, without the customer
    DETAIL      the customer and all dimensions
    LABEL + i   dimension i alone, if the metric has several

Each cube has rows by hour, day and month. The cubes `TOTAL` and `CUSTOMER` have rows by
thirds of months, too, because a query may read all of their rows of a period.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._storage.store import CUSTOMER_NAME

if TYPE_CHECKING:
    from outlay.server._metering.metric import CompiledMetric

TOTAL: Final = 0
CUSTOMER: Final = 1
LABELS: Final = 2
DETAIL: Final = 3
LABEL: Final = 4

WITH_THIRDS: Final = frozenset({TOTAL, CUSTOMER})
"""The cubes that have rows of the grain `Grain.THIRD`."""


def cube_for(metric: CompiledMetric, needed: set[str]) -> int:
    """Return the smallest cube that has the needed dimensions."""
    if not needed:
        return TOTAL
    if CUSTOMER_NAME in needed:
        return CUSTOMER if len(needed) == 1 else DETAIL
    if len(needed) == 1 and len(metric.names) > 1:
        return LABEL + metric.names.index(next(iter(needed)))
    return LABELS
