"""Files of revenue: all errors by line, and memory that does not grow."""

from __future__ import annotations

import io
import tracemalloc

import pytest

from outlay._tables.csv_table import CsvTable, TableError
from outlay._tables.revenue_file import RevenueFile, RevenueOptions

NAMES = "customer,invoice,amount\n"
OPTIONS = RevenueOptions(currency="USD", month="2026-10")


def revenue_file(text: str) -> RevenueFile:
    """Return a file with this text."""
    content = text.encode()
    return RevenueFile(CsvTable("file.csv", lambda: io.BytesIO(content)), OPTIONS)


def test_a_check_finds_each_wrong_line() -> None:
    """So a person corrects them together, not one in each try."""
    text = NAMES + "cus_1,in_1,5\n,in_2,5\ncus_3,in_3,five\ncus_4,in_1,5\ncus_5,,1.5\n"
    checked = revenue_file(text).check(10)

    assert [error.line for error in checked.errors] == [3, 4, 5]
    assert "it has no customer" in str(checked.errors[0])
    assert "'five' is no amount" in str(checked.errors[1])
    assert "the same key as line 2" in str(checked.errors[2])
    assert (checked.lines, str(checked.totals["USD"])) == (2, "6.5")


def test_a_check_ends_after_the_most_errors() -> None:
    """A file with the wrong delimiter would have one in every line."""
    checked = revenue_file(NAMES + ",in_1,5\n" * 100).check(7)

    assert len(checked.errors) == 7


def test_ten_times_the_lines_need_no_more_memory() -> None:
    """A million lines are checked in the memory of a few."""

    def peak(lines: int) -> int:
        text = NAMES + "".join(f"cus_1,in_{n},1.5\n" for n in range(lines))
        file = revenue_file(text)
        file.check()  # so that caches are filled
        tracemalloc.start()
        try:
            assert file.check().lines == lines
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Other threads of the process can only add to a peak.
    least = [min(peak(lines) for _ in range(3)) for lines in (1_000, 10_000)]
    assert least[1] < 2 * least[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04\x14\x00\x08\x00\xc4\xff", "an Excel workbook or a ZIP file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
        (b"\x1f\x8b\x08\x00", "compressed with gzip; unpack it"),
        (b"customer,amount\ncus_\xe9,1\n", "is not UTF-8; pass its encoding"),
        ("customer,amount\n".encode("utf-16-le"), "is not UTF-8; pass its encoding"),
    ],
    ids=["xlsx", "xls", "gzip", "cp1252", "utf-16"],
)
def test_a_file_that_is_no_text_is_named(content: bytes, words: str) -> None:
    """A person often chooses the workbook instead of its CSV."""
    file = RevenueFile(
        CsvTable("r.xlsx", lambda: io.BytesIO(content)), RevenueOptions()
    )

    with pytest.raises(TableError) as raised:
        file.check()
    assert words in str(raised.value)
    assert "\0" not in str(raised.value)
