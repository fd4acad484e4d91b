"""Exact decimals on the screen: all digits, and no other one."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.server._dashboard.amounts import (
    amount,
    change,
    count,
    percent,
    points,
    tail_class,
)
from outlay.server._metering.decimals import format_plain

SPACE = "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "head", "tail"),
    [
        ("0", "0.00", ""),
        ("1234567.5", "1,234,567.50", ""),
        ("0.0042", "0.00", "42"),
        ("-1000.001", "−1,000.00", "1"),
        ("1E+3", "1,000.00", ""),
        ("1E-9", "0.00", "0000001"),
        ("-0", "0.00", ""),
    ],
)
def test_an_amount_has_a_head_and_a_tail(value: str, head: str, tail: str) -> None:
    """The head ends with the hundredths."""
    shown = amount(Decimal(value))
    assert (shown.head, shown.tail) == (head, tail)
    assert shown.is_negative == head.startswith("−")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=20))
def test_the_visible_text_is_the_number(value: Decimal) -> None:
    """A reader can copy it."""
    shown = amount(value)
    text = shown.text.replace(",", "").replace("−", "-")
    assert Decimal(text) == value
    assert shown.exact == format_plain(value)
    assert shown.value == value


def test_a_column_is_as_wide_as_its_longest_tail() -> None:
    """Up to a limit, so that one absurd number cannot push a table apart."""
    assert tail_class([]) == ""
    assert tail_class([amount("1.5"), amount("2")]) == ""
    assert tail_class([amount("1.123"), amount("2.12345")]) == "w3"
    assert tail_class([amount("0." + "1" * 40)]) == "w12"


@pytest.mark.parametrize(
    ("current", "prior", "text", "words"),
    [
        ("3", "2", f"+50.00{SPACE}%", f"50.00{SPACE}% more"),
        ("1", "2", f"−50.00{SPACE}%", f"50.00{SPACE}% less"),
        ("2", "2", f"0.00{SPACE}%", "no change"),
        ("2", "0", "new", "new"),
        ("0", "0", "no change", "no change"),
        ("1", "-1", f"+200.00{SPACE}%", f"200.00{SPACE}% more"),
    ],
)
def test_a_change_has_a_sign_and_words(
    current: str, prior: str, text: str, words: str
) -> None:
    """It is relative to the magnitude of the prior amount."""
    found = change(Decimal(current), Decimal(prior))
    assert (found.text, found.words) == (text, words)


def test_shares_counts_and_points() -> None:
    """A share of nothing is no zero."""
    assert percent(Decimal(1), Decimal(0)) is None
    assert percent(Decimal(-1), Decimal(3)) == f"−33.33{SPACE}%"
    assert count("1234567.25") == "1,234,567.25"
    assert count(-12) == "−12"
    assert points(Decimal("-0.50")) == f"−0.50{SPACE}points"
    assert points(Decimal("1.2")) == f"+1.2{SPACE}points"
