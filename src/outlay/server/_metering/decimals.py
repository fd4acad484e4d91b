"""Exact decimal arithmetic of the server.

It is written apart from the client's, so that the server checks the client with
arithmetic of its own.
"""

from __future__ import annotations

import re
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)
from functools import reduce
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT_EXPONENT: Final = 100
"""A number counts if it is 0, or a multiple of 1e-100 below 1e101. This is far beyond
any currency, and small enough that no single event can make a sum slow."""

# The largest exact result is a sum of 10^18 numbers times a unit cost: 219 digits times
# 201. Inexact is trapped, so a result is exact or an error.
_EXACT: Final = Context(
    prec=500,
    Emax=MAX_EMAX,
    Emin=MIN_EMIN,
    traps=[Inexact, InvalidOperation, Overflow],
)

# An average can have infinitely many digits. 34 is the precision of IEEE 754
# decimal128.
_DIVIDING: Final = Context(
    prec=34, rounding=ROUND_HALF_EVEN, traps=[DivisionByZero, InvalidOperation]
)

# The quotient of two exact results can have as many digits before its point.
_ROUNDING: Final = Context(
    prec=500,
    Emax=MAX_EMAX,
    Emin=MIN_EMIN,
    rounding=ROUND_HALF_UP,
    traps=[DivisionByZero, InvalidOperation],
)
_HUNDRED: Final = Decimal(100)
_HUNDREDTH: Final = Decimal("0.01")
_TRILLIONTH: Final = Decimal("1e-12")

ZERO: Final = Decimal(0)

MAX_CHARS: Final = 400
"""The longest literal that counts: twice the length that `LIMIT_EXPONENT` allows."""

_NAN: Final = Decimal("NaN")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")

add: Final = _EXACT.add
multiply: Final = _EXACT.multiply
divide: Final = _DIVIDING.divide
scale: Final = _EXACT.scaleb


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of amounts."""
    return reduce(add, amounts, ZERO)


def parse_number(text: str) -> Decimal:
    """Return the number of a JSON literal, with all of its digits.

    A literal over `MAX_CHARS`, or beyond any decimal, returns NaN. `to_countable` then
    refuses it, as it refuses every absurd number.
    """
    if len(text) > MAX_CHARS:
        return _NAN
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond some 10^18
        return _NAN


def to_countable(value: object) -> Decimal | None:
    """Return the number that ``value`` adds to an aggregate, or None.

    Numbers and decimal strings count. Null, booleans, other text, containers, and
    numbers beyond `LIMIT_EXPONENT` do not.
    """
    if isinstance(value, Decimal):
        return _within_limits(value)
    if isinstance(value, str):
        return (
            _within_limits(parse_number(value)) if _DECIMAL.fullmatch(value) else None
        )
    if isinstance(value, int) and not isinstance(value, bool):
        return _within_limits(Decimal(value))
    return None


def _within_limits(number: Decimal) -> Decimal | None:
    if not number.is_finite():
        return None
    if not number:
        return ZERO
    magnitude = number.adjusted()
    if not -LIMIT_EXPONENT <= magnitude <= LIMIT_EXPONENT:
        return None
    # Most numbers are too short to reach below the limit. This check is the fastest.
    too_short = magnitude - len(str(number)) >= -LIMIT_EXPONENT
    if too_short or _exponent(number) >= -LIMIT_EXPONENT:
        return number
    # Perhaps only trailing zeros reach below the limit.
    number = number.normalize(_EXACT)
    return None if _exponent(number) < -LIMIT_EXPONENT else number


def _exponent(number: Decimal) -> int:
    return int(number.as_tuple().exponent)


def percentage(part: Decimal, whole: Decimal) -> Decimal:
    """Return ``part`` in percent of ``whole``, to the nearest hundredth, half up.

    Raises:
        decimal.DivisionByZero: ``whole`` is 0, and ``part`` is not.
        decimal.InvalidOperation: Both are 0.
    """
    share = _ROUNDING.divide(multiply(part, _HUNDRED), whole)
    return _ROUNDING.quantize(share, _HUNDREDTH)


def proportion(amount: Decimal, part: int, whole: int) -> Decimal:
    """Return ``amount`` × ``part`` ÷ ``whole``, rounded to 12 decimal places.

    Raises:
        decimal.DivisionByZero: ``whole`` is 0.
    """
    share = _ROUNDING.divide(multiply(amount, Decimal(part)), Decimal(whole))
    return _ROUNDING.quantize(share, _TRILLIONTH)


def format_money(number: Decimal) -> str:
    """Return ``number`` with two decimal places, rounded half up."""
    text = format(_ROUNDING.quantize(number, _HUNDREDTH), "f")
    return "0.00" if text == "-0.00" else text


def format_plain(number: Decimal) -> str:
    """Return ``number`` in plain notation, without exponent and trailing zeros."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text
