"""Split exact decimals into integers that a database can add and compare.

A sum is four integers, each of which counts another power of 10^9. A database adds
them exactly in 64 bits: 9 × 10^9 numbers cannot overflow. Numbers outside the range of
the parts are rare, and are stored as text.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, TypeAlias

from outlay.server._metering.decimals import LIMIT_EXPONENT, scale

Parts: TypeAlias = tuple[int, int, int, int]
"""A number in units of 10^9, 1, 10^-9 and 10^-18. Only the first can be negative."""

NO_PARTS: Final[Parts] = (0, 0, 0, 0)

_BASE: Final = 10**9
_PLACES: Final = 18

_NEGATIVE, _ZERO, _POSITIVE = b"\x00", b"\x01", b"\x02"
_INVERTED: Final = bytes(255 - byte for byte in range(256))


def split(number: Decimal) -> Parts | None:
    """Return the parts of ``number``, or None if it is outside of their range.

    The range is every multiple of 10^-18 with an absolute value below 10^18.
    """
    scaled = scale(number, _PLACES)
    units = int(scaled)
    if units != scaled:
        return None
    units, atto = divmod(units, _BASE)
    units, nano = divmod(units, _BASE)
    giga, ones = divmod(units, _BASE)
    return (giga, ones, nano, atto) if -_BASE <= giga < _BASE else None


def join(giga: int, ones: int, nano: int, atto: int) -> Decimal:
    """Return the number of its parts, or the sum of several numbers of their sums."""
    units = ((giga * _BASE + ones) * _BASE + nano) * _BASE + atto
    return scale(Decimal(units), -_PLACES)


def sort_key(number: Decimal) -> bytes:
    """Return bytes that compare as countable numbers do. Equal numbers are equal."""
    if not number:
        return _ZERO
    digits = "".join(map(str, number.as_tuple().digits)).lstrip("0").rstrip("0")
    magnitude = (number.adjusted() + 2 * LIMIT_EXPONENT).to_bytes(2, "big")
    key = magnitude + digits.encode()
    if number > 0:
        return _POSITIVE + key
    # The last byte sorts a number behind those that continue its digits.
    return _NEGATIVE + key.translate(_INVERTED) + b"\xff"
