"""Rank the groups of a report, and split them into a page and the rest.

Nothing here reads the store.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._metering.decimals import ZERO, add
from outlay.server._wire.request_models import ReportSort, SortDirection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

OTHER: Final = "__other__"
"""The key of all groups after the page. The contract fixes it."""


class Amount(NamedTuple):
    """A cost, and the quantity behind it."""

    cost: Decimal
    quantity: Decimal

    def __add__(self, other: Amount) -> Amount:  # type: ignore[override]
        """Return the exact sum of both."""
        return Amount(add(self.cost, other.cost), add(self.quantity, other.quantity))


ZERO_AMOUNT: Final = Amount(ZERO, ZERO)


def total_of(amounts: Iterable[Amount]) -> Amount:
    """Return the exact sum of ``amounts``."""
    cost = quantity = ZERO
    for one in amounts:
        if one is not ZERO_AMOUNT:
            cost, quantity = add(cost, one.cost), add(quantity, one.quantity)
    return Amount(cost, quantity)


class Group(NamedTuple):
    """A group and its amounts.

    Attributes:
        key: The id of a cost, the id of a customer, or the value of a dimension.
        label: The group's name for people.
        unit: The unit of the quantity, or None if it has none or several.
        current: The amount in the period.
        prior: The amount in the prior period. Zero if it was not requested.
    """

    key: str
    label: str
    unit: str | None
    current: Amount
    prior: Amount

    @property
    def is_empty(self) -> bool:
        """Whether it has neither cost nor quantity in the period."""
        return self.current == ZERO_AMOUNT


class Page(NamedTuple):
    """A part of a ranking.

    Attributes:
        groups: The groups on the page, in order of rank.
        rest: The groups after the page, in order of rank.
    """

    groups: Sequence[Group]
    rest: Sequence[Group]

    def chart_keys(self, top: int) -> dict[str, str]:
        """Return the key under which a chart shows each group.

        The first ``top`` groups of the page have their own keys, and all groups after
        them have `OTHER`. Groups before the page are left out.
        """
        return {
            **{group.key: OTHER for group in [*self.groups[top:], *self.rest]},
            **{group.key: group.key for group in self.groups[:top]},
        }

    def other_group(self, unit: str | None) -> Group:
        """Return the rest as one group, its quantity in ``unit``."""
        return Group(
            OTHER,
            "Other",
            unit,
            total_of(group.current for group in self.rest),
            total_of(group.prior for group in self.rest),
        )


def rank(
    groups: Iterable[Group], sort: ReportSort, direction: SortDirection
) -> list[Group]:
    """Return ``groups`` in order of rank. Equal groups are in order of key.

    A group that happens to have the key of the rest comes last. There it is a part of
    the rest, or no rest follows it. So the key never stands for two groups.
    """
    by_cost = sort is ReportSort.TOTAL_COST
    value = attrgetter("current.cost" if by_cost else "current.quantity")
    in_order = sorted(groups, key=attrgetter("key"))
    in_order.sort(key=value, reverse=direction is SortDirection.DESC)
    last = [group for group in in_order if group.key == OTHER]
    return (
        [group for group in in_order if group.key != OTHER] + last if last else in_order
    )


def page_of(ranking: Sequence[Group], offset: int, size: int) -> Page:
    """Return the page of ``size`` groups after the first ``offset``."""
    return Page(ranking[offset : offset + size], ranking[offset + size :])
