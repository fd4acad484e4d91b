"""Prepare exact decimals for the screen: no digit is rounded away.

A page shows an amount with thousands separators, and with the digits after the
hundredths in a fainter ink. The text without separators equals the API's text.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from outlay.server._metering.decimals import (
    ZERO,
    add,
    format_plain,
    percentage,
)

_CENTS: Final = 2
_WIDEST_TAIL: Final = 12
"""The most digits after the hundredths that a column aligns."""

_MINUS: Final = "\N{MINUS SIGN}"
_THIN_SPACE: Final = "\N{NARROW NO-BREAK SPACE}"


class Amount(NamedTuple):
    """One exact amount, as a page shows it.

    Attributes:
        exact: The number in plain notation, as the API has it.
        head: The digits to the hundredths, with thousands separators.
        tail: The digits after the hundredths, or ''.
        is_negative: Whether it is below zero.
    """

    exact: str
    head: str
    tail: str
    is_negative: bool

    @property
    def text(self) -> str:
        """The whole number with thousands separators."""
        return self.head + self.tail

    @property
    def value(self) -> Decimal:
        """The number."""
        return Decimal(self.exact)


def amount(value: Decimal | str) -> Amount:
    """Return ``value`` for the screen, with all of its digits."""
    exact = format_plain(Decimal(value))
    is_negative = exact.startswith("-")
    whole, _, fraction = exact.removeprefix("-").partition(".")
    head = f"{int(whole):,}.{fraction[:_CENTS]:0<{_CENTS}}"
    sign = _MINUS if is_negative else ""
    return Amount(exact, sign + head, fraction[_CENTS:], is_negative)


def count(value: Decimal | int | str) -> str:
    """Return a count, or a quantity, with thousands separators and all digits."""
    exact = format_plain(Decimal(value))
    whole, dot, fraction = exact.removeprefix("-").partition(".")
    return (_MINUS if exact.startswith("-") else "") + f"{int(whole):,}{dot}{fraction}"


def tail_class(amounts: list[Amount]) -> str:
    """Return the CSS class that aligns a column of amounts at the decimal point."""
    widest = max((len(one.tail) for one in amounts), default=0)
    return f"w{min(widest, _WIDEST_TAIL)}" if widest else ""


class Change(NamedTuple):
    """The change of an amount since the prior period.

    Attributes:
        text: The change in percent with its sign, such as ``+4.27 %``.
        words: The same for a screen reader, such as ``4.27 % more``.
        prior: The amount of the prior period.
    """

    text: str
    words: str
    prior: Amount


def change(current: Decimal, prior: Decimal) -> Change:
    """Return the change from ``prior`` to ``current``, relative to its magnitude."""
    if not prior:
        text = "new" if current else "no change"
        return Change(text, text, amount(prior))
    share = percentage(add(current, prior.copy_negate()), prior.copy_abs())
    size = f"{share.copy_abs()}{_THIN_SPACE}%"
    if not share:
        return Change(size, "no change", amount(prior))
    sign, word = ("+", "more") if share > ZERO else (_MINUS, "less")
    return Change(sign + size, f"{size} {word}", amount(prior))


def percent(part: Decimal, whole: Decimal) -> str | None:
    """Return ``part`` in percent of ``whole`` to the hundredth, None if that is 0."""
    if not whole:
        return None
    share = percentage(part, whole)
    sign = _MINUS if share < ZERO else ""
    return f"{sign}{share.copy_abs()}{_THIN_SPACE}%"


def points(difference: Decimal) -> str:
    """Return the difference of two percentages, such as ``+1.20 points``."""
    sign = _MINUS if difference < ZERO else "+" if difference else ""
    return f"{sign}{difference.copy_abs()}{_THIN_SPACE}points"
