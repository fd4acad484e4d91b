"""Read amounts as people and systems write them, without guessing.

``1.234`` is a thousand in one country and a little over one in another. The other
amounts of the same file decide. If none does, the caller must say.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

_SPACES: Final = re.compile(r"[\s'\u00a0\u202f\u2019]")
_GROUPS: Final = re.compile(r"\d{1,3}(?P<mark>[.,])\d{3}(?:(?P=mark)\d{3})+")
_GROUP_OR_FRACTION: Final = re.compile(r"[1-9]\d{0,2}(?P<mark>[.,])\d{3}")
_OTHER_MARK: Final = {".": ",", ",": "."}

# ISO 4217 (list one of 2024-06-25): currencies whose smallest unit is no hundredth.
_WITHOUT_FRACTION: Final = frozenset(
    {
        *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"),
        *("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
    }
)
_WITH_THOUSANDTHS: Final = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})

# The default context would round to 28 digits.
EXACT: Final = Context(prec=1000, traps=[Inexact, InvalidOperation])
"""Arithmetic that raises instead of rounding."""


class NotANumberError(ValueError):
    """A text is no amount. The message says what is expected."""


def decimal_mark(text: str) -> str | None:
    """Return the decimal mark that an amount proves, or None if it proves none."""
    bare = _bare(text)
    marks = [mark for mark in bare if mark in _OTHER_MARK]
    if not marks:
        return None
    if len({*marks}) > 1:
        return marks[-1]
    if _GROUPS.fullmatch(bare):
        return _OTHER_MARK[marks[0]]
    if is_ambiguous(text) or len(marks) > 1:
        return None
    return marks[0]


def is_ambiguous(text: str) -> bool:
    """Return whether a mark in an amount may stand for thousands or for a fraction."""
    return _GROUP_OR_FRACTION.fullmatch(_bare(text)) is not None


def parse_amount(text: str, mark: str) -> Decimal:
    """Return the exact amount of a text.

    Args:
        text: The amount. Parentheses or a minus at either end make it negative.
        mark: The decimal mark, ``.`` or ``,``. The other one groups thousands.

    Raises:
        NotANumberError: The text is no amount.
    """
    bare = _bare(text)
    group = _OTHER_MARK[mark]
    pattern = rf"(\d+|\d{{1,3}}(?:\{group}\d{{3}})+)?(?:\{mark}\d+)?"
    if not bare or not re.fullmatch(pattern, bare, re.ASCII):
        raise NotANumberError(
            f"{text!r} is no amount with the decimal mark {mark!r}, such as "
            f"1{group}234{mark}50"
        )
    amount = Decimal(bare.replace(group, "").replace(mark, "."))
    return amount.copy_negate() if _is_negative(text) else amount


def from_minor_units(amount: Decimal, currency: str) -> Decimal:
    """Return an amount that is in the smallest unit of its currency, in major units."""
    if currency in _WITHOUT_FRACTION:
        return amount
    return EXACT.scaleb(amount, -3 if currency in _WITH_THOUSANDTHS else -2)


def format_amount(amount: Decimal) -> str:
    """Return all digits of ``amount``, without an exponent or zeros at the end."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _bare(text: str) -> str:
    """Return the digits and marks of an amount, without sign and spaces."""
    bare = _SPACES.sub("", text)
    if bare.startswith("(") and bare.endswith(")"):
        return bare[1:-1]
    bare = bare.replace("\u2212", "-")
    if bare.startswith(("-", "+")):
        return bare[1:]
    return bare.removesuffix("-")


def _is_negative(text: str) -> bool:
    bare = _SPACES.sub("", text).replace("\u2212", "-")
    return bare.startswith(("-", "(")) or bare.endswith("-")
