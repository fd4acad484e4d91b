"""The layout of charts, from exact decimals."""

from __future__ import annotations

from decimal import Decimal

import pytest

from outlay.server._dashboard.charts import (
    PLOT_HEIGHT,
    Bucket,
    Part,
    bar_width,
    sparkline,
    stacked_chart,
)
from outlay.server._dashboard.colors import HUES, color_classes


def bucket(*values: str, pale: bool = False) -> Bucket:
    """Return a bucket with these amounts."""
    parts = [Part(f"k{at}", Decimal(value)) for at, value in enumerate(values)]
    return Bucket("1", "the first", "/", parts, pale)


def test_a_column_is_stacked_without_gaps_and_overlaps() -> None:
    """Each box begins where the one below ends."""
    [column] = stacked_chart([bucket("30", "50", "20")]).columns
    tops = [Decimal(box.y) for box in column.boxes]
    heights = [Decimal(box.height) for box in column.boxes]
    bottom = tops[0] + heights[0]
    assert tops[0] == tops[1] + heights[1]
    assert tops[1] == tops[2] + heights[2]
    assert bottom - tops[2] == PLOT_HEIGHT  # the axis ends at 100
    assert [height / sum(heights) for height in heights] == [
        Decimal("0.3"),
        Decimal("0.5"),
        Decimal("0.2"),
    ]


def test_credits_go_down_from_zero() -> None:
    """The axis reaches below, and zero is marked."""
    chart = stacked_chart([bucket("100", "-50")])
    cost, credit = chart.columns[0].boxes
    [zero] = [tick for tick in chart.ticks if tick.is_zero]
    assert Decimal(cost.y) + Decimal(cost.height) == Decimal(zero.y)
    assert credit.y == zero.y
    assert chart.ticks[0].label == "−50"


def test_a_bucket_without_events_has_no_box() -> None:
    """A gap is not a zero."""
    chart = stacked_chart([bucket("1"), bucket(), bucket("2")])
    assert [len(column.boxes) for column in chart.columns] == [1, 0, 1]


@pytest.mark.parametrize(
    ("largest", "labels"),
    [
        ("1", ["0", "0.25", "0.5", "0.75", "1"]),
        ("9", ["0", "2.5", "5", "7.5", "10"]),
        ("4200", ["0", "2,000", "4,000", "6,000"]),
        ("0.00037", ["0", "0.0001", "0.0002", "0.0003", "0.0004"]),
        ("123456789.5", ["0", "50,000,000", "100,000,000", "150,000,000"]),
    ],
)
def test_the_axis_has_round_numbers(largest: str, labels: list[str]) -> None:
    """A reader can estimate with them."""
    ticks = stacked_chart([bucket(largest)]).ticks
    assert [tick.label for tick in ticks] == labels


def test_many_buckets_have_few_labels() -> None:
    """They fit on a phone."""
    chart = stacked_chart([bucket("1")] * 100)
    assert len(chart.columns) == 100
    assert len(chart.labels) <= 7


def test_a_chart_of_zeros_has_an_axis() -> None:
    """An empty axis would divide by zero."""
    assert stacked_chart([bucket("0")]).ticks[-1].label == "1"
    assert stacked_chart([]).columns == []


def test_a_sparkline_has_gaps_and_a_pale_end() -> None:
    """None is a gap, and the last bucket may not be over."""
    values = [Decimal(1), Decimal(2), None, Decimal(3), Decimal(1), None]
    line = sparkline(values, unfinished=True)
    assert line.line.count("M") == 2
    assert line.pale.startswith("M")
    assert line.area.count("Z") == 1
    finished = sparkline(values, unfinished=False)
    assert finished.pale == ""
    assert finished.area.count("Z") == 2


def test_a_sparkline_of_nothing_is_nothing() -> None:
    """And a single value is a dot."""
    assert sparkline([None, None], unfinished=True).line == ""
    assert sparkline([Decimal(0)], unfinished=True).line.endswith("h.01")


def test_bars_are_relative_to_the_largest() -> None:
    """Credits have no bar."""
    assert bar_width(Decimal(1), Decimal(4)) == "25%"
    assert bar_width(Decimal(-1), Decimal(4)) == "0%"
    assert bar_width(Decimal(0), Decimal(0)) == "0%"


def test_a_name_keeps_its_colour() -> None:
    """Whatever other names a chart has, unless two of them clash."""
    alone = color_classes(["anthropic"])["anthropic"]
    together = color_classes(["anthropic", "openai", "aws"])
    assert together["anthropic"] == alone
    assert len(set(together.values())) == 3
    many = color_classes(str(at) for at in range(3 * HUES))
    assert len(set(many.values())) == HUES
