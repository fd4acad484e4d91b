"""Read the charges of a bill, as a stream."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, Protocol

import msgspec

from outlay._reconcile.bill_formats import MAPPING, choose_format
from outlay._reconcile.json_rows import column_names, has_lists, read_documents, rows_of
from outlay._reconcile.quantities import KNOWN_UNITS
from outlay._reconcile.values import ZERO, BillError, Charge, add, subtract
from outlay._tables.amounts import from_minor_units, parse_amount
from outlay._tables.csv_table import CsvTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import tzinfo
    from decimal import Decimal
    from typing import Any

    from outlay._reconcile.bill_formats import BillFormat, Place

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SECONDS: Final = re.compile(r"\d{9,11}", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}", re.ASCII)
_OVER_A_DAY: Final = timedelta(hours=25)  # the longest day has 25 hours
_LONGEST: Final = 300  # characters of a text that the result shows
_PEEKED: Final = 1024  # bytes that tell JSON from CSV
_WIDE: Final = Context(prec=1000)
_MAX_EXPONENT: Final = 60
_MAX_DIGITS: Final = 100
_YEARS: Final = range(1970, 9000)


class BillOptions(NamedTuple):
    """The caller's options for a bill, beside its format.

    Attributes:
        provider: The provider. If None, the format names it.
        timezone: The time zone of the days, instead of the format's.
        currency: The only currency that counts, or the one of a bill that has none.
        decimal: The decimal mark, instead of the format's.
        period: ``day`` or ``month``, instead of the format's.
        where: The allowed values of columns, beside the format's.
    """

    provider: str | None = None
    timezone: str | None = None
    currency: str | None = None
    decimal: str | None = None
    period: str | None = None
    where: Mapping[str, tuple[str, ...]] = {}

    def apply(self, found: BillFormat) -> BillFormat:
        """Return the format with these options."""
        changes: dict[str, Any] = {
            name: value
            for name in ("provider", "timezone", "decimal", "period")
            if (value := getattr(self, name)) is not None
        }
        if self.where:
            changes["where"] = {**found.where, **self.where}
        return msgspec.structs.replace(found, **changes)


class BilledCharge(NamedTuple):
    """A charge, its currency, and whether a condition leaves it out."""

    charge: Charge
    currency: str
    is_left_out: bool


class _Row(NamedTuple):
    line: int
    values: Mapping[str, str]


class _Source(Protocol):
    """A file that is read as a table."""

    def names(self) -> list[str]: ...

    def rows(self) -> Iterator[_Row]: ...

    def decimal_mark(self, place: Place) -> str: ...


@dataclass(frozen=True)
class Bill:
    """A bill or a usage report.

    Attributes:
        name: The name of the file, for messages.
        format: The format, with the caller's options.
        source: The rows.
        currency: The only currency that counts, or the one of a bill that has none.
    """

    name: str
    format: BillFormat
    source: _Source
    currency: str | None = None

    def charges(self) -> Iterator[BilledCharge]:
        """Yield the charges, in the order of the file.

        Raises:
            BillError: A row is wrong. The message names it.
            TableError: The file cannot be read as a table.
        """
        for row in self.source.rows():
            try:
                found = self._charge(row)
            except (ValueError, OverflowError) as error:
                raise BillError(f"{self.name}, line {row.line}: {error}") from None
            if found is not None:
                yield found

    @cached_property
    def _places(self) -> dict[str, Place]:
        return self.format.columns.places()

    @cached_property
    def _zone(self) -> tzinfo:
        return self.format.zone()

    @cached_property
    def _decimal_mark(self) -> str:
        if self.format.decimal is not None:
            return self.format.decimal
        place = self._places.get("amount")
        return "." if place is None else self.source.decimal_mark(place)

    @cached_property
    def _units(self) -> tuple[dict[str, str], list[tuple[str, str]]]:
        """The units by exact text, and by the end of a text."""
        exact = {k.casefold(): v for k, v in self.format.units.items()}
        ends = [
            (text.removeprefix("*"), exact.pop(text))
            for text in [*exact]
            if text.startswith("*")
        ]
        return exact, ends

    def _charge(self, row: _Row) -> BilledCharge | None:
        values = row.values
        texts = {field: place.read(values) for field, place in self._places.items()}
        amount = self._amount(texts)
        if amount is None:
            return None  # a bucket without any charge
        unit = self._unit(texts.get("unit", ""))
        model = texts.get("model") or texts.get("service") or ""
        charge = Charge(
            row.line,
            self._day(texts),
            self.format.models.get(model, model)[:_LONGEST],
            unit,
            texts.get("operation", "")[:_LONGEST],
            amount,
            self._quantities(texts, values, unit),
            (texts.get("description") or texts.get("unit") or "")[:_LONGEST],
        )
        is_left_out = any(
            values.get(name, "") not in allowed
            for name, allowed in self.format.where.items()
        )
        return BilledCharge(charge, self._currency(texts), is_left_out)

    def _amount(self, texts: Mapping[str, str]) -> Decimal | None:
        if self.format.is_usage:
            return ZERO
        if not texts["amount"]:
            return None
        amount = parse_number(texts["amount"], self._decimal_mark)
        if self.format.negative:
            amount = subtract(ZERO, amount)
        if self.format.minor_units:
            return from_minor_units(amount, self._currency(texts))
        return amount

    def _currency(self, texts: Mapping[str, str]) -> str:
        if self.format.is_usage:
            return ""
        found = texts.get("currency") or self.format.currency or self.currency or ""
        if not found:
            raise ValueError("it has no currency; pass --currency, such as USD")
        if not _CURRENCY.fullmatch(found):
            raise ValueError(f"{found!r} is no currency such as USD")
        return found.upper()

    def _unit(self, text: str) -> str:
        """Return the unit in outlay's words, or '' for one that it does not know."""
        folded = text.casefold()
        exact, ends = self._units
        if folded in exact:
            return exact[folded]
        for end, unit in ends:
            if folded.endswith(end):
                return unit
        return folded if folded in KNOWN_UNITS else ""

    def _quantities(
        self, texts: Mapping[str, str], values: Mapping[str, str], unit: str
    ) -> dict[str, Decimal]:
        found: dict[str, Decimal] = {}
        for column, name in self.format.quantities.items():
            if values.get(column):
                quantity = parse_number(values[column], ".")
                found[name] = add(found.get(name, ZERO), quantity)
        if self.format.is_usage:
            return _without_cached(self.format, found)
        if unit and texts.get("quantity"):
            found[unit] = parse_number(texts["quantity"], self._decimal_mark)
        return found

    # -- times

    def _day(self, texts: Mapping[str, str]) -> str:
        start = self._moment(texts["time"])
        end = self._moment(texts["end"]) if texts.get("end") else None
        if (
            end is not None
            and end - start > _OVER_A_DAY
            and self.format.period == "day"
        ):
            raise ValueError(
                f"it covers {(end - start).days} days; pass --period month to compare "
                "months, or ask the provider for a bill by the day"
            )
        day = start.date().isoformat()
        return day[:7] if self.format.period == "month" else day

    def _moment(self, text: str) -> datetime:
        """Return a time in the bill's time zone."""
        if _SECONDS.fullmatch(text):
            return datetime.fromtimestamp(int(text), UTC).astimezone(self._zone)
        if self.format.time_format is not None:
            moment = datetime.strptime(text, self.format.time_format)  # noqa: DTZ007
        elif _DATE.match(text):
            moment = datetime.fromisoformat(text.removesuffix(" UTC"))
            if text.endswith(" UTC"):
                moment = moment.replace(tzinfo=UTC)
        else:
            raise ValueError(
                f"{text!r} is no date such as 2026-10-31; name its form in the "
                'mapping, such as time_format = "%m/%d/%Y"'
            )
        if moment.year not in _YEARS:
            raise ValueError(f"{text!r} is in the year {moment.year}")
        if moment.tzinfo is None:
            return moment.replace(tzinfo=self._zone)
        return moment.astimezone(self._zone)


def open_bill(
    name: str,
    open_file: Callable[[], BinaryIO],
    options: BillOptions,
    mapping: BillFormat | None = None,
) -> Bill:
    """Return a bill, whose format is found out from its columns or given.

    Args:
        name: The name of the file, for messages.
        open_file: A function that opens the file for reading, from its start.
        options: The caller's options for the bill.
        mapping: The format. If None, it is one of those that outlay knows.

    Raises:
        BillError: The file has no known format, or lacks a column.
        TableError: The file cannot be read as a table.
    """
    if _is_json(name, open_file):
        source: _Source
        encoding = "utf-8-sig" if mapping is None else mapping.encoding
        documents = read_documents(open_file, name, encoding)
        lists = _lists(documents, mapping, options, name)
        source = _JsonSource(documents, lists)
        is_json = True
    else:
        encoding = "utf-8-sig" if mapping is None else mapping.encoding
        source = _CsvSource(CsvTable(name, open_file, encoding))
        is_json = False
    names = source.names()
    if mapping is None:
        mapping = choose_format(options.provider, names, is_json=is_json, file=name)
    found = options.apply(mapping)
    missing = found.missing_columns(names)
    if missing:
        raise BillError(
            f"{name} has no column {', '.join(map(repr, missing))}; its columns are "
            f"{', '.join(names) or 'none'}"
        )
    found.zone()
    return Bill(name, found, source, options.currency)


def parse_number(text: str, mark: str) -> Decimal:
    """Return the number of a text, also in the notation 1.5e-05 of programs.

    Raises:
        ValueError: The text is no number, or one that is no amount of anything.
    """
    digits, e, exponent = text.casefold().partition("e")
    if e and re.fullmatch(r"[+-]?\d{1,3}", exponent, re.ASCII):
        number = parse_amount(digits, mark).scaleb(int(exponent), _WIDE)
    else:
        number = parse_amount(text.removeprefix("$"), mark)
    if abs(number.adjusted()) > _MAX_EXPONENT or len(text) > _MAX_DIGITS:
        raise ValueError(f"{text[:_MAX_DIGITS]!r} is too large or too small")
    return number


def _without_cached(
    found_format: BillFormat, quantities: dict[str, Decimal]
) -> dict[str, Decimal]:
    """Take the cached part out of a count of input that includes it."""
    read = quantities.get("cache_read_tokens")
    if read and found_format.input_includes_cached:
        whole = quantities.get("input_tokens", ZERO)
        quantities["input_tokens"] = add(whole, read.copy_negate())
    return {unit: quantity for unit, quantity in quantities.items() if quantity}


def _is_json(name: str, open_file: Callable[[], BinaryIO]) -> bool:
    try:
        with open_file() as file:
            start = file.read(_PEEKED)
    except OSError as error:
        raise BillError(f"cannot read {name} ({error.strerror})") from error
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}


def _lists(
    documents: list[Any], mapping: BillFormat | None, options: BillOptions, name: str
) -> tuple[str, ...]:
    if mapping is not None:
        return mapping.lists
    lists = ("data", "results|result")  # of all reports that outlay knows
    if not has_lists(documents, lists):
        raise BillError(
            f"{name} is JSON without a list 'data', which reports of "
            f"{options.provider or 'OpenAI and Anthropic'} have; name the lists in "
            f"a mapping ({MAPPING})"
        )
    return lists


class _CsvSource:
    """A CSV file as a source of rows."""

    def __init__(self, table: CsvTable) -> None:
        self._table = table
        self._names = table.names()

    def names(self) -> list[str]:
        return self._names

    def rows(self) -> Iterator[_Row]:
        places = {name: place for place, name in enumerate(self._names)}
        for row in self._table.rows(places):
            yield _Row(row.line, row.values)

    def decimal_mark(self, place: Place) -> str:
        column = next(name for name in place.names if name in self._names)
        return self._table.decimal_mark(self._names.index(column))


class _JsonSource:
    """JSON documents as a source of rows. The number of a row stands for its line."""

    def __init__(self, documents: list[Any], lists: tuple[str, ...]) -> None:
        self._documents = documents
        self._lists = lists

    def names(self) -> list[str]:
        return column_names(self._documents, self._lists)

    def rows(self) -> Iterator[_Row]:
        for number, values in enumerate(rows_of(self._documents, self._lists), 1):
            yield _Row(number, values)

    def decimal_mark(self, place: Place) -> str:  # noqa: ARG002 - JSON has one mark
        return "."
