"""Break quantities down by window, dimension and filter, for summaries and reports."""

from __future__ import annotations

from datetime import MAXYEAR, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.problems import FieldError, HttpProblem, invalid_fields
from outlay.server._wire.request_models import CUSTOMER_DIMENSION, Window
from outlay.server._wire.response_models import (
    LAST_INSTANT,
    format_instant,
    from_microseconds,
    to_microseconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from outlay.server._metering.metric import (
        Accumulator,
        CompiledMetric,
        Contribution,
    )

K = TypeVar("K", bound="Hashable")

_MINUTE: Final = 60_000_000  # microseconds
_FIXED_WINDOWS: Final = {
    Window.MINUTE: _MINUTE,
    Window.HOUR: 60 * _MINUTE,
    Window.DAY: 24 * 60 * _MINUTE,
}
MAX_GROUPS: Final = 100_000
"""The most groups or windows of one response. Each takes some 1 kB of memory."""

_NAMES_LISTED: Final = 20  # so that no message grows with the number of dimensions
_REMEMBERED: Final = 8192  # windows; charts of the same hours are drawn again and again


class TimeWindow(NamedTuple):
    """A window of time, ``start <= t < end``, in microseconds since 1970."""

    start: int
    end: int


@lru_cache(_REMEMBERED)
def window_at(window: Window, at: int) -> TimeWindow:
    """Return the UTC-aligned window that contains ``at``."""
    if window is Window.MONTH:
        return _month_of(from_microseconds(at))
    length = _FIXED_WINDOWS[window]
    start = at - at % length
    return TimeWindow(start, start + length)


@lru_cache(_REMEMBERED)
def boundary_text(at: int) -> str:
    """Return the text of the start or end of a window."""
    return format_instant(at)


def _month_of(moment: datetime) -> TimeWindow:
    first = datetime(moment.year, moment.month, 1, tzinfo=moment.tzinfo)
    if (moment.year, moment.month) == (MAXYEAR, 12):
        return TimeWindow(to_microseconds(first), LAST_INSTANT)
    year, month = divmod(moment.year * 12 + moment.month, 12)
    following = datetime(year, month + 1, 1, tzinfo=moment.tzinfo)
    return TimeWindow(to_microseconds(first), to_microseconds(following))


class DimensionSelection(NamedTuple):
    """Reads named dimensions from contributions.

    Attributes:
        names: The dimensions' names, in the requested order.
        values: A function that returns their values.
    """

    names: tuple[str, ...]
    values: Callable[[Contribution], tuple[str, ...]]


def select_dimensions(
    metric: CompiledMetric, field: str, names: Iterable[str]
) -> DimensionSelection:
    """Return the selection of ``names`` among the dimensions of a cost.

    Args:
        metric: The cost, compiled.
        field: The query parameter, for the error message.
        names: The names of the wanted dimensions.

    Raises:
        HttpProblem: 400, because a name is not a dimension of the cost.
    """
    wanted = tuple(dict.fromkeys(names))
    positions: list[int | None] = []
    for name in wanted:
        if name in metric.names:
            positions.append(metric.names.index(name))
        elif name == CUSTOMER_DIMENSION:
            positions.append(None)
        else:
            raise unknown_dimension(field, name, metric.names)

    def values(contribution: Contribution) -> tuple[str, ...]:
        dimensions = contribution.dimensions
        return tuple(
            [
                contribution.customer if position is None else dimensions[position]
                for position in positions
            ]
        )

    return DimensionSelection(wanted, values)


def unknown_dimension(field: str, name: str, names: Iterable[str]) -> HttpProblem:
    """Return the 400 for a name that is not one of ``names``. It lists some of them."""
    allowed = ", ".join([CUSTOMER_DIMENSION, *names][:_NAMES_LISTED])
    return invalid_fields(
        [
            FieldError(
                field,
                f"no dimension {name!r}; there are {allowed}",
                "UNKNOWN_DIMENSION",
            )
        ]
    )


def accumulate(
    metric: CompiledMetric, contributions: Iterable[tuple[K, Contribution]], most: int
) -> dict[K, Accumulator]:
    """Accumulate contributions by the key beside each.

    Args:
        metric: The metric.
        contributions: The contributions with their keys.
        most: The most keys.

    Raises:
        HttpProblem: 400, because there are more keys.
    """
    accumulators: dict[K, Accumulator] = {}
    for key, contribution in contributions:
        accumulator = accumulators.get(key)
        if accumulator is None:
            if len(accumulators) >= most:
                raise too_many_groups(most)
            accumulator = accumulators[key] = metric.new_accumulator()
        accumulator.add(contribution)
    return accumulators


def too_many_groups(most: int) -> HttpProblem:
    """Return the 400 for a query with over ``most`` groups or windows."""
    return HttpProblem(
        400,
        f"there are over {most:,} groups or windows; ask for a shorter period or "
        "longer windows, add a filter, or group by a dimension with fewer values",
        code="TOO_MANY_GROUPS",
    )


def stored_names(metric: CompiledMetric, names: Iterable[str]) -> frozenset[str]:
    """Return the names of dimensions as the store has them.

    A metric may have a dimension of its own with the name of the customer's.
    """
    return frozenset(_stored_name(metric, name) for name in names)


def event_filter(
    metric: CompiledMetric,
    wanted: Mapping[str, frozenset[str]],
    customer: str | None,
) -> dict[str, frozenset[str]]:
    """Return the filter of a query as the store has it.

    Args:
        metric: The cost, compiled.
        wanted: The wanted values, by the dimension's name.
        customer: The wanted customer. If None, all customers count.

    Raises:
        HttpProblem: 400, because a name is not a dimension of the cost.
    """
    select_dimensions(metric, "filterGroupBy", wanted)
    where = {_stored_name(metric, name): values for name, values in wanted.items()}
    if customer is not None:
        only = frozenset([customer])
        where[CUSTOMER_NAME] = where.get(CUSTOMER_NAME, only) & only
    return where


def _stored_name(metric: CompiledMetric, name: str) -> str:
    is_customer = name == CUSTOMER_DIMENSION and name not in metric.names
    return CUSTOMER_NAME if is_customer else name
