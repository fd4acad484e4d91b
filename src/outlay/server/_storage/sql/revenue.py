"""Store revenue, rates and customers."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from outlay.server._metering.decimals import format_plain
from outlay.server._records import Customer, Rate, RevenueLine, StoredRevenue
from outlay.server._storage.revenue_store import (
    ImportResult,
    Replacement,
    RevenuePart,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._storage.page import Page
    from outlay.server._storage.sql.connection import Connection

TABLES: Final = """
    -- An import counts from completed_at on. next_part: the number of stored parts.
    CREATE TABLE revenue_imports (
        number INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        received_by TEXT NOT NULL,
        completed_at INTEGER,
        next_part INTEGER NOT NULL,
        digest BLOB NOT NULL,
        added INTEGER NOT NULL,
        replaced INTEGER NOT NULL,
        unchanged INTEGER NOT NULL,
        UNIQUE (namespace, id)
    );

    -- Append only. Of the lines with one source and key, the one with the greatest
    -- number counts. replaces: the number of the line before it.
    CREATE TABLE revenue_lines (
        number INTEGER PRIMARY KEY,
        import INTEGER NOT NULL,
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        customer TEXT NOT NULL,
        start_at INTEGER NOT NULL,
        end_at INTEGER NOT NULL,
        amount TEXT NOT NULL,
        currency TEXT NOT NULL,
        source TEXT NOT NULL,
        replaces INTEGER
    );
    CREATE INDEX revenue_lines_by_key ON revenue_lines (namespace, source, key, number);
    CREATE INDEX revenue_lines_by_end ON revenue_lines (namespace, end_at);
    CREATE INDEX revenue_lines_by_import ON revenue_lines (import);

    -- Append only. Of the rates with one pair and valid_from, the last one counts.
    CREATE TABLE rates (
        number INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        from_currency TEXT NOT NULL,
        to_currency TEXT NOT NULL,
        rate TEXT NOT NULL,
        valid_from INTEGER NOT NULL,
        source TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        received_by TEXT NOT NULL
    );
    CREATE INDEX rates_by_pair
        ON rates (namespace, from_currency, to_currency, valid_from, number);

    CREATE TABLE customers (
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
"""
"""The migration that creates the tables."""

_LINE: Final = "key, customer, start_at, end_at, amount, currency, source"
_LINE_OF: Final = ", ".join(f"{{0}}.{name}" for name in _LINE.split(", "))
_ABANDONED: Final = 24 * 3_600_000_000  # microseconds after the start of an import
_REPLACEMENTS_SHOWN: Final = 100
_FOREVER: Final = 2**63 - 1

# Whether a line l of a complete import i has been replaced at :as_of.
_REPLACED: Final = (
    "EXISTS (SELECT 1 FROM revenue_lines n"
    " JOIN revenue_imports m ON m.number = n.import"
    " WHERE n.namespace = l.namespace AND n.source = l.source AND n.key = l.key"
    " AND n.number > l.number AND m.completed_at <= :as_of)"
)
_OF_PERIOD: Final = (
    " FROM revenue_lines l JOIN revenue_imports i ON i.number = l.import"
    " WHERE l.namespace = :namespace AND l.end_at > :start AND l.start_at < :end"
    " AND i.completed_at <= :as_of"
)
_OF_CUSTOMER: Final = " AND (:customer IS NULL OR l.customer = :customer)"


class SqlRevenueReader:
    """reads from one view."""

    _connection: Connection

    def revenue(
        self,
        namespace: str,
        start: int,
        end: int,
        *,
        customer: str | None = None,
        as_of: int | None = None,
    ) -> list[RevenueLine]:
        """Return the current lines whose period overlaps ``start <= t < end``."""
        rows = self._connection.execute(
            f"SELECT {_LINE_OF.format('l')}{_OF_PERIOD}{_OF_CUSTOMER}"
            f" AND NOT {_REPLACED} ORDER BY l.number",
            {**_period(namespace, start, end, as_of), "customer": customer},
        )
        return [_line_of(row) for row in rows]

    def revenue_history(
        self,
        namespace: str,
        start: int,
        end: int,
        page: Page,
        *,
        customer: str | None = None,
        as_of: int | None = None,
    ) -> tuple[list[StoredRevenue], int]:
        """Return a page of the lines of a period, newest first, and their number."""
        where = f"{_OF_PERIOD}{_OF_CUSTOMER}"
        wanted = {**_period(namespace, start, end, as_of), "customer": customer}
        rows = self._connection.execute(
            "SELECT i.id, i.completed_at, i.received_by,"
            f" NOT {_REPLACED}, {_LINE_OF.format('l')}{where}"
            " ORDER BY l.number DESC LIMIT :limit OFFSET :offset",
            {**wanted, **page._asdict()},
        )
        lines = [
            StoredRevenue(_line_of(line), import_id, at, by, bool(is_current))
            for import_id, at, by, is_current, *line in rows
        ]
        (total,) = self._connection.execute(
            f"SELECT count(*){where}",
            wanted,
        ).fetchone()
        return lines, int(total)

    def rates(self, namespace: str, *, as_of: int | None = None) -> list[Rate]:
        """Return the current rates, ordered by pair and first valid instant."""
        rows = self._connection.execute(
            "SELECT from_currency, to_currency, rate, valid_from, source FROM rates"
            " WHERE number IN (SELECT max(number) FROM rates"
            " WHERE namespace = ? AND received_at <= ?"
            " GROUP BY from_currency, to_currency, valid_from)"
            " ORDER BY from_currency, to_currency, valid_from",
            (namespace, _FOREVER if as_of is None else as_of),
        )
        return [
            Rate(from_currency, to_currency, Decimal(rate), valid_from, source)
            for from_currency, to_currency, rate, valid_from, source in rows
        ]

    def customer_names(self, namespace: str) -> Mapping[str, str]:
        """Return the display names of customers, by id."""
        rows = self._connection.execute(
            "SELECT id, name FROM customers WHERE namespace = ?", (namespace,)
        )
        return dict(rows.fetchall())

    def customers(self, namespace: str, page: Page) -> tuple[list[Customer], int]:
        """Return a page of the customers with a name, by id, and their number."""
        rows = self._connection.execute(
            "SELECT id, name, created_at, updated_at FROM customers"
            " WHERE namespace = ? ORDER BY id LIMIT ? OFFSET ?",
            (namespace, page.limit, page.offset),
        )
        customers = [Customer(*row) for row in rows]
        (total,) = self._connection.execute(
            "SELECT count(*) FROM customers WHERE namespace = ?", (namespace,)
        ).fetchone()
        return customers, int(total)

    def customer(self, namespace: str, customer_id: str) -> Customer | None:
        """Return a customer with a display name."""
        return _customer(self._connection, namespace, customer_id)


class SqlRevenueWriter:
    """Writes in the thread of the store."""

    _connection: Connection

    def _transaction(self) -> AbstractContextManager[None]:
        """Return the store's transaction, which commits or rolls back."""
        raise NotImplementedError

    def add_revenue(self, part: RevenuePart, now: int, by: str) -> ImportResult:
        """Store a part of an import. A repeated part changes nothing."""
        with self._transaction():
            number, next_part, digest, is_complete = self._import(part, now, by)
            if part.number != next_part or is_complete:
                is_retry = part.number == next_part - 1 and part.digest == digest
                return self._result(number, is_conflict=not is_retry)
            counts = [0, 0, 0]
            rows: list[tuple[Any, ...]] = []
            for line in part.lines:
                change, replaces = self._change(number, part.namespace, line)
                if change is None:
                    # No line of the part has been written yet.
                    return self._result(number, duplicate=line.key)
                counts[change] += 1
                if change != _UNCHANGED:
                    rows.append((number, part.namespace, *_row_of(line), replaces))
            self._connection.executemany(
                f"INSERT INTO revenue_lines (import, namespace, {_LINE}, replaces)"  # noqa: S608 - a constant
                " VALUES (?,?,?,?,?,?,?,?,?,?)",
                rows,
            )
            self._connection.execute(
                "UPDATE revenue_imports SET next_part = next_part + 1, digest = ?,"
                " completed_at = ?, added = added + ?, replaced = replaced + ?,"
                " unchanged = unchanged + ? WHERE number = ?",
                (part.digest, now if part.is_last else None, *counts, number),
            )
            return self._result(number)

    def _import(
        self, part: RevenuePart, now: int, by: str
    ) -> tuple[int, int, bytes, bool]:
        """Return the import's row number, next part, digest and completeness."""
        found = self._connection.execute(
            "SELECT number, next_part, digest, completed_at IS NOT NULL"
            " FROM revenue_imports WHERE namespace = ? AND id = ?",
            (part.namespace, part.import_id),
        ).fetchone()
        if found is not None:
            number, next_part, digest, is_complete = found
            return number, next_part, digest, bool(is_complete)
        self._delete_abandoned(now)
        (number,) = self._connection.execute(
            "INSERT INTO revenue_imports (namespace, id, started_at, received_by,"
            " next_part, digest, added, replaced, unchanged)"
            " VALUES (?,?,?,?,0,?,0,0,0) RETURNING number",
            (part.namespace, part.import_id, now, by, b""),
        ).fetchone()
        return number, 0, b"", False

    def _delete_abandoned(self, now: int) -> None:
        """Delete imports that were never completed. Their lines never counted."""
        abandoned = "completed_at IS NULL AND started_at < ?"
        self._connection.execute(
            "DELETE FROM revenue_lines WHERE import IN"  # noqa: S608 - a constant
            f" (SELECT number FROM revenue_imports WHERE {abandoned})",
            (now - _ABANDONED,),
        )
        self._connection.execute(
            f"DELETE FROM revenue_imports WHERE {abandoned}",  # noqa: S608 - a constant
            (now - _ABANDONED,),
        )

    def _change(
        self, number: int, namespace: str, line: RevenueLine
    ) -> tuple[int | None, int | None]:
        """Return what a line changes, and the number of the line that it replaces.

        The change is None if the import itself has a line with this key.
        """
        row = self._connection.execute(
            f"SELECT l.number, l.import, {_LINE_OF.format('l')}"  # noqa: S608 - a constant
            " FROM revenue_lines l JOIN revenue_imports i ON i.number = l.import"
            " WHERE l.namespace = ? AND l.source = ? AND l.key = ?"
            " AND (i.completed_at IS NOT NULL OR i.number = ?)"
            " ORDER BY l.number DESC LIMIT 1",
            (namespace, line.source, line.key, number),
        ).fetchone()
        if row is None:
            return _ADDED, None
        old_number, old_import, *old = row
        if old_import == number:
            return None, None
        if _line_of(old) == line:
            return _UNCHANGED, None
        return _REPLACED_ONE, old_number

    def _result(
        self,
        number: int,
        *,
        is_conflict: bool = False,
        duplicate: str | None = None,
    ) -> ImportResult:
        is_complete, next_part, added, replaced, unchanged = self._connection.execute(
            "SELECT completed_at IS NOT NULL, next_part, added, replaced, unchanged"
            " FROM revenue_imports WHERE number = ?",
            (number,),
        ).fetchone()
        return ImportResult(
            bool(is_complete),
            next_part,
            is_conflict,
            duplicate,
            added,
            replaced,
            unchanged,
            self._replacements(number) if is_complete else (),
        )

    def _replacements(self, number: int) -> list[Replacement]:
        rows = self._connection.execute(
            f"SELECT {_LINE_OF.format('o')}, {_LINE_OF.format('n')}"  # noqa: S608 - a constant
            " FROM revenue_lines n JOIN revenue_lines o ON o.number = n.replaces"
            " WHERE n.import = ? ORDER BY n.number LIMIT ?",
            (number, _REPLACEMENTS_SHOWN),
        ).fetchall()
        half = _LINE.count(",") + 1
        return [Replacement(_line_of(row[:half]), _line_of(row[half:])) for row in rows]

    def put_rates(
        self, namespace: str, rates: Iterable[Rate], now: int, by: str
    ) -> int:
        """Store rates, and return the number of those that were new or changed."""
        stored = 0
        with self._transaction():
            for rate in rates:
                text = format_plain(rate.rate)
                pair = (namespace, rate.from_currency, rate.to_currency)
                current = self._connection.execute(
                    "SELECT rate, source FROM rates WHERE namespace = ?"
                    " AND from_currency = ? AND to_currency = ? AND valid_from = ?"
                    " ORDER BY number DESC LIMIT 1",
                    (*pair, rate.valid_from),
                ).fetchone()
                if current == (text, rate.source):
                    continue
                stored += 1
                self._connection.execute(
                    "INSERT INTO rates (namespace, from_currency, to_currency, rate,"
                    " valid_from, source, received_at, received_by)"
                    " VALUES (?,?,?,?,?,?,?,?)",
                    (*pair, text, rate.valid_from, rate.source, now, by),
                )
        return stored

    def put_customers(
        self, namespace: str, names: Mapping[str, str], now: int
    ) -> list[Customer]:
        """Name customers, and return them in the order of ``names``."""
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO customers (namespace, id, name, created_at, updated_at)"
                " VALUES (?,?,?,?,?) ON CONFLICT (namespace, id) DO UPDATE"
                " SET name = excluded.name, updated_at = excluded.updated_at"
                " WHERE customers.name <> excluded.name",
                [(namespace, one, name, now, now) for one, name in names.items()],
            )
            found = [_customer(self._connection, namespace, one) for one in names]
        return [one for one in found if one is not None]


_ADDED, _REPLACED_ONE, _UNCHANGED = range(3)


def _period(
    namespace: str, start: int, end: int, as_of: int | None
) -> dict[str, str | int | None]:
    return {
        "namespace": namespace,
        "start": start,
        "end": end,
        "as_of": _FOREVER if as_of is None else as_of,
    }


def _line_of(row: Sequence[Any]) -> RevenueLine:
    key, customer, start, end, amount, currency, source = row
    return RevenueLine(key, customer, start, end, Decimal(amount), currency, source)


def _row_of(line: RevenueLine) -> tuple[Any, ...]:
    return (
        line.key,
        line.customer,
        line.start,
        line.end,
        format_plain(line.amount),
        line.currency,
        line.source,
    )


def _customer(
    connection: Connection, namespace: str, customer_id: str
) -> Customer | None:
    row = connection.execute(
        "SELECT id, name, created_at, updated_at FROM customers"
        " WHERE namespace = ? AND id = ?",
        (namespace, customer_id),
    ).fetchone()
    return None if row is None else Customer(*row)
