"""Store budgets, passed thresholds, webhooks and waiting messages."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay.server._metering.decimals import format_plain
from outlay.server._records import (
    Budget,
    BudgetPeriod,
    Delivery,
    OldSecret,
    PassedThreshold,
    Webhook,
)
from outlay.server._storage.budget_store import KEEP_PASSED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._storage.budget_store import Attempt
    from outlay.server._storage.page import Page
    from outlay.server._storage.sql.connection import Connection

TABLES: Final = """
    CREATE TABLE budgets (
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        amount TEXT NOT NULL,
        currency TEXT NOT NULL,
        period TEXT NOT NULL,
        zone TEXT NOT NULL,
        customer TEXT,
        dimensions TEXT NOT NULL,
        thresholds TEXT NOT NULL,
        revision TEXT NOT NULL,
        revised_at INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
    CREATE INDEX budgets_by_customer ON budgets (namespace, customer);

    -- One row for each threshold, revision and period: the reason that it is reported
    -- once.
    CREATE TABLE passed_thresholds (
        namespace TEXT NOT NULL,
        budget TEXT NOT NULL,
        revision TEXT NOT NULL,
        start_at INTEGER NOT NULL,
        percent INTEGER NOT NULL,
        spent TEXT NOT NULL,
        passed_at INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        message TEXT NOT NULL,
        PRIMARY KEY (namespace, budget, revision, start_at, percent)
    ) WITHOUT ROWID;

    -- attempt_at: the earliest time of the next attempt, or the end of a claim.
    CREATE TABLE webhooks (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        url TEXT NOT NULL,
        secret BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        failing_since INTEGER,
        delivered_at INTEGER,
        attempt_at INTEGER NOT NULL,
        disabled_at INTEGER,
        UNIQUE (namespace, id)
    );

    -- The messages that wait for their delivery. A row ends with its delivery.
    CREATE TABLE webhook_messages (
        webhook INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        message TEXT NOT NULL,
        namespace TEXT NOT NULL,
        budget TEXT NOT NULL,
        PRIMARY KEY (webhook, attempts, created_at, message_id)
    ) WITHOUT ROWID;
    CREATE INDEX webhook_messages_by_budget ON webhook_messages (namespace, budget);
"""
"""The migration that creates the tables."""

ROTATION: Final = """
    ALTER TABLE webhooks ADD COLUMN old_secret BLOB;
    ALTER TABLE webhooks ADD COLUMN old_secret_until INTEGER;
"""
"""The migration that lets a webhook have two secrets for a while."""

OLD_SECRETS_COLUMN: Final = """
    -- old_secrets: JSON, a list of [hex of the secret, microseconds of its end].
    ALTER TABLE webhooks ADD COLUMN old_secrets TEXT NOT NULL DEFAULT '[]';
"""
"""The column that lets a webhook have any number of secrets."""

_MOVE_TO_COLUMN: Final = """
    UPDATE webhooks
        SET old_secrets = '[["' || hex(old_secret) || '",' || old_secret_until || ']]'
        WHERE old_secret IS NOT NULL;
    ALTER TABLE webhooks DROP COLUMN old_secret;
    ALTER TABLE webhooks DROP COLUMN old_secret_until;
"""
OLD_SECRETS: Final = OLD_SECRETS_COLUMN + _MOVE_TO_COLUMN
"""The migration from `ROTATION` to that column."""

_BUDGET: Final = (
    "id, namespace, name, amount, currency, period, zone, customer, dimensions,"
    " thresholds, revision, revised_at, created_at, updated_at"
)
_REPLACE: Final = ", ".join(f"{one} = excluded.{one}" for one in _BUDGET.split(", "))
_PASSED: Final = (
    "namespace, budget, revision, start_at, percent, spent, passed_at, message_id,"
    " message"
)
_WEBHOOK: Final = (
    "id, namespace, url, secret, created_at, failures, last_error, failing_since,"
    " delivered_at, attempt_at, disabled_at, old_secrets"
)
_VARIABLES: Final = 500  # of one statement; SQLite's own limit may be 999

_decode_dimensions: Final = msgspec.json.Decoder(dict[str, str]).decode
_decode_thresholds: Final = msgspec.json.Decoder(tuple[int, ...]).decode
_decode_secrets: Final = msgspec.json.Decoder(list[tuple[str, int]]).decode


class SqlBudgetReader:
    """reads from one view."""

    _connection: Connection

    def budget(self, namespace: str, budget_id: str) -> Budget | None:
        """Return a budget."""
        return _find_budget(self._connection, namespace, budget_id)

    def budgets(
        self, namespace: str, page: Page, *, customer: str | None = None
    ) -> tuple[list[Budget], int]:
        """Return a page of budgets, ordered by id, and the number of all."""
        where = (
            " FROM budgets WHERE namespace = :namespace"
            " AND (:customer IS NULL OR customer = :customer)"
        )
        wanted = {"namespace": namespace, "customer": customer}
        rows = self._connection.execute(
            f"SELECT {_BUDGET}{where} ORDER BY id LIMIT :limit OFFSET :offset",
            {**wanted, **page._asdict()},
        )
        found = [_budget_of(row) for row in rows]
        (total,) = self._connection.execute(
            f"SELECT count(*){where}", wanted
        ).fetchone()
        return found, int(total)

    def budgets_of(
        self, namespace: str, customers: Collection[str] | None
    ) -> list[Budget]:
        """Return the budgets that count costs of some of these customers, by id."""
        select = f"SELECT {_BUDGET} FROM budgets WHERE namespace = ?"  # noqa: S608 - a constant
        if customers is None:
            return [
                _budget_of(row)
                for row in self._connection.execute(
                    f"{select} ORDER BY id", (namespace,)
                )
            ]
        rows = self._connection.execute(
            f"{select} AND customer IS NULL", (namespace,)
        ).fetchall()
        for some in _slices(sorted(customers)):
            rows += self._connection.execute(
                f"{select} AND customer IN ({_marks(some)})", (namespace, *some)
            ).fetchall()
        return sorted(map(_budget_of, rows), key=lambda one: one.id)

    def budget_namespaces(self) -> set[str]:
        """Return the organizations that have a budget."""
        rows = self._connection.execute("SELECT DISTINCT namespace FROM budgets")
        return {namespace for (namespace,) in rows}

    def passed_thresholds(
        self, namespace: str, budget_ids: Collection[str], start: int
    ) -> list[PassedThreshold]:
        """Return the passed thresholds of budgets, for periods from ``start`` on."""
        found: list[PassedThreshold] = []
        for some in _slices(sorted(budget_ids)):
            rows = self._connection.execute(
                f"SELECT {_PASSED} FROM passed_thresholds"  # noqa: S608 - constants
                f" WHERE namespace = ? AND budget IN ({_marks(some)}) AND start_at >= ?"
                " ORDER BY budget, start_at, percent",
                (namespace, *some, start),
            )
            found += [_passed_of(row) for row in rows]
        return found

    def webhooks(self, namespace: str) -> list[Webhook]:
        """Return the webhooks of an organization, oldest first."""
        rows = self._connection.execute(
            f"SELECT {_WEBHOOK} FROM webhooks WHERE namespace = ? ORDER BY number",  # noqa: S608 - a constant
            (namespace,),
        )
        return [_webhook_of(row) for row in rows]

    def webhook(self, namespace: str, webhook_id: str) -> Webhook | None:
        """Return a webhook."""
        return _find_webhook(self._connection, namespace, webhook_id)

    def waiting_messages(self, namespace: str) -> Mapping[str, int]:
        """Return the numbers of waiting messages by webhook, without zeros."""
        rows = self._connection.execute(
            "SELECT w.id, count(*) FROM webhooks w"
            " JOIN webhook_messages m ON m.webhook = w.number"
            " WHERE w.namespace = ? GROUP BY w.number",
            (namespace,),
        )
        return dict(rows.fetchall())


class SqlBudgetWriter:
    """Writes in the thread of the store."""

    _connection: Connection

    def _transaction(self) -> AbstractContextManager[None]:
        """Return the store's transaction, which commits or rolls back."""
        raise NotImplementedError

    def put_budget(self, budget: Budget) -> tuple[Budget, bool]:
        """Store a budget, or replace the one with its id."""
        with self._transaction():
            old = _find_budget(self._connection, budget.namespace, budget.id)
            if old is not None:
                kept = old if old.has_same_limit(budget) else budget
                budget = msgspec.structs.replace(
                    budget,
                    created_at=old.created_at,
                    revision=kept.revision,
                    revised_at=kept.revised_at,
                )
            self._connection.execute(
                f"INSERT INTO budgets ({_BUDGET})"  # noqa: S608 - constants
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
                f" ON CONFLICT (namespace, id) DO UPDATE SET {_REPLACE}",
                _row_of(budget),
            )
        return budget, old is None

    def delete_budget(self, namespace: str, budget_id: str) -> bool:
        """Delete a budget, its passed thresholds, and the waiting messages."""
        with self._transaction():
            return _delete_budget(self._connection, namespace, budget_id)

    def pass_thresholds(self, passed: Sequence[PassedThreshold]) -> int:
        """Store thresholds that are new, each with a message for each webhook."""
        with self._transaction():
            return sum(self._pass(one) for one in passed)

    def _pass(self, one: PassedThreshold) -> int:
        budget = (one.namespace, one.budget_id)
        self._connection.execute(
            "DELETE FROM passed_thresholds"
            " WHERE namespace = ? AND budget = ? AND passed_at < ?",
            (*budget, one.passed_at - KEEP_PASSED),
        )
        is_new = self._connection.execute(
            f"INSERT INTO passed_thresholds ({_PASSED})"  # noqa: S608 - a constant
            " SELECT ?,?,?,?,?,?,?,?,? WHERE EXISTS (SELECT 1 FROM budgets"
            " WHERE namespace = ? AND id = ? AND revision = ?)"
            " ON CONFLICT DO NOTHING",
            (
                *budget,
                one.revision,
                one.start,
                one.percent,
                format_plain(one.spent),
                one.passed_at,
                one.message_id,
                one.message,
                *budget,
                one.revision,
            ),
        ).rowcount
        if is_new:
            self._connection.execute(
                "INSERT INTO webhook_messages (webhook, attempts, created_at,"
                " message_id, message, namespace, budget)"
                " SELECT number, 0, ?, ?, ?, ?, ? FROM webhooks"
                " WHERE namespace = ? AND disabled_at IS NULL",
                (
                    one.passed_at,
                    one.message_id,
                    one.message,
                    *budget,
                    one.namespace,
                ),
            )
        return is_new

    def add_webhook(self, webhook: Webhook) -> None:
        """Store a new webhook."""
        with self._transaction():
            self._connection.execute(
                f"INSERT INTO webhooks ({_WEBHOOK}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608 - a constant
                _row_of_webhook(webhook),
            )

    def rotate_secret(
        self, namespace: str, webhook_id: str, secret: bytes, now: int, until: int
    ) -> bool:
        """Give a webhook another secret."""
        with self._transaction():
            webhook = _find_webhook(self._connection, namespace, webhook_id)
            if webhook is None:
                return False
            rotated = webhook.rotated(secret, now, until)
            self._connection.execute(
                "UPDATE webhooks SET secret = ?, old_secrets = ?"
                " WHERE namespace = ? AND id = ?",
                (secret, _encode_secrets(rotated), namespace, webhook_id),
            )
        return True

    def enable_webhook(self, namespace: str, webhook_id: str, now: int) -> None:
        """Forget the failures of a webhook."""
        with self._transaction():
            self._connection.execute(
                "UPDATE webhooks SET failures = 0, last_error = '',"
                " failing_since = NULL, delivered_at = ?, attempt_at = ?,"
                " disabled_at = NULL WHERE namespace = ? AND id = ?",
                (now, now, namespace, webhook_id),
            )

    def delete_webhook(self, namespace: str, webhook_id: str) -> bool:
        """Delete a webhook and its messages. Return whether there was one."""
        with self._transaction():
            row = self._connection.execute(
                "DELETE FROM webhooks WHERE namespace = ? AND id = ? RETURNING number",
                (namespace, webhook_id),
            ).fetchone()
            if row is None:
                return False
            self._connection.execute(
                "DELETE FROM webhook_messages WHERE webhook = ?", row
            )
        return True

    def claim_deliveries(self, now: int, until: int, limit: int) -> list[Delivery]:
        """Claim one message of each webhook whose next attempt is due."""
        with self._transaction():
            rows = self._connection.execute(
                f"SELECT number, {_WEBHOOK} FROM webhooks"  # noqa: S608 - a constant
                " WHERE disabled_at IS NULL AND attempt_at <= ? AND EXISTS"
                " (SELECT 1 FROM webhook_messages WHERE webhook = number)"
                " ORDER BY attempt_at LIMIT ?",
                (now, limit),
            ).fetchall()
            return [
                self._claim(number, _webhook_of(row), until) for number, *row in rows
            ]

    def _claim(self, number: int, webhook: Webhook, until: int) -> Delivery:
        self._connection.execute(
            "UPDATE webhooks SET attempt_at = ? WHERE number = ?", (until, number)
        )
        message_id, message, attempts, created_at = self._connection.execute(
            "SELECT message_id, message, attempts, created_at FROM webhook_messages"
            " WHERE webhook = ? ORDER BY attempts, created_at, message_id LIMIT 1",
            (number,),
        ).fetchone()
        return Delivery(message_id, message, webhook, attempts, created_at)

    def settle_attempt(self, delivery: Delivery, attempt: Attempt, now: int) -> None:
        """Store the outcome of an attempt."""
        webhook = delivery.webhook
        with self._transaction():
            row = self._connection.execute(
                "SELECT number FROM webhooks WHERE namespace = ? AND id = ?",
                (webhook.namespace, webhook.id),
            ).fetchone()
            if row is None:
                return
            (number,) = row
            message = (
                number,
                delivery.attempts,
                delivery.created_at,
                delivery.message_id,
            )
            of_message = (
                " WHERE (webhook, attempts, created_at, message_id) = (?,?,?,?)"
            )
            if attempt.error is None or attempt.gives_up:
                self._connection.execute(
                    f"DELETE FROM webhook_messages{of_message}",  # noqa: S608 - a constant
                    message,
                )
            else:
                self._connection.execute(
                    "UPDATE webhook_messages SET attempts = attempts + 1"  # noqa: S608 - constants
                    f"{of_message}",
                    message,
                )
            self._note_attempt(number, attempt, now)

    def _note_attempt(self, number: int, attempt: Attempt, now: int) -> None:
        if attempt.error is None:
            self._connection.execute(
                "UPDATE webhooks SET failures = 0, last_error = '',"
                " failing_since = NULL, delivered_at = ?, attempt_at = ?"
                " WHERE number = ?",
                (now, attempt.retry_at, number),
            )
            return
        self._connection.execute(
            "UPDATE webhooks SET failures = failures + 1, last_error = ?,"
            " failing_since = coalesce(failing_since, ?), attempt_at = ?,"
            " disabled_at = ? WHERE number = ?",
            (
                attempt.error,
                now,
                attempt.retry_at,
                now if attempt.disables else None,
                number,
            ),
        )


def _find_webhook(
    connection: Connection, namespace: str, webhook_id: str
) -> Webhook | None:
    row = connection.execute(
        f"SELECT {_WEBHOOK} FROM webhooks WHERE namespace = ? AND id = ?",  # noqa: S608 - a constant
        (namespace, webhook_id),
    ).fetchone()
    return None if row is None else _webhook_of(row)


def _webhook_of(row: Sequence[Any]) -> Webhook:
    *values, pairs = row
    old_secrets = tuple(
        OldSecret(bytes.fromhex(secret), until)
        for secret, until in _decode_secrets(pairs)
    )
    return Webhook(*(*values, old_secrets))


def _row_of_webhook(webhook: Webhook) -> tuple[Any, ...]:
    return (*msgspec.structs.astuple(webhook)[:-1], _encode_secrets(webhook))


def _encode_secrets(webhook: Webhook) -> str:
    pairs = [(one.secret.hex(), one.until) for one in webhook.old_secrets]
    return msgspec.json.encode(pairs).decode()


def delete_budgets_of(connection: Connection, namespace: str, customer: str) -> None:
    """Delete the budgets that name a customer, in the caller's transaction.

    A budget names the customer as such, or as the value of a dimension.
    """
    rows = connection.execute(
        "SELECT id, customer, dimensions FROM budgets WHERE namespace = ?",
        (namespace,),
    ).fetchall()
    for budget_id, of_customer, dimensions in rows:
        values = _decode_dimensions(dimensions).values()
        if customer == of_customer or customer in values:
            _delete_budget(connection, namespace, budget_id)


def _delete_budget(connection: Connection, namespace: str, budget_id: str) -> bool:
    for statement in (
        "DELETE FROM webhook_messages WHERE namespace = ? AND budget = ?",
        "DELETE FROM passed_thresholds WHERE namespace = ? AND budget = ?",
    ):
        connection.execute(statement, (namespace, budget_id))
    found = connection.execute(
        "DELETE FROM budgets WHERE namespace = ? AND id = ?", (namespace, budget_id)
    )
    return bool(found.rowcount)


def _find_budget(
    connection: Connection, namespace: str, budget_id: str
) -> Budget | None:
    row = connection.execute(
        f"SELECT {_BUDGET} FROM budgets WHERE namespace = ? AND id = ?",  # noqa: S608 - a constant
        (namespace, budget_id),
    ).fetchone()
    return None if row is None else _budget_of(row)


def _slices(texts: Sequence[str]) -> list[Sequence[str]]:
    """Return the texts in slices that fit into one statement each."""
    return [texts[at : at + _VARIABLES] for at in range(0, len(texts), _VARIABLES)]


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _budget_of(row: Sequence[Any]) -> Budget:
    (
        budget_id,
        namespace,
        name,
        amount,
        currency,
        period,
        zone,
        customer,
        dimensions,
        thresholds,
        revision,
        revised_at,
        created_at,
        updated_at,
    ) = row
    return Budget(
        budget_id,
        namespace,
        name,
        Decimal(amount),
        currency,
        BudgetPeriod(period),
        zone,
        customer,
        _decode_dimensions(dimensions),
        _decode_thresholds(thresholds),
        revision,
        revised_at,
        created_at,
        updated_at,
    )


def _row_of(budget: Budget) -> tuple[Any, ...]:
    return (
        budget.id,
        budget.namespace,
        budget.name,
        format_plain(budget.amount),
        budget.currency,
        budget.period,
        budget.zone,
        budget.customer,
        msgspec.json.encode(budget.dimensions).decode(),
        msgspec.json.encode(budget.thresholds).decode(),
        budget.revision,
        budget.revised_at,
        budget.created_at,
        budget.updated_at,
    )


def _passed_of(row: Sequence[Any]) -> PassedThreshold:
    namespace, budget, revision, start, percent, spent, passed_at, *message = row
    return PassedThreshold(
        namespace,
        budget,
        revision,
        start,
        percent,
        Decimal(spent),
        passed_at,
        message_id=message[0],
        message=message[1],
    )
