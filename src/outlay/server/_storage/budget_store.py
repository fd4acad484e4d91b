"""The part of the seam that stores budgets, passed thresholds, webhooks and messages.

A passed threshold and the messages about it are stored in one step. So each threshold
is reported once for each revision and period, whatever ends the server between.
Messages wait for their delivery: a server claims one, sends it, and settles the
attempt. A claim ends by itself, so that the message of a killed server is sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from outlay.server._records import Budget, Delivery, PassedThreshold, Webhook
    from outlay.server._storage.page import Page

KEEP_PASSED: Final = 400 * 24 * 3_600_000_000
"""The microseconds after which a passed threshold may be forgotten."""


class Attempt(NamedTuple):
    """The outcome of an attempt to deliver a message.

    Attributes:
        error: The reason of the failure, without any secret. None for a success.
        retry_at: The earliest time of the webhook's next attempt, in microseconds
            since 1970.
        gives_up: Whether the message is not sent again to this webhook.
        disables: Whether nothing is sent to the webhook any more.
    """

    error: str | None = None
    retry_at: int = 0
    gives_up: bool = False
    disables: bool = False


class BudgetReader(Protocol):
    """Reads budgets and webhooks from one consistent view."""

    def budget(self, namespace: str, budget_id: str) -> Budget | None:
        """Return a budget."""
        ...

    def budgets(
        self, namespace: str, page: Page, *, customer: str | None = None
    ) -> tuple[list[Budget], int]:
        """Return a page of budgets, ordered by id, and the number of all.

        Args:
            namespace: The organization.
            page: The wanted page.
            customer: The customer whose own budgets are wanted. Defaults to all.
        """
        ...

    def budgets_of(
        self, namespace: str, customers: Collection[str] | None
    ) -> list[Budget]:
        """Return the budgets that count costs of some of these customers, by id.

        They are the budgets of these customers, and those without a customer. None
        stands for all customers.
        """
        ...

    def budget_namespaces(self) -> set[str]:
        """Return the organizations that have a budget."""
        ...

    def passed_thresholds(
        self, namespace: str, budget_ids: Collection[str], start: int
    ) -> list[PassedThreshold]:
        """Return the passed thresholds of budgets, for periods from ``start`` on.

        Those of earlier revisions are among them. They are in order of budget, period
        and percentage.
        """
        ...

    def webhooks(self, namespace: str) -> list[Webhook]:
        """Return the webhooks of an organization, oldest first."""
        ...

    def webhook(self, namespace: str, webhook_id: str) -> Webhook | None:
        """Return a webhook."""
        ...

    def waiting_messages(self, namespace: str) -> Mapping[str, int]:
        """Return the numbers of waiting messages by webhook, without zeros."""
        ...


class BudgetWriter(Protocol):
    """Writes budgets and webhooks. Each call is one transaction."""

    def put_budget(self, budget: Budget) -> tuple[Budget, bool]:
        """Store a budget, or replace the one with its id.

        The time of creation stays. If the limit stays the same (`has_same_limit`), so
        do the revision and its time.

        Returns:
            The budget as stored, and whether it is new.
        """
        ...

    def delete_budget(self, namespace: str, budget_id: str) -> bool:
        """Delete a budget, its passed thresholds, and the waiting messages about it.

        Return whether there was such a budget.
        """
        ...

    def pass_thresholds(self, passed: Sequence[PassedThreshold]) -> int:
        """Store thresholds that are new, each with a message for each webhook.

        A threshold is not new if it was passed before in its budget, revision and
        period. It is ignored if its budget has another revision, or does not exist.
        Disabled webhooks get no message. Thresholds may be forgotten that were passed
        `KEEP_PASSED` before these.

        Returns:
            The number of new thresholds.
        """
        ...

    def add_webhook(self, webhook: Webhook) -> None:
        """Store a new webhook."""
        ...

    def rotate_secret(
        self, namespace: str, webhook_id: str, secret: bytes, now: int, until: int
    ) -> bool:
        """Give a webhook another secret. Return whether there is such a webhook.

        Args:
            namespace: The organization.
            webhook_id: The id of the webhook.
            secret: The new secret.
            now: The time, in microseconds since 1970. Old secrets that have ended are
                forgotten.
            until: The time until which the current secret stays valid as an old one,
                in the same unit.
        """
        ...

    def enable_webhook(self, namespace: str, webhook_id: str, now: int) -> None:
        """Forget the failures of a webhook, so that its messages are sent at once."""
        ...

    def delete_webhook(self, namespace: str, webhook_id: str) -> bool:
        """Delete a webhook and its messages. Return whether there was one."""
        ...

    def claim_deliveries(self, now: int, until: int, limit: int) -> list[Delivery]:
        """Claim one message of each webhook whose next attempt is due.

        A claimed webhook has no other delivery before ``until``, or before its attempt
        is settled. Of its messages, the one with the fewest attempts comes first, then
        the oldest one. Disabled webhooks have none.

        Args:
            now: The time, in microseconds since 1970.
            until: The end of the claims, in the same unit.
            limit: The most claims.
        """
        ...

    def settle_attempt(self, delivery: Delivery, attempt: Attempt, now: int) -> None:
        """Store the outcome of an attempt.

        A delivered message is deleted, and so is one that is given up. The webhook has
        the time and the failures, and its next attempt is due at `Attempt.retry_at`. A
        webhook or message that was deleted meanwhile is ignored.
        """
        ...
