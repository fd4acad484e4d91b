"""Read and write all records beside the events in the form of `RECORDS`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Final

from outlay.server._storage.copy_store import RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from outlay.server._storage.copy_store import Row
    from outlay.server._storage.sql.connection import Connection

_COMPLETE: Final = "SELECT number FROM revenue_imports WHERE completed_at IS NOT NULL"
_LINES: Final = (
    "(SELECT *, row_number() OVER (ORDER BY number) AS place FROM revenue_lines"  # noqa: S608 - a constant
    f" WHERE import IN ({_COMPLETE}))"
)
_SAVED: Final = "SELECT number FROM reconciliations WHERE saved_at IS NOT NULL"

# What differs from "the columns of the table of this name, in order of insertion".
_EXPRESSIONS: Final = {
    ("entries", "correction"): (
        "(SELECT id FROM corrections WHERE number = entries.correction)"
    ),
    ("webhook_messages", "webhook"): (
        "(SELECT id FROM webhooks WHERE number = webhook_messages.webhook)"
    ),
    ("reconciliation_matches", "reconciliation"): (
        "(SELECT id FROM reconciliations"
        " WHERE number = reconciliation_matches.reconciliation)"
    ),
    ("revenue_lines", "import"): (
        "(SELECT id FROM revenue_imports WHERE number = l.import)"
    ),
    ("revenue_lines", "replaces"): (
        f"(SELECT place FROM {_LINES} AS r WHERE number = l.replaces)"  # noqa: S608 - a constant
    ),
}
_SOURCES: Final = {
    "budgets": "budgets ORDER BY namespace, id",
    "passed_thresholds": (
        "passed_thresholds ORDER BY namespace, budget, revision, start_at, percent"
    ),
    "webhook_messages": (
        "webhook_messages ORDER BY namespace, created_at, message_id, attempts"
    ),
    "api_keys": "api_keys ORDER BY created_at, id",
    "closed_periods": "closed_periods ORDER BY namespace, start_at",
    "customers": "customers ORDER BY namespace, id",
    "retention": "retention ORDER BY namespace",
    "revenue_imports": (
        "revenue_imports WHERE completed_at IS NOT NULL ORDER BY number"
    ),
    "revenue_lines": f"{_LINES} AS l ORDER BY number",
    "reconciliations": "reconciliations WHERE saved_at IS NOT NULL ORDER BY number",
    "reconciliation_matches": (
        f"reconciliation_matches WHERE reconciliation IN ({_SAVED})"
        " ORDER BY reconciliation_matches.reconciliation, digest"
    ),
}

# The values that are no column of a record, by table. A line's number is its place,
# because the store had no line before.
_VALUES: Final = {
    (
        "entries",
        "correction",
    ): "(SELECT number FROM corrections WHERE id = :correction)",
    ("entries", "seq"): (
        "(SELECT seq FROM events WHERE id = :event_id AND namespace = :namespace)"
    ),
    ("webhook_messages", "webhook"): (
        "(SELECT number FROM webhooks WHERE id = :webhook AND namespace = :namespace)"
    ),
    ("reconciliation_matches", "reconciliation"): (
        "(SELECT number FROM reconciliations WHERE id = :reconciliation)"
    ),
    ("revenue_lines", "import"): (
        "(SELECT number FROM revenue_imports"
        " WHERE id = :import AND namespace = :namespace)"
    ),
}


class SqlCopyReader:
    """Reads all records from one view."""

    _connection: Connection
    _product_order: ClassVar[str]

    def obstacle(self) -> str | None:
        """Return why this store cannot be copied as a whole, or None."""
        erasures, deleted = self._connection.execute(
            "SELECT (SELECT count(*) FROM erasures),"
            " (SELECT count(*) FROM deleted_events)"
        ).fetchone()
        if erasures:
            return (
                "an erasure is running; start its server, wait until 'outlay erase' "
                "lists none, and stop the server again"
            )
        if deleted:
            return (
                "retention has deleted events, and totals by hour are all that is left "
                "of them; copy a backup from before"
            )
        return None

    def last_received(self) -> str | None:
        """Return the id of the event that was received last."""
        row = self._connection.execute(
            "SELECT id FROM events ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        return None if row is None else str(row[0])

    def records(self, kind: str) -> Iterator[Row]:
        """Yield the rows of a kind of records, the oldest first."""
        columns = ", ".join(
            _EXPRESSIONS.get((kind, name), name) for name in RECORDS[kind]
        )
        order = self._product_order if kind == "products" else "number"
        source = _SOURCES.get(kind, f"{kind} ORDER BY {order}")
        yield from self._record_rows(f"SELECT {columns} FROM {source}")  # noqa: S608 - constants

    def _record_rows(self, query: str) -> Iterator[Row]:
        """Yield the rows of a query."""
        yield from self._connection.execute(query)


def insert_records(
    connection: Connection,
    records: Iterable[tuple[str, Row]],
    of_costs: Mapping[str, str],
) -> None:
    """Insert rows of `RECORDS` into a store that has all events, and no records.

    Args:
        connection: The connection, in a transaction.
        records: The rows, by kind.
        of_costs: The expression of each column of a cost that only this engine has.
    """
    for kind, rows in groupby(records, key=lambda record: record[0]):
        names = RECORDS[kind]
        connection.executemany(
            _insert(kind, of_costs if kind == "costs" else {}),
            (dict(zip(names, row, strict=True)) for _, row in rows),
        )


def _insert(kind: str, more: Mapping[str, str]) -> str:
    values: dict[str, Any] = {name: f":{name}" for name in RECORDS[kind]}
    values |= {name: value for (table, name), value in _VALUES.items() if table == kind}
    values |= more
    return (
        f"INSERT INTO {kind} ({', '.join(values)})"  # noqa: S608 - constants
        f" VALUES ({', '.join(values.values())})"
    )
