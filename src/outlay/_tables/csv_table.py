"""Read the rows of a CSV file as a stream, with the number of each line.

The first line names the columns, and its delimiter counts. Each call of `rows` reads
the file once more, so a file of any size needs little memory.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from outlay._tables.amounts import decimal_mark, is_ambiguous
from outlay.errors import OutlayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_DELIMITERS: Final = (",", ";", "\t", "|")
_MARK: Final = 8  # bytes
# The first bytes of files that people take for CSV.
_OTHER_FILES: Final = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP file; save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"%PDF", "a PDF; export the lines as CSV"),
    (b"PAR1", "a Parquet file; export the lines as CSV"),
)


class TableError(OutlayError):
    """A file cannot be read as a table.

    Args:
        message: The message, with what to do.
        line: The number of the line that is wrong. None if it is the whole file.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class Row(NamedTuple):
    """A row of a file.

    Attributes:
        line: The number of its last line of text, from 1.
        values: The texts without spaces around them, by field.
    """

    line: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class Hints:
    """The remedies that messages name, in the words of one user interface."""

    encoding: str = "pass its encoding, such as --encoding cp1252"
    decimal: str = "pass --decimal . or --decimal ,"


@dataclass(frozen=True)
class CsvTable:
    """A CSV file.

    Attributes:
        name: The name of the file, for messages.
        open_file: A function that opens the file for reading, from its start.
        encoding: The encoding of the text.
        hints: The remedies that messages name.
    """

    name: str
    open_file: Callable[[], BinaryIO]
    encoding: str = "utf-8-sig"
    hints: Hints = Hints()

    def names(self) -> list[str]:
        """Return the names of the columns.

        Raises:
            TableError: The file cannot be read, or is empty.
        """
        for _, values in self._lines():
            return values
        raise TableError(f"{self.name} is empty; the first line names the columns")

    def place(self, wanted: str) -> int:
        """Return the place of the one column with the name ``wanted``.

        Raises:
            TableError: The file has no such column, or several.
        """
        names = self.names()
        if names.count(wanted) != 1:
            raise TableError(
                f"{self.name} has {names.count(wanted)} columns {wanted!r}; "
                f"its columns are {', '.join(names)}"
            )
        return names.index(wanted)

    def rows(self, places: Mapping[str, int]) -> Iterator[Row]:
        """Yield the rows below the names.

        Args:
            places: The place of each field among the columns.

        Raises:
            TableError: The file cannot be read, or a row has too many or few columns.
        """
        lines = self._lines()
        _, names = next(lines, (0, []))
        for line, values in lines:
            if len(values) != len(names):
                if not any(map(str.strip, values)):
                    continue
                raise self.error(
                    f"it has {len(values)} columns, the first line has {len(names)}; "
                    "quote values that hold the delimiter",
                    line,
                )
            texts = {field: values[place].strip() for field, place in places.items()}
            if any(texts.values()) or any(map(str.strip, values)):
                yield Row(line, texts)

    def decimal_mark(self, place: int) -> str:
        """Return the decimal mark that the amounts of a column prove.

        Raises:
            TableError: The amounts prove two marks, or may mean either.
        """
        proofs: dict[str, tuple[int, str]] = {}
        doubtful: tuple[int, str] | None = None
        for line, values in self.rows({"amount": place}):
            text = values["amount"]
            mark = decimal_mark(text)
            if mark is not None:
                proofs.setdefault(mark, (line, text))
            elif doubtful is None and is_ambiguous(text):
                doubtful = (line, text)
        if len(proofs) > 1:
            (point, with_point), (comma, with_comma) = proofs["."], proofs[","]
            raise TableError(
                f"{self.name} writes amounts in two ways: line {point} has "
                f"{with_point!r}, line {comma} has {with_comma!r}; correct one of "
                f"them, or {self.hints.decimal}"
            )
        if not proofs and doubtful is not None:
            line, text = doubtful
            raise self.error(
                f"{text!r} may mean thousands or a fraction; {self.hints.decimal}", line
            )
        return next(iter(proofs), ".")

    def error(self, message: str, line: int) -> TableError:
        """Return the error of one line."""
        return TableError(f"{self.name}, line {line}: {message}", line)

    def _not_text(self) -> TableError:
        """Return the error of a file that is no text in the encoding."""
        with self.open_file() as file:
            start = file.read(_MARK)
        for mark, kind in _OTHER_FILES:
            if start.startswith(mark):
                return TableError(f"{self.name} is {kind}")
        encoding = "UTF-8" if self.encoding == "utf-8-sig" else self.encoding
        return TableError(f"{self.name} is not {encoding}; {self.hints.encoding}")

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the names of the columns and then each row, with its line number."""
        try:
            with (
                self.open_file() as file,
                io.TextIOWrapper(file, self.encoding, newline="") as text,
            ):
                header = text.readline()
                if "\0" in header:
                    raise self._not_text()
                if not header.strip():
                    return
                delimiter = max(_DELIMITERS, key=header.count)
                [names] = csv.reader([header], delimiter=delimiter, strict=True)
                yield 1, [name.strip() for name in names]
                reader = csv.reader(text, delimiter=delimiter, strict=True)
                for values in reader:
                    if values:  # exports have blank lines at their end
                        yield reader.line_num + 1, values
        except OSError as error:
            raise TableError(f"cannot read {self.name} ({error.strerror})") from error
        except UnicodeError as error:  # UTF-16 without its mark is no decode error
            raise self._not_text() from error
        except csv.Error as error:
            raise TableError(f"{self.name} is no CSV file ({error})") from error
