"""Memory grows with days and models, not with the number of charges and events."""

from __future__ import annotations

import io
import tracemalloc
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest

from outlay._reconcile.bill_formats import BillFormat, Columns
from outlay._reconcile.joining import Reconciliation
from outlay._reconcile.reading import BillOptions, open_bill
from outlay._reconcile.values import Category
from tests.support.bills import cost_of

if TYPE_CHECKING:
    from outlay._reconcile.values import Result

MAPPING = BillFormat(
    columns=Columns(
        time="day", amount="cost", currency="currency", operation="id", model="model"
    ),
    provider="openai",
    decimal=".",
)


class Lines(io.RawIOBase):
    """A file of many lines that is never in memory as a whole."""

    def __init__(self, count: int) -> None:
        self._lines = (line(number) for number in range(-1, count))
        self._rest = b""

    def readable(self) -> bool:
        """Return whether it can be read, as a file can."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read the next line, or what is left of it."""
        data = self._rest or next(self._lines, b"")
        size = min(len(buffer), len(data))
        buffer[:size], self._rest = data[:size], data[size:]
        return size


def line(number: int) -> bytes:
    """Return a line of a bill, of which every other one has an operation id."""
    if number < 0:
        return b"day,cost,currency,id,model\n"
    name = f"op-{number}" if number % 2 else ""
    return f"2026-10-{number % 7 + 1:02},0.25,USD,{name},gpt-5\n".encode()


def lines(count: int) -> BinaryIO:
    """Return a file with ``count`` charges."""
    return cast("BinaryIO", io.BufferedReader(cast("io.FileIO", Lines(count))))


def peak(count: int) -> tuple[int, Result]:
    """Return the most bytes of a reconciliation, and its result."""
    tracemalloc.start()
    try:
        bill = open_bill("bill", lambda: lines(count), BillOptions(), MAPPING)
        with Reconciliation(bill) as reconciliation:
            for number in range(count):
                day = f"2026-10-{number % 7 + 1:02}"
                identifier = f"op-{number}" if number % 2 else ""
                reconciliation.add_cost(
                    cost_of(day, "0.25", model="gpt-5", operationId=identifier)
                )
            result = reconciliation.result()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.timeout(600)  # tracing each allocation takes long on a busy machine
def test_ten_times_the_charges_need_the_same_memory() -> None:
    """A million rows are no more than a thousand, but for the disk."""
    small, _ = peak(1_000)
    large, result = peak(10_000)

    assert {row.category for row in result.rows} == {Category.MATCHED}
    assert sum(row.charges for row in result.rows) == 10_000
    assert large < small + 300_000
