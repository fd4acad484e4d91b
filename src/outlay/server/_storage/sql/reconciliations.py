"""The SQL of reconciliations with bills of providers."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay.server._metering.decimals import format_plain
from outlay.server._records import SavedReconciliation, Withdrawal

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._storage.page import Page
    from outlay.server._storage.reconciliation_store import ReconciledTotals
    from outlay.server._storage.sql.connection import Connection

TABLES: Final = """
    -- A reconciliation counts from saved_at on.
    CREATE TABLE reconciliations (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        namespace TEXT NOT NULL,
        invoice_id TEXT NOT NULL,
        provider TEXT NOT NULL,
        currency TEXT NOT NULL,
        zone TEXT NOT NULL,
        period TEXT NOT NULL,
        first_day TEXT NOT NULL,
        last_day TEXT NOT NULL,
        as_of INTEGER NOT NULL,
        saved_by TEXT NOT NULL,
        saved_at INTEGER,
        bill TEXT NOT NULL,
        tracked TEXT NOT NULL,
        reconciled TEXT NOT NULL
    );

    -- digest: of an operation, or of a group of costs, that agrees with the bill.
    CREATE TABLE reconciliation_matches (
        reconciliation INTEGER NOT NULL,
        digest BLOB NOT NULL,
        PRIMARY KEY (reconciliation, digest)
    ) WITHOUT ROWID;
"""
"""The migration that creates the tables."""

WITHDRAWALS: Final = """
    -- The number of charges on the bill, and of those that match. A reconciliation
    -- counts until withdrawn_at.
    ALTER TABLE reconciliations ADD COLUMN charges INTEGER;
    ALTER TABLE reconciliations ADD COLUMN reconciled_charges INTEGER;
    ALTER TABLE reconciliations ADD COLUMN withdrawn_at INTEGER;
    ALTER TABLE reconciliations ADD COLUMN withdrawn_by TEXT;
    ALTER TABLE reconciliations ADD COLUMN withdrawal_reason TEXT;
"""
"""The migration that adds the columns of withdrawals."""

_COLUMNS: Final = (
    "id, namespace, invoice_id, provider, currency, zone, period, first_day, last_day,"
    " as_of, saved_by, saved_at, bill, tracked, reconciled, charges,"
    " reconciled_charges, withdrawn_at, withdrawn_by, withdrawal_reason"
)
_NAMED: Final = "id = ? AND namespace = ?"
_ABANDONED: Final = 24 * 3_600_000_000  # microseconds after the start
_DIGESTS_A_QUERY: Final = 500


class SqlReconciliationReader:
    """Reads from one view."""

    _connection: Connection

    def reconciliations(
        self, namespace: str, page: Page
    ) -> tuple[list[SavedReconciliation], int]:
        """Return a page of the finished reconciliations, and their number."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM reconciliations"  # noqa: S608 - a constant
            " WHERE namespace = ? AND saved_at IS NOT NULL"
            " ORDER BY saved_at DESC, number DESC LIMIT ? OFFSET ?",
            (namespace, page.limit, page.offset),
        ).fetchall()
        (total,) = self._connection.execute(
            "SELECT count(*) FROM reconciliations"
            " WHERE namespace = ? AND saved_at IS NOT NULL",
            (namespace,),
        ).fetchone()
        return [_reconciliation(row) for row in rows], int(total)

    def reconciliation(
        self, namespace: str, reconciliation_id: str
    ) -> SavedReconciliation | None:
        """Return a finished reconciliation, or None."""
        return _finished(self._connection, namespace, reconciliation_id)

    def matches(
        self, namespace: str, reconciliation_id: str, digests: Collection[bytes]
    ) -> set[bytes]:
        """Return those of ``digests`` that are matches of a reconciliation."""
        row = self._connection.execute(
            f"SELECT number FROM reconciliations WHERE {_NAMED}",  # noqa: S608 - a constant
            (reconciliation_id, namespace),
        ).fetchone()
        if row is None:
            return set()
        found: set[bytes] = set()
        wanted = [*digests]
        for start in range(0, len(wanted), _DIGESTS_A_QUERY):
            some = wanted[start : start + _DIGESTS_A_QUERY]
            rows = self._connection.execute(
                "SELECT digest FROM reconciliation_matches WHERE reconciliation = ?"  # noqa: S608 - question marks
                f" AND digest IN ({', '.join('?' * len(some))})",
                (row[0], *some),
            )
            found.update(digest for (digest,) in rows)
        return found


class SqlReconciliationWriter:
    """Writes in the thread of the store."""

    _connection: Connection

    def _transaction(self) -> AbstractContextManager[None]:
        """Return the store's transaction, which commits or rolls back."""
        raise NotImplementedError

    def begin_reconciliation(self, new: SavedReconciliation) -> None:
        """Store a reconciliation that does not count yet, and has no matches."""
        with self._transaction():
            self._delete_unfinished(new.as_of - _ABANDONED)
            row = _row(new)
            self._connection.execute(
                f"INSERT INTO reconciliations ({_COLUMNS})"  # noqa: S608 - constants
                f" VALUES ({', '.join('?' * len(row))})",
                row,
            )

    def _delete_unfinished(self, before: int) -> None:
        """Delete reconciliations that were never finished. They never counted."""
        unfinished = "saved_at IS NULL AND as_of < ?"
        self._connection.execute(
            "DELETE FROM reconciliation_matches WHERE reconciliation IN"  # noqa: S608 - a constant
            f" (SELECT number FROM reconciliations WHERE {unfinished})",
            (before,),
        )
        self._connection.execute(
            f"DELETE FROM reconciliations WHERE {unfinished}",  # noqa: S608 - a constant
            (before,),
        )

    def add_matches(
        self,
        namespace: str,
        reconciliation_id: str,
        digests: Collection[bytes],
        now: int,
        totals: ReconciledTotals | None = None,
    ) -> SavedReconciliation | None:
        """Add matches. Digests that are stored already change nothing."""
        with self._transaction():
            row = self._connection.execute(
                f"SELECT number, {_COLUMNS} FROM reconciliations WHERE {_NAMED}",  # noqa: S608 - constants
                (reconciliation_id, namespace),
            ).fetchone()
            if row is None:
                return None
            number, *columns = row
            found = _reconciliation(columns)
            if found.saved_at is not None:
                return found
            self._connection.executemany(
                "INSERT INTO reconciliation_matches (reconciliation, digest)"
                " VALUES (?,?) ON CONFLICT (reconciliation, digest) DO NOTHING",
                [(number, one) for one in digests],
            )
            if totals is None:
                return found
            self._connection.execute(
                "UPDATE reconciliations SET saved_at = ?, bill = ?, tracked = ?,"
                " reconciled = ?, charges = ?, reconciled_charges = ?"
                " WHERE number = ?",
                (
                    now,
                    *map(format_plain, totals[:_SUMS]),
                    *totals[_SUMS:],
                    number,
                ),
            )
            return msgspec.structs.replace(found, saved_at=now, **totals._asdict())

    def withdraw_reconciliation(
        self, namespace: str, reconciliation_id: str, withdrawal: Withdrawal
    ) -> SavedReconciliation | None:
        """End a finished reconciliation. Its first withdrawal stays."""
        with self._transaction():
            self._connection.execute(
                "UPDATE reconciliations SET withdrawn_at = ?, withdrawn_by = ?,"  # noqa: S608 - a constant
                f" withdrawal_reason = ? WHERE {_NAMED} AND saved_at IS NOT NULL"
                " AND withdrawn_at IS NULL",
                (
                    withdrawal.at,
                    withdrawal.by,
                    withdrawal.reason,
                    reconciliation_id,
                    namespace,
                ),
            )
            return _finished(self._connection, namespace, reconciliation_id)


_SUMS: Final = 3  # the first of the totals, which are stored as texts


def _finished(
    connection: Connection, namespace: str, reconciliation_id: str
) -> SavedReconciliation | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM reconciliations"  # noqa: S608 - constants
        f" WHERE {_NAMED} AND saved_at IS NOT NULL",
        (reconciliation_id, namespace),
    ).fetchone()
    return None if row is None else _reconciliation(row)


def _reconciliation(row: Sequence[Any]) -> SavedReconciliation:
    *fields, bill, tracked, reconciled, charges, matched, at, by, reason = row
    sums = map(Decimal, (bill, tracked, reconciled))
    end = None if at is None else Withdrawal(at, by, reason)
    values = [*fields, *sums, charges, matched, end]
    return SavedReconciliation(*values)


def _row(new: SavedReconciliation) -> tuple[Any, ...]:
    """Return the values of a reconciliation that begins, without a withdrawal."""
    *fields, bill, tracked, reconciled, charges, matched, _ = msgspec.structs.astuple(
        new
    )
    sums = map(format_plain, (bill, tracked, reconciled))
    return (*fields, *sums, charges, matched, None, None, None)
