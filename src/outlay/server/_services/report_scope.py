"""Find the costs of a report, and the events of each cost that count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._metering.decimals import multiply
from outlay.server._metering.metric import (
    Accumulator,
    CompiledMetric,
    Contribution,
    compile_metric,
)
from outlay.server._records import Aggregation
from outlay.server._services.breakdown import (
    event_filter,
    select_dimensions,
    stored_names,
    unknown_dimension,
)
from outlay.server._services.ranking import ZERO_AMOUNT, Amount
from outlay.server._storage.page import ALL
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.problems import FieldError, HttpProblem, invalid_fields
from outlay.server._wire.request_models import CUSTOMER_DIMENSION, ReportQuery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from outlay.server._records import CostMetric
    from outlay.server._storage.store import Reader

BY_COST: Final = "cost"
BY_CUSTOMER: Final = "customer"

_ADDITIVE: Final = {Aggregation.SUM, Aggregation.COUNT}
_NAMES_LISTED: Final = 20  # so that no message grows with the organization


class ReportMetric:
    """A cost of a report: which of its contributions count, and for which group.

    Attributes:
        cost: The cost.
        metric: The cost, compiled.
        is_additive: Whether its amounts of several groups or windows can be added.
        group_of: A function that returns the key of a contribution's group.
        names: The dimensions that `group_of` reads, as the store has them.
        where: The filter of the report, as the store has it.
    """

    def __init__(self, metric: CompiledMetric, query: ReportQuery) -> None:
        self.cost = metric.cost
        self.metric = metric
        self.is_additive = metric.aggregation in _ADDITIVE
        self.names, self.group_of = _grouping(metric, query.group_by)
        self.where = event_filter(metric, query.filter_group_by, query.subject)

    def amount(self, accumulator: Accumulator) -> Amount:
        """Return the amount of an accumulator. Without a value it is zero."""
        quantity = accumulator.result()
        if quantity is None:
            return ZERO_AMOUNT
        unit_cost = self.cost.unit_cost
        cost = quantity if unit_cost == 1 else multiply(quantity, unit_cost)
        return Amount(cost, quantity)


class ReportScope(NamedTuple):
    """The costs of a report.

    Attributes:
        currency: The currency of all costs in the report.
        costs: All costs in the report, oldest first.
        metrics: The costs that can have an amount.
        dimensions: The dimensions of the one requested cost. Empty if there are more.
        warnings: The costs that cannot have an amount, with the reason.
    """

    currency: str
    costs: Sequence[CostMetric]
    metrics: Sequence[ReportMetric]
    dimensions: Sequence[str]
    warnings: Sequence[str]

    @property
    def unit(self) -> str | None:
        """The unit that all costs share, or None."""
        units = {cost.unit for cost in self.costs}
        return units.pop() if len(units) == 1 else None


def resolve_scope(
    reader: Reader,
    namespace: str,
    query: ReportQuery,
    default_currency: str,
    *,
    across_costs: bool = False,
) -> ReportScope:
    """Return the costs of a report.

    Args:
        reader: The view of the store.
        namespace: The organization.
        query: The query of the report.
        default_currency: The currency of an organization without costs.
        across_costs: Whether several costs may be grouped by a dimension. The costs
            without this dimension are in the group ''. The contract allows one cost.

    Raises:
        HttpProblem: 400, with the parameter and its allowed values.
    """
    requested = _requested_costs(reader, namespace, query.cost_id)
    only = requested[0] if query.cost_id and len(requested) == 1 else None
    if not across_costs:
        _check_group_by(query.group_by, only)
    currency = query.currency or _currency_of(requested) or default_currency
    costs = [cost for cost in requested if cost.currency == currency]
    wanted = set(query.filter_group_by) - {CUSTOMER_DIMENSION}
    _check_filter(wanted, costs)
    metrics: list[ReportMetric] = []
    other_currency = [cost for cost in requested if cost.currency != currency]
    without_aggregation: list[CostMetric] = []
    without_dimension: list[CostMetric] = []
    for cost in costs:
        metric = compile_metric(cost)
        if metric is None:
            without_aggregation.append(cost)
        elif not wanted <= set(metric.names):
            without_dimension.append(cost)
        else:
            metrics.append(ReportMetric(metric, query))
    warnings = [
        f"excluded, because they {reason}: {named(excluded)}"
        for reason, excluded in (
            (f"are not in {currency}", other_currency),
            ("have no event type or aggregation", without_aggregation),
            ("lack a dimension of filterGroupBy", without_dimension),
        )
        if excluded
    ]
    dimensions = sorted(only.group_by) if only else []
    return ReportScope(currency, costs, metrics, dimensions, warnings)


def named(costs: Iterable[CostMetric]) -> str:
    """Return the names and ids of ``costs``, for a person."""
    return _listed([f"{cost.name} ({cost.id})" for cost in costs])


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMES_LISTED
    shown = ", ".join(texts[:_NAMES_LISTED])
    return f"{shown} and {more} more" if more > 0 else shown


def _requested_costs(
    reader: Reader, namespace: str, cost_ids: Iterable[str]
) -> Sequence[CostMetric]:
    """Return the costs with these ids, or all costs if there are no ids."""
    costs, _ = reader.costs(namespace, None, ALL)
    wanted = set(cost_ids)
    ids = [cost.id for cost in costs]
    if unknown := sorted(wanted.difference(ids)):
        known = f"there are {_listed(ids)}" if ids else "there are none yet"
        raise invalid_fields(
            [
                FieldError("costId", f"no cost {one!r}; {known}", "UNKNOWN_COST")
                for one in unknown[:_NAMES_LISTED]
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
    """Refuse a name that is neither built in nor a dimension of the one cost."""
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
    """Refuse a name that is not a dimension of any cost."""
    known = {name for cost in costs for name in cost.group_by}
    for name in sorted(wanted - known):
        raise unknown_dimension("filterGroupBy", name, sorted(known))


def _grouping(
    metric: CompiledMetric, group_by: str
) -> tuple[frozenset[str], Callable[[Contribution], str]]:
    if group_by == BY_COST:
        return frozenset(), lambda _: metric.cost.id
    if group_by == BY_CUSTOMER:
        return frozenset([CUSTOMER_NAME]), lambda contribution: contribution.customer
    if group_by not in {CUSTOMER_DIMENSION, *metric.names}:
        return frozenset(), lambda _: ""
    values = select_dimensions(metric, "groupBy", [group_by]).values
    names = stored_names(metric, [group_by])
    return names, lambda contribution: values(contribution)[0]


def _refused(field: str, message: str, code: str) -> HttpProblem:
    return invalid_fields([FieldError(field, message, code)])
