"""How amounts are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal


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
