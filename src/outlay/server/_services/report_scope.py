"""What a report is about: which costs take part, and what of each counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from outlay.server._metering.decimals import multiply
from outlay.server._metering.metric import (
    Accumulator,
    CompiledMetric,
    Contribution,
    compile_metric,
)
from outlay.server._records import Aggregation
from outlay.server._services.ranking import ZERO_AMOUNT, Amount
from outlay.server._services.summary import (
    dimension_filter,
    select_dimensions,
    unknown_dimension,
)
from outlay.server._storage.store import Page
from outlay.server._wire.problems import FieldError, HttpProblem, invalid_fields
from outlay.server._wire.request_models import CUSTOMER_DIMENSION, ReportQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from outlay.server._records import CostMetric
    from outlay.server._storage.store import Reader

K = TypeVar("K", bound="Hashable")

BY_COST: Final = "cost"
BY_CUSTOMER: Final = "customer"

_ADDS_UP: Final = {Aggregation.SUM, Aggregation.COUNT}
_ALL: Final = Page(2**53, 0)
_LISTED_AT_MOST: Final = 20  # so that no message grows with the organization


class ReportMetric:
    """A cost that takes part: which of its contributions count, and for which group.

    Attributes:
        cost: the cost.
        meter: the cost, compiled.
        adds_up: whether its amounts of several groups or windows can be added.
        group_of: returns the key of the group that a contribution belongs to.
    """

    def __init__(self, meter: CompiledMetric, query: ReportQuery) -> None:
        self.cost = meter.cost
        self.meter = meter
        self.is_additive = meter.aggregation in _ADDS_UP
        self.group_of = _grouping(meter, query.group_by)
        self._counts = dimension_filter(meter, query.filter_group_by)

    def tallies(
        self,
        contributions: Iterable[Contribution],
        name_of: Callable[[Contribution], K | None],
    ) -> dict[K, Accumulator]:
        """Tally what counts by its name; the name None leaves a contribution out."""
        tallies: dict[K, Accumulator] = {}
        for one in contributions:
            name = name_of(one) if self._counts(one) else None
            if name is None:
                continue
            tally = tallies.get(name)
            if tally is None:
                tally = tallies[name] = self.meter.tally()
            tally.add(one)
        return tallies

    def amount(self, tally: Accumulator) -> Amount:
        """Return what a tally comes to; an average or extreme of nothing is nothing."""
        quantity = tally.result()
        if quantity is None:
            return ZERO_AMOUNT
        return Amount(multiply(quantity, self.cost.unit_cost), quantity)


class ReportScope(NamedTuple):
    """What a report is about.

    Attributes:
        currency: of all costs in it.
        costs: all of them, oldest first.
        lines: those of them that can come to something.
        dimensions: names to group by further; only of a single cost asked for.
        warnings: which costs cannot come to anything, and why.
    """

    currency: str
    costs: Sequence[CostMetric]
    lines: Sequence[ReportMetric]
    dimensions: Sequence[str]
    warnings: Sequence[str]

    @property
    def unit(self) -> str | None:
        """The unit that all costs share, or None."""
        units = {cost.unit for cost in self.costs}
        return units.pop() if len(units) == 1 else None


def resolve_scope(
    reader: Reader, namespace: str, query: ReportQuery, default_currency: str
) -> ReportScope:
    """Return what ``query`` is about.

    Args:
        reader: where the costs are.
        namespace: whose they are.
        query: what is asked for.
        default_currency: for an organization without any cost.

    Raises:
        Problem: 400, naming the parameter and what it may be.
    """
    chosen = _chosen(reader, namespace, query.cost_id)
    only = chosen[0] if query.cost_id and len(chosen) == 1 else None
    _check_group_by(query.group_by, only)
    currency = query.currency or _currency_of(chosen) or default_currency
    costs = [cost for cost in chosen if cost.currency == currency]
    wanted = set(query.filter_group_by) - {CUSTOMER_DIMENSION}
    _check_filter(wanted, costs)
    lines: list[ReportMetric] = []
    foreign = [cost for cost in chosen if cost.currency != currency]
    inert: list[CostMetric] = []
    unfiltered: list[CostMetric] = []
    for cost in costs:
        meter = compile_metric(cost)
        if meter is None:
            inert.append(cost)
        elif not wanted <= set(meter.names):
            unfiltered.append(cost)
        else:
            lines.append(ReportMetric(meter, query))
    warnings = [
        f"{reason}: {named(some)}"
        for reason, some in (
            (f"left out, because not in {currency}", foreign),
            ("of no amount, because without event type or aggregation", inert),
            ("of no amount, because without a dimension of filterGroupBy", unfiltered),
        )
        if some
    ]
    dimensions = sorted(only.group_by) if only else []
    return ReportScope(currency, costs, lines, dimensions, warnings)


def named(costs: Iterable[CostMetric]) -> str:
    """Return names and ids of ``costs``, for a person."""
    return _listed([f"{cost.name} ({cost.id})" for cost in costs])


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _LISTED_AT_MOST
    shown = ", ".join(texts[:_LISTED_AT_MOST])
    return f"{shown} and {more} more" if more > 0 else shown


def _chosen(
    reader: Reader, namespace: str, cost_ids: Iterable[str]
) -> Sequence[CostMetric]:
    """Return the costs with these ids, or all if there are no ids."""
    costs, _ = reader.costs(namespace, None, _ALL)
    wanted = set(cost_ids)
    ids = [cost.id for cost in costs]
    if unknown := sorted(wanted.difference(ids)):
        there = f"there are {_listed(ids)}" if ids else "there are none yet"
        raise invalid_fields(
            [
                FieldError("costId", f"no cost {one!r}; {there}", "UNKNOWN_COST")
                for one in unknown[:_LISTED_AT_MOST]
            ]
        )
    return [cost for cost in costs if cost.id in wanted] if wanted else costs


def _currency_of(costs: Iterable[CostMetric]) -> str | None:
    """Return the one currency of ``costs``, or None if there are no costs."""
    found = sorted({cost.currency for cost in costs})
    if len(found) > 1:
        raise _refused(
            "currency",
            "these costs are in several currencies, which are never added; "
            f"name one of {', '.join(found)}",
            "CURRENCY_NEEDED",
        )
    return found[0] if found else None


def _check_group_by(name: str, only: CostMetric | None) -> None:
    """Refuse to group by what is neither built in nor a dimension of the one cost."""
    if name in {BY_COST, BY_CUSTOMER}:
        return
    if only is None:
        raise _refused(
            "groupBy",
            f"must be {BY_COST} or {BY_CUSTOMER}; to group by a dimension, "
            "name exactly one costId",
            "ONE_COST_NEEDED",
        )
    if name not in {CUSTOMER_DIMENSION, *only.group_by}:
        built_in = [BY_COST, BY_CUSTOMER]
        raise unknown_dimension("groupBy", name, [*built_in, *sorted(only.group_by)])


def _check_filter(wanted: set[str], costs: Iterable[CostMetric]) -> None:
    """Refuse to filter by what is a dimension of no cost at all."""
    known = {name for cost in costs for name in cost.group_by}
    for name in sorted(wanted - known):
        raise unknown_dimension("filterGroupBy", name, sorted(known))


def _grouping(meter: CompiledMetric, group_by: str) -> Callable[[Contribution], str]:
    if group_by == BY_COST:
        return lambda _: meter.cost.id
    if group_by == BY_CUSTOMER:
        return lambda one: one.customer
    values = select_dimensions(meter, "groupBy", [group_by]).values
    return lambda one: values(one)[0]


def _refused(field: str, message: str, code: str) -> HttpProblem:
    return invalid_fields([FieldError(field, message, code)])
