"""Compute the costs of many budgets at once, from the quantities of reports.

Budgets that have the same period, currency and kinds of filter are computed together.
So ten thousand budgets of customers need one reading of each cost metric, and not ten
thousand.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from outlay.server._metering.decimals import ZERO, add, multiply
from outlay.server._metering.metric import CompiledMetric, compile_metric
from outlay.server._records import BudgetPeriod
from outlay.server._services.breakdown import TimeWindow
from outlay.server._services.report_scope import named
from outlay.server._storage.page import ALL
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.response_models import from_microseconds, midnight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from outlay.server._metering.metric import Accumulator, Contribution
    from outlay.server._records import Budget, CostMetric
    from outlay.server._storage.store import Reader

_DAY: Final = timedelta(days=1)
_WEEK_DAYS: Final = 7
_DECEMBER: Final = 12

_Values: TypeAlias = tuple[str, ...]
"""The customer and the values of the dimensions that a budget's costs have."""


class BudgetWindow(NamedTuple):
    """A budget in one of its periods."""

    budget: Budget
    window: TimeWindow


class _Kind(NamedTuple):
    """The parts of budgets that are computed together."""

    window: TimeWindow
    currency: str
    names: tuple[str, ...]


def window_of(budget: Budget, at: int) -> TimeWindow:
    """Return the period of a budget that contains ``at``, in microseconds since 1970.

    It begins at midnight in the budget's time zone. So a day has 23 to 25 hours.
    """
    zone = ZoneInfo(budget.zone)
    today = from_microseconds(at).astimezone(zone).date()
    first, following = _days_of(budget.period, today)
    return TimeWindow(midnight(first, zone), midnight(following, zone))


def _days_of(period: BudgetPeriod, today: date) -> tuple[date, date]:
    """Return the first day of a period, and the first day after it."""
    if period is BudgetPeriod.DAY:
        return today, today + _DAY
    if period is BudgetPeriod.WEEK:
        first = today - today.weekday() * _DAY
        return first, first + _WEEK_DAYS * _DAY
    first = today.replace(day=1)
    if first.month == _DECEMBER:
        return first, date(first.year + 1, 1, 1)
    return first, first.replace(month=first.month + 1)


class Spending:
    """The costs of budgets, from one consistent view.

    Args:
        reader: The view.
        namespace: The organization.
    """

    def __init__(self, reader: Reader, namespace: str) -> None:
        self._reader = reader
        self._costs, _ = reader.costs(namespace, None, ALL)
        self._metrics = [
            metric for cost in self._costs if (metric := compile_metric(cost))
        ]

    def of(self, wanted: Iterable[BudgetWindow]) -> list[Decimal]:
        """Return the net costs of budgets in their periods, in the same order."""
        wanted = list(wanted)
        kinds: defaultdict[_Kind, dict[_Values, Decimal]] = defaultdict(dict)
        places = [_place_of(one) for one in wanted]
        for kind, values in places:
            kinds[kind][values] = ZERO
        for kind, sums in kinds.items():
            self._add_costs(kind, sums)
        return [kinds[kind][values] for kind, values in places]

    def warnings(self, budget: Budget) -> list[str]:
        """Return the cost metrics that do not count in a budget, with the reasons."""
        wanted = set(budget.dimensions)
        other_currency: list[CostMetric] = []
        without_dimension: list[CostMetric] = []
        for cost in self._costs:
            if cost.currency != budget.currency:
                other_currency.append(cost)
            elif not wanted <= set(cost.group_by):
                without_dimension.append(cost)
        lacking = f"lack a dimension of {', '.join(sorted(wanted))}"
        return [
            f"excluded, because they {reason}: {named(excluded)}"
            for reason, excluded in (
                (f"are not in {budget.currency}", other_currency),
                (lacking, without_dimension),
            )
            if excluded
        ]

    def _add_costs(self, kind: _Kind, sums: dict[_Values, Decimal]) -> None:
        """Add the costs of all metrics to the sums of one kind of budgets."""
        dimensions = set(kind.names) - {CUSTOMER_NAME}
        for metric in self._metrics:
            if metric.cost.currency != kind.currency or not dimensions <= set(
                metric.names
            ):
                continue
            for values, accumulator in self._accumulate(metric, kind, sums).items():
                quantity = accumulator.result()
                if quantity is not None:
                    cost = multiply(quantity, metric.cost.unit_cost)
                    sums[values] = add(sums[values], cost)

    def _accumulate(
        self, metric: CompiledMetric, kind: _Kind, sums: Mapping[_Values, Decimal]
    ) -> dict[_Values, Accumulator]:
        values_of = _values_reader(metric, kind.names)
        where = {
            name: frozenset(values[place] for values in sums)
            for place, name in enumerate(kind.names)
        }
        found: dict[_Values, Accumulator] = {}
        for one in self._reader.contributions(
            metric, *kind.window, names=kind.names, where=where
        ):
            values = values_of(one)
            if values not in sums:
                continue  # a pair of values that no single budget has
            accumulator = found.get(values)
            if accumulator is None:
                accumulator = found[values] = metric.new_accumulator()
            accumulator.add(one)
        return found


def _place_of(one: BudgetWindow) -> tuple[_Kind, _Values]:
    budget = one.budget
    wanted = dict(budget.dimensions)
    if budget.customer is not None:
        wanted[CUSTOMER_NAME] = budget.customer
    names = tuple(sorted(wanted))
    values = tuple([wanted[name] for name in names])
    return _Kind(one.window, budget.currency, names), values


def _values_reader(
    metric: CompiledMetric, names: Sequence[str]
) -> Callable[[Contribution], _Values]:
    places = [
        None if name == CUSTOMER_NAME else metric.names.index(name) for name in names
    ]

    def values_of(one: Contribution) -> _Values:
        return tuple(
            [
                one.customer if place is None else one.dimensions[place]
                for place in places
            ]
        )

    return values_of
