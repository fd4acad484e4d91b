"""Create, list and delete budgets, and find the thresholds that their costs passed."""

from __future__ import annotations

import re
import secrets
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._metering.decimals import add, format_plain, multiply, percentage
from outlay.server._records import Budget, PassedThreshold
from outlay.server._services.budget_spending import BudgetWindow, Spending, window_of
from outlay.server._storage.page import Page
from outlay.server._wire.budget_models import (
    BUDGET_ID,
    BudgetList,
    BudgetResponse,
    BudgetState,
    ThresholdData,
    ThresholdMessage,
    ThresholdPassed,
)
from outlay.server._wire.problems import FieldError, invalid_fields, not_found
from outlay.server._wire.response_models import (
    Pagination,
    ReportPeriod,
    encode,
    format_instant,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from outlay.server._records import ApiKey
    from outlay.server._services.query_services import QueryServices
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Reader, Store
    from outlay.server._wire.budget_models import BudgetBody, BudgetListQuery

_HUNDRED: Final = Decimal(100)
THRESHOLD_PASSED: Final = "budget.threshold_passed"
"""The type of the message about a passed threshold."""


class BudgetService:
    """Stores budgets. Thread safety: the event loop's thread.

    Args:
        store: The store.
        commits: The thread that writes.
        now: The source of the time, in microseconds since 1970.
        changed: A function that is called with the organization after a change.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        now: Callable[[], int],
        changed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._commits = commits
        self._now = now
        self._changed = changed

    async def put(
        self, key: ApiKey, body: BudgetBody, budget_id: str | None = None
    ) -> Budget:
        """Store a budget, or replace the one with its id. Return it as stored.

        Args:
            key: The API key of the request.
            body: The budget.
            budget_id: The id. If None, the budget is new and gets one.

        Raises:
            HttpProblem: 400, because the id has another form.
        """
        if budget_id is not None:
            _check_id(budget_id)
        now = self._now()
        budget = Budget(
            budget_id or "bud_" + secrets.token_hex(12),
            key.namespace,
            body.name,
            body.limit,
            body.currency,
            body.period,
            body.time_zone,
            body.customer_id,
            body.dimensions,
            body.thresholds,
            revision=secrets.token_hex(8),
            revised_at=now,
            created_at=now,
            updated_at=now,
        )
        stored, _ = await self._commits.run(lambda: self._store.put_budget(budget))
        self._changed(key.namespace)
        return stored

    async def delete(self, key: ApiKey, budget_id: str) -> None:
        """Delete a budget.

        Raises:
            HttpProblem: 404, because there is no such budget.
        """
        if not await self._commits.run(
            lambda: self._store.delete_budget(key.namespace, budget_id)
        ):
            raise not_found("budget", budget_id)
        self._changed(key.namespace)


# -- queries, which may run in another process


def budget_page(
    services: QueryServices, namespace: str, query: BudgetListQuery, now: int
) -> BudgetList:
    """Return a page of budgets with their states."""
    with services.views.reading() as reader:
        found, total = reader.budgets(
            namespace, Page(query.limit, query.offset), customer=query.customer_id
        )
        return BudgetList(
            budget_responses(reader, namespace, found, now),
            Pagination(query.limit, query.offset, total),
        )


def encoded_page(
    services: QueryServices, namespace: str, query: BudgetListQuery, now: int
) -> bytes:
    """Return the same, as the body of a response."""
    return encode(budget_page(services, namespace, query, now))


def budget_state(
    services: QueryServices, namespace: str, budget_id: str, now: int
) -> BudgetResponse:
    """Return a budget with its state.

    Raises:
        HttpProblem: 404, because there is no such budget.
    """
    with services.views.reading() as reader:
        budget = reader.budget(namespace, budget_id)
        if budget is None:
            raise not_found("budget", budget_id)
        [response] = budget_responses(reader, namespace, [budget], now)
        return response


def encoded_state(
    services: QueryServices, namespace: str, budget_id: str, now: int
) -> bytes:
    """Return the same, as the body of a response."""
    return encode(budget_state(services, namespace, budget_id, now))


class Evaluation(NamedTuple):
    """The wanted part of the budgets of an organization.

    Attributes:
        customers: The customers whose costs changed. None stands for all.
        since: The time of the earliest changed cost, in microseconds since 1970. If it
            is before the current period, the period before counts as well.
    """

    namespace: str
    customers: frozenset[str] | None
    since: int


def newly_passed(
    services: QueryServices, wanted: Evaluation, now: int
) -> list[PassedThreshold]:
    """Return the thresholds that costs passed, and that are not stored yet.

    A budget counts from the period on in which its limit was set.
    """
    with services.views.reading() as reader:
        budgets = reader.budgets_of(wanted.namespace, wanted.customers)
        windows = [
            one for budget in budgets for one in _windows(budget, wanted.since, now)
        ]
        if not windows:
            return []
        stored = {
            (one.budget_id, one.revision, one.start, one.percent)
            for one in reader.passed_thresholds(
                wanted.namespace,
                [budget.id for budget in budgets],
                min(one.window.start for one in windows),
            )
        }
        spent = Spending(reader, wanted.namespace).of(windows)
    return [
        _passed(one, percent, costs, now)
        for one, costs in zip(windows, spent, strict=True)
        for percent in _reached(one.budget, costs)
        if (one.budget.id, one.budget.revision, one.window.start, percent) not in stored
    ]


def _windows(budget: Budget, since: int, now: int) -> Iterable[BudgetWindow]:
    """Yield the periods of a budget that are evaluated."""
    current = window_of(budget, now)
    if since < current.start and budget.revised_at < current.start:
        yield BudgetWindow(budget, window_of(budget, current.start - 1))
    yield BudgetWindow(budget, current)


def _reached(budget: Budget, spent: Decimal) -> list[int]:
    """Return the thresholds that the costs of a budget reach, exactly."""
    hundredfold = multiply(spent, _HUNDRED)
    return [
        percent
        for percent in budget.thresholds
        if hundredfold >= multiply(budget.amount, Decimal(percent))
    ]


def _passed(
    one: BudgetWindow, percent: int, spent: Decimal, now: int
) -> PassedThreshold:
    budget, window = one
    message = ThresholdMessage(
        THRESHOLD_PASSED,
        format_instant(now),
        ThresholdData(
            budget.id,
            budget.name,
            percent,
            format_plain(spent),
            format_plain(budget.amount),
            _share(budget, spent),
            budget.currency,
            ReportPeriod(format_instant(window.start), format_instant(window.end)),
            budget.period,
            budget.zone,
            budget.dimensions,
            budget.customer,
        ),
    )
    return PassedThreshold(
        budget.namespace,
        budget.id,
        budget.revision,
        window.start,
        percent,
        spent,
        now,
        "msg_" + secrets.token_hex(16),
        encode(message).decode(),
    )


def budget_responses(
    reader: Reader, namespace: str, budgets: Sequence[Budget], now: int
) -> list[BudgetResponse]:
    """Return budgets with the states of their current periods, in the same order."""
    windows = [BudgetWindow(budget, window_of(budget, now)) for budget in budgets]
    spending = Spending(reader, namespace)
    spent = spending.of(windows)
    passed = reader.passed_thresholds(
        namespace,
        [budget.id for budget in budgets],
        min((one.window.start for one in windows), default=0),
    )
    return [
        _response(one, costs, passed, spending.warnings(one.budget))
        for one, costs in zip(windows, spent, strict=True)
    ]


def highest_passed(
    reader: Reader, namespace: str, budgets: Iterable[Budget], at: int
) -> list[tuple[Budget, PassedThreshold]]:
    """Return the highest threshold that each budget has passed in a period.

    It reads no costs, so it is fast. Budgets without one are left out.

    Args:
        reader: The view to read from.
        namespace: The organization.
        budgets: The budgets.
        at: An instant of the period, in microseconds since 1970.
    """
    starts = {one.id: (one, window_of(one, at).start) for one in budgets}
    first = min((start for _, start in starts.values()), default=0)
    highest: dict[str, PassedThreshold] = {}
    for one in reader.passed_thresholds(namespace, starts, first):
        budget, start = starts[one.budget_id]
        if (one.revision, one.start) == (budget.revision, start):
            highest[one.budget_id] = one  # in order of percentage
    return [(starts[budget_id][0], one) for budget_id, one in highest.items()]


def _response(
    one: BudgetWindow,
    spent: Decimal,
    passed: Iterable[PassedThreshold],
    warnings: Sequence[str],
) -> BudgetResponse:
    budget, window = one
    return BudgetResponse(
        budget.id,
        budget.name,
        format_plain(budget.amount),
        budget.currency,
        budget.period,
        budget.zone,
        budget.dimensions,
        budget.thresholds,
        format_instant(budget.created_at),
        format_instant(budget.updated_at),
        BudgetState(
            ReportPeriod(format_instant(window.start), format_instant(window.end)),
            format_plain(spent),
            format_plain(add(budget.amount, spent.copy_negate())),
            _share(budget, spent),
            [
                ThresholdPassed(
                    each.percent,
                    format_instant(each.passed_at),
                    format_plain(each.spent),
                )
                for each in passed
                if (each.budget_id, each.revision, each.start)
                == (budget.id, budget.revision, window.start)
            ],
            warnings,
        ),
        budget.customer,
    )


def _share(budget: Budget, spent: Decimal) -> str:
    return format_plain(percentage(spent, budget.amount))


def _check_id(budget_id: str) -> None:
    if re.fullmatch(BUDGET_ID, budget_id) is None:
        raise invalid_fields(
            [
                FieldError(
                    "id",
                    "must have 1 to 64 characters among letters, digits, '_', '-' and "
                    "'.'",
                    "INVALID_ID",
                )
            ]
        )
