"""Which numbers count, and how they add up and are written."""

from __future__ import annotations

from decimal import Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.server._metering.decimals import (
    add,
    format_plain,
    parse_number,
    to_countable,
)

_UNLIMITED = Context(prec=5000)

amounts = st.decimals(
    min_value=Decimal("-1e100"),
    max_value=Decimal("1e100"),
    allow_nan=False,
    allow_infinity=False,
    places=None,
).filter(lambda number: to_countable(number) is not None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(Decimal("0.10"), "0.10", id="decimal"),
        pytest.param(7, "7", id="integer"),
        pytest.param("0.0042", "0.0042", id="text"),
        pytest.param("-1e-9", "-1E-9", id="signed-text"),
        pytest.param(Decimal("0E+999999"), "0", id="zero-with-a-large-exponent"),
        pytest.param(Decimal("1E-100"), "1E-100", id="smallest"),
        pytest.param(Decimal("9E+100"), "9E+100", id="largest"),
        pytest.param(Decimal("1." + "0" * 150), "1", id="trailing-zeros"),
        pytest.param(10**30 + 1, "1000000000000000000000000000001", id="long-integer"),
    ],
)
def test_numbers_and_decimal_texts_count(value: object, expected: str) -> None:
    """Clients send decimals as numbers or, in one SDK, as strings."""
    assert str(to_countable(value)) == expected


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="null"),
        pytest.param(True, id="boolean"),
        pytest.param("", id="empty-text"),
        pytest.param("free", id="word"),
        pytest.param(" 1", id="space"),
        pytest.param("1_000", id="underscore"),
        pytest.param("٣", id="other-digits"),
        pytest.param("NaN", id="nan"),
        pytest.param("Infinity", id="infinity"),
        pytest.param([1], id="array"),
        pytest.param({"amount": 1}, id="object"),
        pytest.param(parse_number("1e999999"), id="huge"),
        pytest.param(parse_number("1e-999999"), id="tiny"),
        pytest.param(parse_number("1e" + "9" * 30), id="beyond-any-decimal"),
        pytest.param(parse_number("1." + "1" * 10_000), id="ten-thousand-digits"),
        pytest.param("1" * 10_000, id="long-text"),
    ],
)
def test_whatever_else_does_not_count(value: object) -> None:
    """One absurd value must neither break nor slow down a sum."""
    assert to_countable(value) is None


@given(st.lists(amounts, max_size=20))
def test_a_sum_is_exact_whatever_the_magnitudes(numbers: list[Decimal]) -> None:
    """A finance lead checks totals to the last digit."""
    total = Decimal(0)
    for number in numbers:
        counted = to_countable(number)
        assert counted is not None
        total = add(total, counted)

    expected = Decimal(0)
    for number in numbers:
        expected = _UNLIMITED.add(expected, number)
    assert total == expected


@given(amounts)
def test_plain_notation_keeps_the_value_and_drops_the_rest(number: Decimal) -> None:
    """Strict clients want no exponent, and people want no trailing zeros."""
    text = format_plain(number)

    assert Decimal(text) == number
    assert "E" not in text
    assert "." not in text or text[-1] not in "0."
    assert text != "-0"
