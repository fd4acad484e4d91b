"""Files of revenue: all errors by line, and memory that does not grow."""

from __future__ import annotations

import io
import tracemalloc

from outlay._tables.csv_table import CsvTable
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

    assert peak(10_000) < 2 * peak(1_000)
