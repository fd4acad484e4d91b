"""Exact sums of amounts, and how amounts are written."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# The default context rounds to 28 digits without a word. This one has room for any sum
# of amounts of up to 61 digits, and would raise before it rounded.
_EXACT: Final = Context(prec=1000, traps=[Inexact, InvalidOperation, Overflow])


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Return the sum of ``amounts``, to the last digit.

    Raises:
        decimal.Inexact: it has over 1000 digits.
    """
    total = Decimal()
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total


def plain(amount: Decimal | None) -> str:
    """Return all digits of ``amount``: no exponent, no zeros at the end; None: '-'."""
    if amount is None:
        return "-"
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def aligned(amounts: Iterable[Decimal | None]) -> list[str]:
    """Return the amounts as texts of one length, their decimal points in line."""
    parts = [plain(amount).partition(".") for amount in amounts]
    whole = max((len(before) for before, _, _ in parts), default=0)
    fraction = max((len(point + after) for _, point, after in parts), default=0)
    return [
        f"{before:>{whole}}{point + after:<{fraction}}"
        for before, point, after in parts
    ]
