"""The formats of bills: which column means what.

Users add formats of their own in TOML. The formats that outlay knows are in
``bill_formats.toml``, each with its source.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from outlay._reconcile.values import BillError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_FILE: Final = "bill_formats.toml"
_SHOWN: Final = 30  # columns in a message
MAPPING: Final = "--mapping FILE, or the field Mapping of the page"
"""The way to pass a mapping, for messages of both user interfaces."""


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a column's text.

    Attributes:
        column: The name of the column, or several that are joined by ``|``. Of these,
            the first one that is not empty counts.
        before: A text. Only the part before its first occurrence counts.
        after: A text. Only the part after its first occurrence counts.
    """

    column: str
    before: str | None = None
    after: str | None = None

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return self.column.split("|")

    def read(self, values: Mapping[str, str]) -> str:
        """Return the part that counts of a row's texts by column."""
        text = values.get(self.column)  # mostly one column, which is the fast way
        if text is None:
            text = next(filter(None, map(values.get, self.names)), "")
        if self.after is not None:
            text = text.partition(self.after)[2]
        if self.before is not None:
            text = text.partition(self.before)[0]
        return text.strip()


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The columns of a bill. A name alone stands for the whole text of a column.

    Attributes:
        time: The start of the charge: a date, a time, or seconds since 1970.
        amount: The amount of money. Only a usage report has none.
        currency: The currency.
        end: The end of the charge, which itself does not count.
        model: The model.
        service: The service, where bills name services and not models.
        unit: The unit, in the bill's words.
        quantity: The quantity in that unit.
        operation: The provider's id of the operation.
        description: The text that describes a charge.
    """

    time: Place | str
    amount: Place | str | None = None
    currency: Place | str | None = None
    end: Place | str | None = None
    model: Place | str | None = None
    service: Place | str | None = None
    unit: Place | str | None = None
    quantity: Place | str | None = None
    operation: Place | str | None = None
    description: Place | str | None = None

    def places(self) -> dict[str, Place]:
        """Return the place of each field that the bill has."""
        found: dict[str, Place] = {}
        for field in self.__struct_fields__:
            place = getattr(self, field)
            if place is not None:
                found[field] = Place(place) if isinstance(place, str) else place
        return found


class BillFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The format of a bill or of a usage report.

    Attributes:
        columns: The columns.
        name: The name of the format, for messages.
        provider: The provider, by the name that events have.
        source: The page that describes the format, with the day on which it was read.
        lists: The names of the nested lists of a JSON document, outermost first.
            Empty for CSV.
        quantities: The columns of a usage report that are quantities, with their units.
        timezone: The IANA time zone of days and of times without an offset.
        period: The length of time that charges of one key are compared over.
        currency: The currency, if no column has it.
        decimal: The decimal mark. If None, the amounts decide.
        encoding: The encoding of the text.
        minor_units: Whether amounts are in the smallest unit, such as cents.
        negative: Whether charges are below zero and credits above, as in balances.
        time_format: The form of times, as in ``strptime``. If None, ISO 8601.
        units: outlay's units, by the bill's text. A text that begins with ``*`` stands
            for all that end like it.
        models: The names of models in events, by the bill's text.
        services: The event types of each service, by the bill's text.
        where: The allowed values of columns. Other charges are left out.
        optional: The fields of ``columns`` that a file may lack.
        input_includes_cached: Whether a usage report counts cached tokens as input
            tokens, too.
    """

    columns: Columns
    name: str = "your mapping"
    provider: str = ""
    source: str = ""
    lists: tuple[str, ...] = ()
    quantities: dict[str, str] = {}
    timezone: str = "UTC"
    period: Literal["day", "month"] = "day"
    currency: str | None = None
    decimal: Literal[".", ","] | None = None
    encoding: str = "utf-8-sig"
    minor_units: bool = False
    negative: bool = False
    time_format: str | None = None
    units: dict[str, str] = {}
    models: dict[str, str] = {}
    services: dict[str, tuple[str, ...]] = {}
    where: dict[str, tuple[str, ...]] = {}
    optional: tuple[str, ...] = ()
    input_includes_cached: bool = False

    @property
    def is_usage(self) -> bool:
        """Whether it has quantities only, and no amounts."""
        return self.columns.amount is None

    def zone(self) -> ZoneInfo:
        """Return the time zone of the bill.

        Raises:
            BillError: There is no such time zone.
        """
        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise BillError(
                f"{self.timezone!r} is no time zone; name one of the IANA database, "
                "such as UTC or America/Los_Angeles"
            ) from None

    def missing_columns(self, names: Collection[str]) -> list[str]:
        """Return the columns that the format needs, and that are not in ``names``."""
        needed = [*self.quantities, *self.where]
        missing = [name for name in needed if name not in names]
        for field, place in self.columns.places().items():
            if field not in self.optional and not {*place.names} & {*names}:
                missing.append(place.column)
        return missing

    def fields_in(self, names: Collection[str]) -> int:
        """Return the number of fields that a file with these columns has."""
        places = self.columns.places().values()
        return len({*self.quantities} & {*names}) + sum(
            bool({*place.names} & {*names}) for place in places
        )


class _FormatFile(msgspec.Struct, forbid_unknown_fields=True):
    format: list[BillFormat]


@cache
def known_formats() -> tuple[BillFormat, ...]:
    """Return the formats that outlay knows."""
    text = (files(__package__) / _FILE).read_text(encoding="utf-8")
    return tuple(msgspec.convert(tomllib.loads(text), _FormatFile).format)


def read_mapping(text: str, name: str) -> BillFormat:
    """Return the format that a user describes.

    Args:
        text: The TOML document.
        name: The name of the file, for messages.

    Raises:
        BillError: The text is no such document. The message names the field.
    """
    try:
        found = msgspec.convert(tomllib.loads(text), BillFormat)
    except tomllib.TOMLDecodeError as error:
        raise BillError(f"{name} is no TOML file ({error})") from None
    except msgspec.ValidationError as error:
        raise BillError(
            f"{name}: {error}; docs/how-to/reconcile.md lists the fields of a mapping"
        ) from None
    if found.is_usage and not found.quantities:
        raise BillError(
            f'{name} names no column for amount; add amount = "COLUMN" to [columns]'
        )
    found.zone()
    _check_encoding(found.encoding, name)
    return found if found.name != BillFormat.name else _named(found, name)


def choose_format(
    provider: str | None, names: Sequence[str], *, is_json: bool, file: str
) -> BillFormat:
    """Return the known format of a file.

    Args:
        provider: The provider, if the caller names it.
        names: The names of the file's columns.
        is_json: Whether the file is JSON.
        file: The name of the file, for messages.

    Raises:
        BillError: The file has no known format. The message names what it lacks.
    """
    candidates = [one for one in known_formats() if bool(one.lists) is is_json]
    if provider is not None:
        names_of = {provider.casefold(), ""}
        own = [one for one in candidates if one.provider in names_of]
        candidates = own or candidates
    fitting = [one for one in candidates if not one.missing_columns(names)]
    if fitting:
        return max(fitting, key=lambda one: one.fields_in(names))
    shown = ", ".join(names[:_SHOWN]) or "no columns"
    if not candidates:
        raise BillError(
            f"{file}: outlay knows no bill of {provider} in JSON; convert it to CSV, "
            f"and name its columns in a mapping ({MAPPING})"
        )
    nearest = max(candidates, key=lambda one: _likeness(one, names))
    missing = ", ".join(nearest.missing_columns(names))
    raise BillError(
        f"{file} is no bill that outlay knows. {nearest.name} needs {missing}; the "
        f"file has {shown}. Name its columns in a mapping ({MAPPING})"
    )


def _check_encoding(encoding: str, name: str) -> None:
    """Refuse an encoding that is none of text.

    Raises:
        BillError: There is no such encoding.
    """
    try:
        "a".encode(encoding)
    except (LookupError, ValueError):
        raise BillError(
            f"{name}: {encoding!r} is no encoding of text; name one such as utf-8 or "
            "cp1252"
        ) from None


def _likeness(candidate: BillFormat, names: Sequence[str]) -> tuple[int, bool, int]:
    missing = len(candidate.missing_columns(names))
    return candidate.fields_in(names), not candidate.is_usage, -missing


def _named(found: BillFormat, name: str) -> BillFormat:
    return msgspec.structs.replace(found, name=name)
