"""Turn amounts into exact decimals and JSON numbers."""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import TYPE_CHECKING, Final, TypeAlias

from outlay.errors import InvalidEventError

if TYPE_CHECKING:
    from collections.abc import Iterable

Amount: TypeAlias = Decimal | int | str | float
"""The types of an amount. A float is taken by its shortest repr, as it was typed."""

MAX_EXPONENT: Final = 40
"""The largest exponent. An amount is 0, or from 1e-40 to below 1e41. That is far beyond
any currency, and no single event can make exact sums slow."""

MAX_CHARS: Final = 66
"""The longest written form of an amount: 61 digits, a point and an exponent. So every
amount is a multiple of 1e-100, as the reference server's exact sums need."""

# The default context rounds to 28 digits silently. This one has room for any sum of
# amounts of up to 61 digits, and raises instead of rounding.
_EXACT: Final = Context(prec=1000, traps=[Inexact, InvalidOperation, Overflow])

is_json_amount: Final = re.compile(
    r"(?:0|[1-9][0-9]{0,24}+)(?:\.[0-9]{1,40}+)?+", re.ASCII
).fullmatch
"""Matches text that is an amount and can be sent unchanged: a JSON number (RFC 8259,
section 6) well inside the limits."""

_PLAIN_INTS: Final = range(10**25)

_REMEDY: Final = "pass a finite Decimal, int, str or float such as '0.0042'"


def to_exact_decimal(
    value: Amount, *, allow_credits: bool = False, field: str = "amount"
) -> Decimal:
    """Return ``value`` as the exact decimal that will be sent and summed.

    Args:
        value: The amount in major units of the cost metric's currency. A str is read
            as Python reads a decimal literal.
        allow_credits: Whether a negative amount is allowed. Defaults to False.
        field: The name of the argument, for the error.

    Raises:
        InvalidEventError: ``value`` is not a finite number, is negative without
            ``allow_credits``, or exceeds `MAX_EXPONENT` or `MAX_CHARS`.
    """
    number = value if type(value) is Decimal else _decimal(value, field)
    if not number.is_finite():
        raise InvalidEventError(field, value, _REMEDY)
    if not -MAX_EXPONENT <= number.adjusted() <= MAX_EXPONENT:
        if not number:
            return Decimal(0)  # however many zeros it was written with
        raise InvalidEventError(
            field, value, "must be 0, or from 1e-40 to below 1e41; check the unit"
        )
    if len(str(number)) > MAX_CHARS:
        raise InvalidEventError(
            field, value, f"has over {MAX_CHARS} characters; round it deliberately"
        )
    if number.is_signed():
        if number and not allow_credits:
            raise InvalidEventError(
                field, value, "must not be negative; set allow_credits=True for credits"
            )
        return number or Decimal(0)
    return number


def to_json_number(
    value: Amount, *, allow_credits: bool = False, field: str = "amount"
) -> str:
    """Return ``value`` as a JSON number.

    The result equals ``str(to_exact_decimal(...))`` of the same arguments, but the
    common cases are faster. It raises the same errors.
    """
    kind = type(value)
    if kind is float and is_json_amount(text := str(value)):
        return text
    if kind is int and value in _PLAIN_INTS:
        return str(value)
    return str(to_exact_decimal(value, allow_credits=allow_credits, field=field))


def _decimal(value: Amount, field: str) -> Decimal:
    # Decimal's constructor is exact: it ignores the context's precision.
    if isinstance(value, str):
        try:
            return Decimal(value)
        except InvalidOperation:
            raise InvalidEventError(field, value, _REMEDY) from None
    if isinstance(value, bool):
        raise InvalidEventError(field, value, f"a bool is no amount; {_REMEDY}")
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, float):
        # float's own repr: subclasses such as numpy's print their type around it.
        return Decimal(float.__repr__(value))
    raise InvalidEventError(field, value, _REMEDY)


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of ``amounts``.

    Raises:
        decimal.Inexact: The sum has over 1000 digits.
    """
    total = Decimal()
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total
