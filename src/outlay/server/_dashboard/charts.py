"""Lay out charts as plain coordinates, which the templates write as inline SVG.

Widths are percentages, so that a chart stretches and its text keeps its size. Heights
are pixels. Amounts are exact decimals. Only their places in a chart are floats, because
a page has thousands of them.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._dashboard.amounts import count
from outlay.server._metering.decimals import ZERO, add, divide, exact_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

PLOT_HEIGHT: Final = 196
_TOP: Final = 8  # room above the highest bar, for half a line of text
LABEL_HEIGHT: Final = 24
_TICKS: Final = 4
_STEPS: Final = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))
_GAP: Final = 0.16  # the share of a column that stays free on each side
_WIDEST_GAP: Final = 0.9  # percent of the plot
_CHAR_PIXELS: Final = 7  # the width of a digit at the size of the labels
_LABELS: Final = 7  # that fit beside each other on a phone

SPARK_WIDTH: Final = 200
SPARK_HEIGHT: Final = 34
_SPARK_PAD: Final = 3


class Part(NamedTuple):
    """One group's amount in one bucket.

    Attributes:
        css: The class of the group's colour.
        value: The amount.
    """

    css: str
    value: Decimal


class Bucket(NamedTuple):
    """One bucket of time in a chart.

    Attributes:
        label: The bucket's name on the axis, such as ``12``.
        words: The accessible name of the column.
        href: The page of this bucket.
        parts: The amounts, from the axis outwards. Empty for a bucket without data.
        pale: Whether the bucket is not over yet.
    """

    label: str
    words: str
    href: str
    parts: Sequence[Part]
    pale: bool = False


class Box(NamedTuple):
    """One rectangle: ``x`` and ``width`` in percent, ``y`` and ``height`` in pixels."""

    css: str
    x: str
    width: str
    y: str
    height: str


class Column(NamedTuple):
    """One bucket, laid out. ``hit`` is its whole area, which reacts to a pointer."""

    bucket: Bucket
    hit: Box
    boxes: Sequence[Box]


class Tick(NamedTuple):
    """One line of the grid."""

    y: str
    label: str
    is_zero: bool


class AxisLabel(NamedTuple):
    """One label below the plot."""

    x: str
    text: str


class StackedChart(NamedTuple):
    """A chart of stacked columns, laid out."""

    columns: Sequence[Column]
    ticks: Sequence[Tick]
    labels: Sequence[AxisLabel]
    axis_width: int
    height: str
    label_y: str


class Sparkline(NamedTuple):
    """The paths of a sparkline. ``pale`` leads to the bucket that is not over yet."""

    line: str
    pale: str
    area: str


def stacked_chart(buckets: Sequence[Bucket]) -> StackedChart:
    """Return the layout of ``buckets``, stacked upwards, and credits downwards."""
    tops = [
        exact_sum(part.value for part in one.parts if part.value > 0) for one in buckets
    ]
    lows = [
        exact_sum(part.value for part in one.parts if part.value < 0) for one in buckets
    ]
    step = _nice_step(max(tops, default=ZERO) - min(lows, default=ZERO))
    first = (min([ZERO, *lows]) / step).to_integral_value(ROUND_FLOOR)
    last = (max([ZERO, *tops]) / step).to_integral_value(ROUND_CEILING)
    last = max(last, first + 1)
    scale = _Scale(first * step, last * step)
    ticks = [
        Tick(scale.y(step * index), count(step * index), index == 0)
        for index in range(int(first), int(last) + 1)
    ]
    share = 100 / max(len(buckets), 1)
    columns = [
        _column(bucket, share * index, share, scale)
        for index, bucket in enumerate(buckets)
    ]
    every = max(1, -(-len(buckets) // _LABELS))
    labels = [
        AxisLabel(_percent(share * index + share / 2), bucket.label)
        for index, bucket in enumerate(buckets)
        if index % every == 0
    ]
    widest = max(len(tick.label) for tick in ticks)
    return StackedChart(
        columns,
        ticks,
        labels,
        widest * _CHAR_PIXELS + 10,
        str(_TOP + PLOT_HEIGHT + LABEL_HEIGHT),
        str(_TOP + PLOT_HEIGHT + 18),
    )


class _Scale:
    """Maps amounts to pixels from the top."""

    def __init__(self, low: Decimal, high: Decimal) -> None:
        self._high = float(high)
        self._pixels = PLOT_HEIGHT / float(high - low)

    def pixel(self, value: Decimal) -> float:
        return _TOP + (self._high - float(value)) * self._pixels

    def y(self, value: Decimal) -> str:
        return _pixels(self.pixel(value))


def _column(bucket: Bucket, x: float, width: float, scale: _Scale) -> Column:
    gap = min(width * _GAP, _WIDEST_GAP)
    left, breadth = _percent(x + gap), _percent(width - 2 * gap)
    boxes = []
    above = below = ZERO
    for part in bucket.parts:
        if part.value >= 0:
            start, end = above, add(above, part.value)
            above = end
        else:
            end, start = below, add(below, part.value)
            below = start
        top, bottom = scale.pixel(end), scale.pixel(start)
        boxes.append(Box(part.css, left, breadth, _pixels(top), _pixels(bottom - top)))
    hit = Box("hit", _percent(x), _percent(width), str(_TOP), str(PLOT_HEIGHT))
    return Column(bucket, hit, boxes)


def sparkline(values: Sequence[Decimal | None], *, unfinished: bool) -> Sparkline:
    """Return the paths of ``values``. None is a gap in the line.

    Args:
        values: The values, oldest first. Values after the last known one are left out.
        unfinished: Whether the last known bucket is not over yet.
    """
    heights = [None if value is None else float(value) for value in values]
    known = [height for height in heights if height is not None]
    if not known:
        return Sparkline("", "", "")
    low, high = min(0.0, *known), max(0.0, *known)
    scale = (SPARK_HEIGHT - 2 * _SPARK_PAD) / (high - low or 1.0)
    zero = _SPARK_PAD + high * scale
    points = [
        None if height is None else f"{x} {_short(zero - height * scale)}"
        for x, height in zip(_spark_places(len(values)), heights, strict=True)
    ]
    last = max(index for index, point in enumerate(points) if point is not None)
    end = last if unfinished and last else last + 1
    pale = ""
    if end == last and points[last - 1] is not None:
        pale = _line([points[last - 1], points[last]])
    return Sparkline(_line(points[:end]), pale, _areas(points[:end], _short(zero)))


@lru_cache(maxsize=8)
def _spark_places(number: int) -> list[str]:
    """Return the places of a sparkline's values, from left to right."""
    step = (SPARK_WIDTH - 4) / max(number - 1, 1)
    return [_short(2 + step * index) for index in range(number)]


def _line(points: Sequence[str | None]) -> str:
    """Return a path through ``points``. A point without neighbours is a short dash."""
    return "".join(
        f"M{run[0]}h.01" if len(run) == 1 else "M" + "L".join(run)
        for run in _runs(points)
    )


def _areas(points: Sequence[str | None], floor: str) -> str:
    return "".join(
        f"M{_place(run[0])} {floor}L{'L'.join(run)}L{_place(run[-1])} {floor}Z"
        for run in _runs(points)
        if len(run) > 1
    )


def _place(point: str) -> str:
    x, _, _ = point.partition(" ")
    return x


def _runs(points: Sequence[str | None]) -> list[list[str]]:
    """Return the points between gaps, each as ``x y``."""
    runs: list[list[str]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def bar_width(value: Decimal, largest: Decimal) -> str:
    """Return the width of a bar in percent of the bar of ``largest``."""
    if largest <= 0 or value <= 0:
        return "0%"
    return _percent(100 * float(value) / float(largest))


def _nice_step(spread: Decimal) -> Decimal:
    if not spread:
        return Decimal(1)
    rough = divide(spread, Decimal(_TICKS))
    magnitude = Decimal(1).scaleb(rough.adjusted())
    return next(step * magnitude for step in _STEPS if step * magnitude >= rough)


def _percent(value: float) -> str:
    return f"{_short(value)}%"


def _pixels(value: float) -> str:
    return f"{value:.2f}"


def _short(value: float) -> str:
    """Return a coordinate to the hundredth, without zeros at its end."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
