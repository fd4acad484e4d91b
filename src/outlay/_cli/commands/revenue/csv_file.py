"""Read lines of revenue from a CSV file, as a stream.

The file is read three times: for its decimal mark, to check every line, and to send the
lines. So a file with an error in its last line changes nothing, and a file of any size
needs little memory.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay._cli.commands.revenue.numbers import (
    EXACT,
    decimal_mark,
    from_minor_units,
    is_ambiguous,
    parse_amount,
)
from outlay._cli.exit_codes import CommandFailedError
from outlay._cli.output import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

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

_DELIMITERS: Final = (",", ";", "\t", "|")
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d{2}(-\d{2}([T ].*)?)?", re.ASCII)
_LONGEST: Final = 255  # characters of a text, on the server
_DIGEST_BYTES: Final = 16


class CsvOptions(NamedTuple):
    """The options of the command that say how to read the file.

    Attributes:
        columns: The column of a field, by the field's name. Others are recognized.
        currency: The currency of all lines. If None, the file has a column.
        month: The month of all lines. If None, the file has columns.
        decimal: The decimal mark. If None, the amounts decide.
        is_minor: Whether amounts are in the smallest unit, such as cents.
        where: The allowed values of columns, by name. Other lines are left out.
        encoding: The encoding of the text.
    """

    columns: Mapping[str, str] = {}
    currency: str | None = None
    month: str | None = None
    decimal: str | None = None
    is_minor: bool = False
    where: Mapping[str, frozenset[str]] = {}
    encoding: str = "utf-8-sig"


class Row(NamedTuple):
    """A row of the file. ``line`` is the number of its last line of text."""

    line: int
    values: Mapping[str, str]


class Checked(NamedTuple):
    """A file without errors.

    Attributes:
        lines: The number of lines that count.
        skipped: The number of lines that the conditions left out.
        totals: The sum of the amounts by currency.
    """

    lines: int
    skipped: int
    totals: Mapping[str, Decimal]


class CsvFileError(CommandFailedError):
    """The file cannot be imported. Nothing was sent."""


@dataclass
class RevenueFile:
    """A CSV file of revenue."""

    path: Path
    options: CsvOptions

    def check(self) -> Checked:
        """Check every line.

        Raises:
            CsvFileError: A line or a column is wrong. The message names it.
        """
        if self.options.decimal is None:
            mark = self._decimal_mark()
            self.options = self.options._replace(decimal=mark)
        seen: dict[bytes, int] = {}
        totals: dict[str, Decimal] = {}
        lines = skipped = 0
        for row, body in self._parsed():
            if body is None:
                skipped += 1
                continue
            lines += 1
            first = seen.setdefault(_identity(body), row.line)
            if first != row.line:
                raise self._error(
                    row.line,
                    f"it has the same {_identity_text(body)} as line {first}; pass "
                    "--column key=COLUMN with a column that tells them apart, such as "
                    "the invoice's number, or add them up",
                )
            currency = str(body["currency"])
            amount = Decimal(str(body["amount"]))
            totals[currency] = EXACT.add(totals.get(currency, Decimal()), amount)
        return Checked(lines, skipped, dict(sorted(totals.items())))

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines in the form of the API. Call `check` before."""
        for _, body in self._parsed():
            if body is not None:
                yield body

    # -- reading

    def _parsed(self) -> Iterator[tuple[Row, dict[str, Any] | None]]:
        """Yield each row and its line, or None for a row that is left out."""
        for row in self._rows():
            try:
                is_wanted = all(
                    row.values[f"where {name}"] in allowed
                    for name, allowed in self.options.where.items()
                )
                yield row, self._line(row) if is_wanted else None
            except ValueError as error:
                raise self._error(row.line, str(error)) from None

    def _rows(self) -> Iterator[Row]:
        """Yield the rows, their values by field."""
        try:
            with self.path.open(encoding=self.options.encoding, newline="") as file:
                header = file.readline()
                if not header.strip():
                    raise CsvFileError(
                        f"{self.path} is empty; the first line names the columns"
                    )
                delimiter = max(_DELIMITERS, key=header.count)
                names = next(csv.reader([header], delimiter=delimiter, strict=True))
                places = self._places([name.strip() for name in names])
                reader = csv.reader(file, delimiter=delimiter, strict=True)
                for values in reader:
                    line = reader.line_num + 1
                    if not any(map(str.strip, values)):
                        continue  # a blank line, which exports have at their end
                    if len(values) != len(names):
                        raise self._error(
                            line,
                            f"it has {len(values)} columns, the first line has "
                            f"{len(names)}; quote values that hold a {delimiter!r}",
                        )
                    yield Row(
                        line,
                        {
                            field: values[place].strip()
                            for field, place in places.items()
                        },
                    )
        except OSError as error:
            raise CsvFileError(f"cannot read {self.path} ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise CsvFileError(
                f"{self.path} is not {self.options.encoding}; pass its encoding, such "
                "as --encoding cp1252"
            ) from error
        except csv.Error as error:
            raise CsvFileError(f"{self.path} is no CSV file ({error})") from error

    def _places(self, names: Sequence[str]) -> dict[str, int]:
        """Return the place of each field among the columns."""
        places: dict[str, int] = {}
        folded = [name.casefold().replace(" ", "_") for name in names]
        for field, known in FIELDS.items():
            wanted = self.options.columns.get(field)
            if wanted is not None:
                places[field] = self._place(names, wanted)
                continue
            found = [folded.index(name) for name in known if name in folded]
            if found:
                places[field] = found[0]
        for name in self.options.where:
            places[f"where {name}"] = self._place(names, name)
        if self.options.month is not None:
            for field in ("period", "from", "to"):
                places.pop(field, None)
        missing = self._missing(places)
        if missing:
            raise CsvFileError(
                f"{self.path} has no column for {', '.join(missing)}; its columns are "
                f"{', '.join(names)}; {'; '.join(_REMEDIES[one] for one in missing)}"
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

    def _place(self, names: Sequence[str], wanted: str) -> int:
        if names.count(wanted) != 1:
            raise CsvFileError(
                f"{self.path} has {names.count(wanted)} columns {wanted!r}; "
                f"its columns are {', '.join(names)}"
            )
        return names.index(wanted)

    def _decimal_mark(self) -> str:
        """Return the decimal mark that the amounts of the file prove."""
        proofs: dict[str, tuple[int, str]] = {}
        doubtful: tuple[int, str] | None = None
        for row in self._rows():
            text = row.values["amount"]
            mark = decimal_mark(text)
            if mark is not None:
                proofs.setdefault(mark, (row.line, text))
            elif doubtful is None and is_ambiguous(text):
                doubtful = (row.line, text)
        if len(proofs) > 1:
            (point, with_point), (comma, with_comma) = proofs["."], proofs[","]
            raise CsvFileError(
                f"{self.path} writes amounts in two ways: line {point} has "
                f"{with_point!r}, line {comma} has {with_comma!r}; correct one of "
                "them, or pass --decimal"
            )
        if not proofs and doubtful is not None:
            line, text = doubtful
            raise self._error(
                line,
                f"{text!r} may mean thousands or a fraction; pass --decimal . or "
                "--decimal ,",
            )
        return next(iter(proofs), ".")

    # -- one line

    def _line(self, row: Row) -> dict[str, Any]:
        values = row.values
        currency = (values.get("currency") or self.options.currency or "").upper()
        if not _CURRENCY.fullmatch(currency):
            raise ValueError(f"{currency!r} is no currency such as USD")
        if not values["customer"]:
            raise ValueError("it has no customer")
        body: dict[str, Any] = {
            "customerId": values["customer"],
            "amount": plain(self._amount(values["amount"], currency)),
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
        amount = parse_amount(text, self.options.decimal or ".")
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

    def _error(self, line: int, message: str) -> CsvFileError:
        return CsvFileError(
            f"{self.path}, line {line}: {message}. Nothing was imported"
        )


_REMEDIES: Final = {
    "customer": "pass --column customer=COLUMN",
    "amount": "pass --column amount=COLUMN",
    "currency": "pass --currency USD, or --column currency=COLUMN",
    "period": "pass --month 2026-10, or --column period=COLUMN with a date",
}


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


def _identity(body: Mapping[str, Any]) -> bytes:
    """Return a digest of the fields that tell a line from others."""
    names = ("key", "source") if "key" in body else _WITHOUT_KEY
    text = "\0".join(f"{name}={body.get(name)}" for name in names)
    return blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()


def _identity_text(body: Mapping[str, Any]) -> str:
    return "key" if "key" in body else "customer, period and currency"


_WITHOUT_KEY: Final = ("customerId", "period", "from", "to", "currency", "source")
