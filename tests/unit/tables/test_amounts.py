"""Amounts of files: every common way to write them, and no guess."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay._tables.amounts import (
    NotANumberError,
    decimal_mark,
    from_minor_units,
    is_ambiguous,
    parse_amount,
)


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("1,234.50", "."),
        ("1.234,50", ","),
        ("1.234.567", ","),
        ("1,234,567", "."),
        ("0.5", "."),
        ("0,123", ","),
        ("-3,5", ","),
        ("1234.567", "."),
        ("1\u202f234,5", ","),
        ("1'234.5", "."),
        ("12", None),
        ("1,234", None),
        ("1.234", None),
        ("1.2.3", None),
        ("", None),
    ],
)
def test_an_amount_proves_its_decimal_mark_or_none(text: str, mark: str | None) -> None:
    """Only what has a single reading is a proof."""
    assert decimal_mark(text) == mark


def test_a_single_group_of_three_digits_is_ambiguous() -> None:
    """It is the one form that two countries read differently."""
    assert [
        text for text in ("1,234", "1.234", "-12.345") if not is_ambiguous(text)
    ] == []
    assert [
        text for text in ("0.123", "1,23", "1234,567", "1") if is_ambiguous(text)
    ] == []


@pytest.mark.parametrize(
    ("text", "mark", "amount"),
    [
        ("1,234,567.89", ".", "1234567.89"),
        ("1.234.567,89", ",", "1234567.89"),
        ("1 234,5", ",", "1234.5"),
        ("\u22123.5", ".", "-3.5"),
        ("(12.00)", ".", "-12.00"),
        ("12-", ".", "-12"),
        ("+7", ".", "7"),
        (".5", ".", "0.5"),
    ],
)
def test_an_amount_is_read_with_all_digits(text: str, mark: str, amount: str) -> None:
    """Spaces, apostrophes, signs at either end, and brackets of accountants."""
    assert parse_amount(text, mark) == Decimal(amount)


@pytest.mark.parametrize(
    "text", ["", "-", "1,5", "1,23,456.0", "1.2.3", "$5", "12 USD", "1e5", "NaN", "٣"]
)
def test_anything_else_is_refused(text: str) -> None:
    """A wrong amount is worse than an error."""
    with pytest.raises(NotANumberError, match="is no amount"):
        parse_amount(text, ".")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=40))
def test_no_digit_is_lost(amount: Decimal) -> None:
    """Python's own context would round to 28 digits."""
    with_groups = f"{amount:,f}"

    assert parse_amount(with_groups, ".") == amount


@pytest.mark.parametrize(
    ("currency", "amount"), [("USD", "1234.56"), ("JPY", "123456"), ("KWD", "123.456")]
)
def test_minor_units_depend_on_the_currency(currency: str, amount: str) -> None:
    """A yen has no cents."""
    assert from_minor_units(Decimal(123456), currency) == Decimal(amount)
