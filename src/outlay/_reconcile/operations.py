"""Sort charges and costs by the operation that they name, and keep what agrees.

They are in a temporary database, which SQLite moves to disk as it grows. So memory does
not grow with their number.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from outlay._reconcile.values import BillError, Charge, Cost, multiply, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MOST_PER_OPERATION: Final = 10_000
_BILL: Final = 0
_OURS: Final = 1

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_charge: Final = msgspec.msgpack.Decoder(Charge).decode
_decode_cost: Final = msgspec.msgpack.Decoder(Cost).decode


class Operation(NamedTuple):
    """The charges and costs of one operation. Either may be missing."""

    id: str
    charges: list[Charge]
    costs: list[Cost]

    @property
    def duplicates(self) -> Decimal:
        """The sum of the costs that repeat another one."""
        same = Counter(
            (one.event_type, one.line, one.model, one.amount) for one in self.costs
        )
        return total(
            multiply(amount, Decimal(count - 1)) for (*_, amount), count in same.items()
        )


class OperationEntries:
    """The charges and costs with operation ids. Close it to delete its database."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE entry (operation, side, content BLOB)")
        self._database.execute(
            "CREATE TABLE match (digest BLOB PRIMARY KEY) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def close(self) -> None:
        """Delete the temporary database."""
        self._database.close()

    def add_charge(self, charge: Charge) -> None:
        """Add a charge."""
        self._insert(charge.operation_id, _BILL, charge)

    def add_cost(self, cost: Cost) -> None:
        """Add a cost."""
        self._insert(cost.operation_id, _OURS, cost)

    def _insert(self, operation: str, side: int, content: Charge | Cost) -> None:
        self._database.execute(
            "INSERT INTO entry VALUES (?, ?, ?)", (operation, side, _encode(content))
        )

    def add_matches(self, digests: Iterable[bytes]) -> None:
        """Add the digests of costs that agree with the bill."""
        self._database.executemany(
            "INSERT OR IGNORE INTO match VALUES (?)", ((one,) for one in digests)
        )

    def matches(self) -> Iterator[bytes]:
        """Yield each digest once."""
        for (digest,) in self._database.execute("SELECT digest FROM match"):
            yield digest

    def operations(self) -> Iterator[Operation]:
        """Yield each operation with all of its charges and costs.

        Raises:
            BillError: An operation has too many of them.
        """
        found = self._database.execute(
            "SELECT operation, side, content FROM entry ORDER BY operation, side"
        )
        for operation, entries in groupby(found, key=itemgetter(0)):
            yield _operation(operation, entries)


def _operation(operation: str, entries: Iterable[tuple[str, int, bytes]]) -> Operation:
    charges: list[Charge] = []
    costs: list[Cost] = []
    for _, side, content in entries:
        if side == _BILL:
            charges.append(_decode_charge(content))
        else:
            costs.append(_decode_cost(content))
        if len(charges) + len(costs) > _MOST_PER_OPERATION:
            raise BillError(
                f"the operation {operation!r} is there more than "
                f"{_MOST_PER_OPERATION:,} times, so it is no id of one; name "
                "another column as operation"
            )
    return Operation(operation, charges, costs)
