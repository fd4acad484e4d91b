"""Exact arithmetic: which numbers count, how they add up, how they are written."""

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
from typing import Final

LIMIT_EXPONENT: Final = 100
"""A number counts if it is 0, or a multiple of 1e-100 below 1e101. Far beyond any
currency, and small enough that no single event can make a sum slow."""

# Largest exact result: a sum of 10^18 numbers (219 digits) times a unit cost of the
# same range (201 digits). Inexact is trapped, so a result is exact or an error.
_EXACT: Final = Context(
    prec=500,
    Emax=MAX_EMAX,
    Emin=MIN_EMIN,
    traps=[Inexact, InvalidOperation, Overflow],
)

# An average need not have a finite number of digits. 34 is the precision of
# IEEE 754 decimal128.
_DIVIDING: Final = Context(
    prec=34, rounding=ROUND_HALF_EVEN, traps=[DivisionByZero, InvalidOperation]
)

# As many digits as the quotient of two exact results can have before its point.
_ROUNDING: Final = Context(
    prec=500,
    Emax=MAX_EMAX,
    Emin=MIN_EMIN,
    rounding=ROUND_HALF_UP,
    traps=[DivisionByZero, InvalidOperation],
)
_HUNDRED: Final = Decimal(100)
_HUNDREDTH: Final = Decimal("0.01")

ZERO: Final = Decimal(0)

MAX_CHARS: Final = 400
"""Longest literal that counts: twice what `LIMIT_EXPONENT` can need."""

_NAN: Final = Decimal("NaN")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")

add: Final = _EXACT.add
multiply: Final = _EXACT.multiply
divide: Final = _DIVIDING.divide


def parse_number(text: str) -> Decimal:
    """Return the number that a JSON literal spells, with all of its digits.

    What no decimal can hold, or runs over `MAX_CHARS`, gives NaN, which `countable`
    then refuses as it refuses every absurd number.
    """
    if len(text) > MAX_CHARS:
        return _NAN
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond some 10^18
        return _NAN


def to_countable(value: object) -> Decimal | None:
    """Return the number that ``value`` adds to an aggregate, or None for none.

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
    # Mostly it is too short to reach below the limit; that is the quickest to see.
    too_short = magnitude - len(str(number)) >= -LIMIT_EXPONENT
    if too_short or _exponent(number) >= -LIMIT_EXPONENT:
        return number
    # Perhaps only trailing zeros reach so far down.
    number = number.normalize(_EXACT)
    return None if _exponent(number) < -LIMIT_EXPONENT else number


def _exponent(number: Decimal) -> int:
    return int(number.as_tuple().exponent)


def percentage(part: Decimal, whole: Decimal) -> Decimal:
    """Return ``part`` in percent of ``whole``, to the nearest hundredth, half up.

    Raises:
        decimal.DivisionByZero: ``whole`` is 0, and ``part`` is not.
        decimal.InvalidOperation: both are.
    """
    share = _ROUNDING.divide(multiply(part, _HUNDRED), whole)
    return _ROUNDING.quantize(share, _HUNDREDTH)


def format_plain(number: Decimal) -> str:
    """Return ``number`` in plain notation: no exponent, no trailing zeros."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text
