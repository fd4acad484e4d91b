"""Read lines of revenue from a CSV file, as a stream.

The file is read three times: for its decimal mark, to check every line, and to send the
lines. So a file with an error in its last line changes nothing. A file of any size
needs little memory.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._tables.amounts import (
    EXACT,
    format_amount,
    from_minor_units,
    parse_amount,
)
from outlay._tables.csv_table import CsvTable, TableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from outlay._tables.csv_table import Row

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "customer": (
        "customer",
        "customer_id",
        "customerid",
        "customer_external_id",
        "external_customer_id",
    ),
    "amount": ("amount", "revenue", "net_revenue", "total"),
    "currency": ("currency",),
    "period": ("period", "month"),
    "from": ("from", "start", "period_start"),
    "to": ("to", "end", "period_end"),
    "key": ("key", "invoice", "invoice_id", "invoice_number"),
    "source": ("source",),
}
"""The fields of a line, and the names of columns that are recognized as each."""

_CURRENCY: Final = re.compile(r"[A-Za-z]{3}", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d{2}(-\d{2}([T ].*)?)?", re.ASCII)
_LONGEST: Final = 255  # characters of a text, on the server
_DIGEST_BYTES: Final = 16
_WITHOUT_KEY: Final = ("customerId", "period", "from", "to", "currency", "source")


class RevenueOptions(NamedTuple):
    """The meaning of the columns and amounts of a file.

    Attributes:
        columns: The column of a field, by the field's name. Others are recognized.
        currency: The currency of all lines. If None, the file has a column.
        month: The month of all lines. If None, the file has columns.
        decimal: The decimal mark. If None, the amounts decide.
        is_minor: Whether amounts are in the smallest unit, such as cents.
        where: The allowed values of columns, by name. Other lines are left out.
    """

    columns: Mapping[str, str] = {}
    currency: str | None = None
    month: str | None = None
    decimal: str | None = None
    is_minor: bool = False
    where: Mapping[str, frozenset[str]] = {}


class RevenueHints(NamedTuple):
    """The remedies that messages name, in the words of one user interface."""

    customer: str = "pass --column customer=COLUMN"
    amount: str = "pass --column amount=COLUMN"
    currency: str = "pass --currency USD, or --column currency=COLUMN"
    period: str = "pass --month 2026-10, or --column period=COLUMN with a date"
    key: str = "pass --column key=COLUMN with a column"


ON_COMMAND_LINE: Final = RevenueHints()


class Checked(NamedTuple):
    """The outcome of a check of a file.

    Attributes:
        lines: The number of lines that count.
        skipped: The number of lines that the conditions left out.
        totals: The sum of the amounts by currency.
        errors: The errors of lines, in the order of the file.
    """

    lines: int
    skipped: int
    totals: Mapping[str, Decimal]
    errors: tuple[TableError, ...] = ()


@dataclass
class RevenueFile:
    """A CSV file of revenue.

    Attributes:
        table: The file.
        options: The meaning of its columns and amounts.
        hints: The remedies that messages name.
    """

    table: CsvTable
    options: RevenueOptions
    hints: RevenueHints = ON_COMMAND_LINE

    def check(self, most_errors: int = 1) -> Checked:
        """Check every line.

        Args:
            most_errors: The number of errors after which the check ends.

        Raises:
            TableError: The file, or one of its columns, is wrong as a whole.
        """
        totals: dict[str, Decimal] = {}
        errors: list[TableError] = []
        lines = skipped = 0
        with closing(_Identities()) as seen:
            for row, parsed in self._parsed():
                if parsed is None:
                    skipped += 1
                    continue
                if not isinstance(parsed, TableError):
                    repeated = self._repetition(seen, row.line, parsed)
                    parsed = repeated or parsed  # noqa: PLW2901 - its outcome
                if isinstance(parsed, TableError):
                    errors.append(parsed)
                    if len(errors) >= most_errors:
                        break
                    continue
                lines += 1
                currency = str(parsed["currency"])
                amount = Decimal(str(parsed["amount"]))
                totals[currency] = EXACT.add(totals.get(currency, Decimal()), amount)
        return Checked(lines, skipped, dict(sorted(totals.items())), tuple(errors))

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines in the form of the API.

        Raises:
            TableError: A line is wrong. `check` finds it before.
        """
        for _, parsed in self._parsed():
            if isinstance(parsed, TableError):
                raise parsed
            if parsed is not None:
                yield parsed

    # -- columns

    @cached_property
    def _places(self) -> Mapping[str, int]:
        """The place of each field among the columns."""
        names = self.table.names()
        folded = [name.casefold().replace(" ", "_") for name in names]
        places: dict[str, int] = {}
        for field, known in FIELDS.items():
            wanted = self.options.columns.get(field)
            if wanted is not None:
                places[field] = self.table.place(wanted)
                continue
            found = [folded.index(name) for name in known if name in folded]
            if found:
                places[field] = found[0]
        for name in self.options.where:
            places[f"where {name}"] = self.table.place(name)
        if self.options.month is not None:
            for field in ("period", "from", "to"):
                places.pop(field, None)
        missing = self._missing(places)
        if missing:
            remedies = self.hints._asdict()
            raise TableError(
                f"{self.table.name} has no column for {', '.join(missing)}; its "
                f"columns are {', '.join(names)}; "
                f"{'; '.join(remedies[one] for one in missing)}"
            )
        return places

    def _missing(self, places: Mapping[str, int]) -> list[str]:
        """Return the needed fields that neither a column nor an option gives."""
        options = self.options
        given = {
            "customer": "customer" in places,
            "amount": "amount" in places,
            "currency": "currency" in places or options.currency is not None,
            "period": options.month is not None
            or "period" in places
            or {"from", "to"} <= places.keys(),
        }
        return [field for field, is_given in given.items() if not is_given]

    @cached_property
    def _decimal_mark(self) -> str:
        if self.options.decimal is not None:
            return self.options.decimal
        return self.table.decimal_mark(self._places["amount"])

    # -- lines

    def _parsed(self) -> Iterator[tuple[Row, dict[str, Any] | TableError | None]]:
        """Yield each row with its line, its error, or None if it is left out."""
        where = {
            f"where {name}": allowed for name, allowed in self.options.where.items()
        }
        for row in self.table.rows(self._places):
            if not all(row.values[name] in allowed for name, allowed in where.items()):
                yield row, None
                continue
            try:
                yield row, self._line(row)
            except ValueError as error:
                yield row, self.table.error(str(error), row.line)

    def _repetition(
        self, seen: _Identities, line: int, body: Mapping[str, Any]
    ) -> TableError | None:
        """Return the error of a line that has the identity of an earlier one."""
        first = seen.first_line(body, line)
        if first == line:
            return None
        same = "key" if "key" in body else "customer, period and currency"
        return self.table.error(
            f"it has the same {same} as line {first}; {self.hints.key} that tells them "
            "apart, such as the invoice's number, or add them up",
            line,
        )

    def _line(self, row: Row) -> dict[str, Any]:
        values = row.values
        currency = (values.get("currency") or self.options.currency or "").upper()
        if not _CURRENCY.fullmatch(currency):
            raise ValueError(f"{currency!r} is no currency such as USD")
        if not values["customer"]:
            raise ValueError("it has no customer")
        body: dict[str, Any] = {
            "customerId": values["customer"],
            "amount": format_amount(self._amount(values["amount"], currency)),
            "currency": currency,
            **self._period(values),
            **{
                field: values[field] for field in ("key", "source") if values.get(field)
            },
        }
        for name, value in body.items():
            if len(str(value)) > _LONGEST:
                raise ValueError(f"{name} has more than {_LONGEST} characters")
        return body

    def _amount(self, text: str, currency: str) -> Decimal:
        amount = parse_amount(text, self._decimal_mark)
        return from_minor_units(amount, currency) if self.options.is_minor else amount

    def _period(self, values: Mapping[str, str]) -> dict[str, str]:
        if self.options.month is not None:
            return {"period": self.options.month}
        if "period" in values:
            return {"period": _moment(values["period"]).strftime("%Y-%m")}
        start, end = _moment(values["from"]), _moment(values["to"])
        if start >= end:
            raise ValueError(
                f"{values['from']!r} is not before {values['to']!r}, the end of the "
                "period, which itself does not count"
            )
        return {"from": _instant(start), "to": _instant(end)}


def _moment(text: str) -> datetime:
    """Return the instant of a month, a date or a time. Without an offset it is UTC."""
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text!r} is no date such as 2026-10 or 2026-10-31")
    try:
        moment = datetime.fromisoformat(text if text.count("-") > 1 else f"{text}-01")
    except ValueError:
        raise ValueError(f"{text!r} is no date such as 2026-10 or 2026-10-31") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


def _instant(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


class _Identities:
    """The fields that tell lines from each other, of all lines so far.

    They are in a temporary database, which SQLite moves to disk as it grows. So a file
    of millions of lines needs little memory.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute(
            "CREATE TABLE seen (digest BLOB PRIMARY KEY, line) WITHOUT ROWID"
        )
        self._connection.execute("BEGIN")

    def first_line(self, body: Mapping[str, Any], line: int) -> int:
        """Return the number of the first line like ``body``, which may be ``line``."""
        names = ("key", "source") if "key" in body else _WITHOUT_KEY
        text = "\0".join(f"{name}={body.get(name)}" for name in names)
        digest = blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
        added = self._connection.execute(
            "INSERT INTO seen VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, line)
        )
        if added.rowcount:
            return line
        [(first,)] = self._connection.execute(
            "SELECT line FROM seen WHERE digest = ?", (digest,)
        )
        return int(first)

    def close(self) -> None:
        """Delete the temporary database."""
        self._connection.close()
