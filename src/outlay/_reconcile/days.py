"""Find out whether a bill counts its days in another time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._reconcile.cells import Key
from outlay._reconcile.values import ZERO, add, multiply, subtract, total

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay._reconcile.cells import Cell

_OFFSETS: Final = range(-12, 15)  # hours; zones with halves of an hour are rare
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MUCH: Final = 2  # the factor by which another time zone must be better


class OtherDays(NamedTuple):
    """The days of another time zone, with which bill and costs agree better.

    Attributes:
        name: The offset or offsets, such as ``UTC-08:00 to UTC-06:00``.
        difference: The sum of the differences with these days.
        present: The sum of the differences with the present ones.
        keys: The keys whose difference the other days explain.
    """

    name: str
    difference: Decimal
    present: Decimal
    keys: frozenset[Key]


def find_other_days(
    differing: Mapping[Key, Cell],
    cells: Mapping[Key, Cell],
    hours: Mapping[tuple[str, str], Mapping[int, Decimal]],
    ends: tuple[str, str],
    step: Decimal,
) -> OtherDays | None:
    """Return the days with which the costs agree much better, if there are any.

    Args:
        differing: The cells whose bill and costs differ.
        cells: All cells.
        hours: The costs by model and kind, and by the hour since 1970 in UTC.
        ends: The first and the last day that count.
        step: The smallest unit of the bill's amounts.
    """
    if len(differing) <= 1:
        return None
    present = total(
        subtract(cell.bill, cell.ours).copy_abs() for cell in differing.values()
    )
    best: OtherDays | None = None
    fitting: list[int] = []
    for offset in _OFFSETS:
        sums = _by_day(hours, offset, ends)
        differences = {
            place: subtract(
                cells[place].bill if place in cells else ZERO, sums.get(place, ZERO)
            )
            for place in {*cells, *sums}
        }
        difference = total(one.copy_abs() for one in differences.values())
        if best is None or difference < best.difference:
            explained = frozenset(
                key
                for key, cell in differing.items()
                if differences[key].copy_abs()
                <= multiply(step, Decimal(max(cell.charges, 1)))
            )
            best = OtherDays("", difference, present, explained)
            fitting = [offset]
        elif difference == best.difference:
            fitting.append(offset)
    if best is None or multiply(best.difference, Decimal(_MUCH)) > present:
        return None
    return best._replace(name=_names(fitting)) if best.keys else None


def _by_day(
    hours: Mapping[tuple[str, str], Mapping[int, Decimal]],
    offset: int,
    ends: tuple[str, str],
) -> dict[Key, Decimal]:
    """Return the costs by day, model and kind, in a zone with this offset."""
    sums: dict[Key, Decimal] = {}
    for (model, kind), amounts in hours.items():
        for hour, amount in amounts.items():
            local = _EPOCH + timedelta(hours=hour + offset)
            day = local.date().isoformat()
            if ends[0] <= day <= ends[1]:
                key = Key(day, model, kind)
                sums[key] = add(sums.get(key, ZERO), amount)
    return sums


def _names(offsets: Sequence[int]) -> str:
    """Return the name of the offsets, of which several may fit equally well."""
    first, last = _name(offsets[0]), _name(offsets[-1])
    return first if first == last else f"{first} to {last}"


def _name(offset: int) -> str:
    return f"UTC{'-' if offset < 0 else '+'}{abs(offset):02}:00"
