"""Budgets, webhooks and messages in memory, in the most obvious way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from outlay.server._records import Budget, Delivery, PassedThreshold, Webhook

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._storage.budget_store import Attempt
    from outlay.server._storage.page import Page


class Name(NamedTuple):
    """The id of a budget or webhook, within its organization."""

    namespace: str
    id: str


class Message(NamedTuple):
    """A message that waits for its delivery to a webhook."""

    webhook: Name
    attempts: int
    created_at: int
    id: str
    text: str
    budget: Name


@dataclass
class BudgetTables:
    """The budgets and webhooks of all organizations."""

    budgets: dict[Name, Budget] = field(default_factory=dict)
    passed: list[PassedThreshold] = field(default_factory=list)
    webhooks: dict[Name, Webhook] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    def copy(self) -> BudgetTables:
        """Return a view that later writes do not change."""
        return BudgetTables(
            {**self.budgets}, [*self.passed], {**self.webhooks}, [*self.messages]
        )

    def delete(self, name: Name) -> None:
        """Delete a budget, its passed thresholds and its messages."""
        del self.budgets[name]
        self.passed = [
            one for one in self.passed if (one.namespace, one.budget_id) != name
        ]
        self.messages = [one for one in self.messages if one.budget != name]

    def delete_of(self, namespace: str, customer: str) -> None:
        """Delete the budgets that name a customer."""
        for name, one in [*self.budgets.items()]:
            if name.namespace == namespace and customer in {
                one.customer,
                *one.dimensions.values(),
            }:
                self.delete(name)


class MemoryBudgetReader:
    """Reads budgets from one view."""

    def _budgets(self) -> BudgetTables:
        raise NotImplementedError

    def budget(self, namespace: str, budget_id: str) -> Budget | None:
        """Return a budget."""
        return self._budgets().budgets.get(Name(namespace, budget_id))

    def budgets(
        self, namespace: str, page: Page, *, customer: str | None = None
    ) -> tuple[list[Budget], int]:
        """Return a page of budgets, ordered by id, and the number of all."""
        found = [
            one
            for one in self.budgets_of(namespace, None)
            if customer in {None, one.customer}
        ]
        return found[page.offset : page.offset + page.limit], len(found)

    def budgets_of(
        self, namespace: str, customers: Collection[str] | None
    ) -> list[Budget]:
        """Return the budgets that count costs of some of these customers, by id."""
        return [
            one
            for name, one in sorted(self._budgets().budgets.items())
            if name.namespace == namespace
            and (customers is None or one.customer in {None, *customers})
        ]

    def budget_namespaces(self) -> set[str]:
        """Return the organizations that have a budget."""
        return {name.namespace for name in self._budgets().budgets}

    def passed_thresholds(
        self, namespace: str, budget_ids: Collection[str], start: int
    ) -> list[PassedThreshold]:
        """Return the passed thresholds of budgets, for periods from ``start`` on."""
        found = [
            one
            for one in self._budgets().passed
            if one.namespace == namespace
            and one.budget_id in budget_ids
            and one.start >= start
        ]
        return sorted(found, key=lambda one: (one.budget_id, one.start, one.percent))

    def webhooks(self, namespace: str) -> list[Webhook]:
        """Return the webhooks of an organization, oldest first."""
        return [
            one
            for name, one in self._budgets().webhooks.items()
            if name.namespace == namespace
        ]

    def webhook(self, namespace: str, webhook_id: str) -> Webhook | None:
        """Return a webhook."""
        return self._budgets().webhooks.get(Name(namespace, webhook_id))

    def waiting_messages(self, namespace: str) -> Mapping[str, int]:
        """Return the numbers of waiting messages by webhook, without zeros."""
        counts: dict[str, int] = {}
        for one in self._budgets().messages:
            if one.webhook.namespace == namespace:
                counts[one.webhook.id] = counts.get(one.webhook.id, 0) + 1
        return counts


class MemoryBudgetWriter:
    """Writes budgets to tables."""

    def _writing_budgets(self) -> AbstractContextManager[BudgetTables]:
        raise NotImplementedError

    def put_budget(self, budget: Budget) -> tuple[Budget, bool]:
        """Store a budget, or replace the one with its id."""
        name = Name(budget.namespace, budget.id)
        with self._writing_budgets() as tables:
            old = tables.budgets.get(name)
            if old is not None:
                kept = old if old.has_same_limit(budget) else budget
                budget = msgspec.structs.replace(
                    budget,
                    created_at=old.created_at,
                    revision=kept.revision,
                    revised_at=kept.revised_at,
                )
            tables.budgets[name] = budget
        return budget, old is None

    def delete_budget(self, namespace: str, budget_id: str) -> bool:
        """Delete a budget, its passed thresholds and its messages."""
        name = Name(namespace, budget_id)
        with self._writing_budgets() as tables:
            if name not in tables.budgets:
                return False
            tables.delete(name)
        return True

    def pass_thresholds(self, passed: Sequence[PassedThreshold]) -> int:
        """Store thresholds that are new, each with a message for each webhook."""
        with self._writing_budgets() as tables:
            return sum(_pass(tables, one) for one in passed)

    def add_webhook(self, webhook: Webhook) -> None:
        """Store a new webhook."""
        with self._writing_budgets() as tables:
            tables.webhooks[Name(webhook.namespace, webhook.id)] = webhook

    def rotate_secret(
        self, namespace: str, webhook_id: str, secret: bytes, now: int, until: int
    ) -> bool:
        """Give a webhook another secret."""
        name = Name(namespace, webhook_id)
        with self._writing_budgets() as tables:
            webhook = tables.webhooks.get(name)
            if webhook is not None:
                tables.webhooks[name] = webhook.rotated(secret, now, until)
        return webhook is not None

    def enable_webhook(self, namespace: str, webhook_id: str, now: int) -> None:
        """Forget the failures of a webhook."""
        name = Name(namespace, webhook_id)
        with self._writing_budgets() as tables:
            if name in tables.webhooks:
                tables.webhooks[name] = msgspec.structs.replace(
                    tables.webhooks[name],
                    failures=0,
                    last_error="",
                    failing_since=None,
                    delivered_at=now,
                    attempt_at=now,
                    disabled_at=None,
                )

    def delete_webhook(self, namespace: str, webhook_id: str) -> bool:
        """Delete a webhook and its messages."""
        name = Name(namespace, webhook_id)
        with self._writing_budgets() as tables:
            tables.messages = [one for one in tables.messages if one.webhook != name]
            return tables.webhooks.pop(name, None) is not None

    def claim_deliveries(self, now: int, until: int, limit: int) -> list[Delivery]:
        """Claim one message of each webhook whose next attempt is due."""
        with self._writing_budgets() as tables:
            due = sorted(
                (one.attempt_at, name)
                for name, one in tables.webhooks.items()
                if one.disabled_at is None
                and one.attempt_at <= now
                and any(message.webhook == name for message in tables.messages)
            )[:limit]
            claimed = []
            for _, name in due:
                webhook = tables.webhooks[name]
                tables.webhooks[name] = msgspec.structs.replace(
                    webhook, attempt_at=until
                )
                first = min(one for one in tables.messages if one.webhook == name)
                claimed.append(
                    Delivery(
                        first.id, first.text, webhook, first.attempts, first.created_at
                    )
                )
            return claimed

    def settle_attempt(self, delivery: Delivery, attempt: Attempt, now: int) -> None:
        """Store the outcome of an attempt."""
        name = Name(delivery.webhook.namespace, delivery.webhook.id)
        with self._writing_budgets() as tables:
            webhook = tables.webhooks.get(name)
            if webhook is None:
                return
            for one in [*tables.messages]:
                if one.webhook == name and one.id == delivery.message_id:
                    tables.messages.remove(one)
                    if attempt.error is not None and not attempt.gives_up:
                        again = one._replace(attempts=one.attempts + 1)
                        tables.messages.append(again)
            is_success = attempt.error is None
            failing_since = now if webhook.failing_since is None else None
            tables.webhooks[name] = msgspec.structs.replace(
                webhook,
                failures=0 if is_success else webhook.failures + 1,
                last_error=attempt.error or "",
                failing_since=None
                if is_success
                else webhook.failing_since or failing_since,
                delivered_at=now if is_success else webhook.delivered_at,
                attempt_at=attempt.retry_at,
                disabled_at=now if attempt.disables else webhook.disabled_at,
            )


def _pass(tables: BudgetTables, one: PassedThreshold) -> bool:
    name = Name(one.namespace, one.budget_id)
    budget = tables.budgets.get(name)
    if budget is None or budget.revision != one.revision:
        return False
    if any(
        (other.namespace, other.budget_id) == name
        and (other.revision, other.start, other.percent)
        == (one.revision, one.start, one.percent)
        for other in tables.passed
    ):
        return False
    tables.passed.append(one)
    tables.messages += [
        Message(webhook, 0, one.passed_at, one.message_id, one.message, name)
        for webhook, found in tables.webhooks.items()
        if webhook.namespace == one.namespace and found.disabled_at is None
    ]
    return True
