"""Laws of amounts, for any number that can be written down."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay._model.money import (
    MAX_CHARS,
    MAX_EXPONENT,
    to_exact_decimal,
    to_json_number,
)
from outlay.errors import InvalidEventError

LEAST, LIMIT = Fraction(1, 10**MAX_EXPONENT), Fraction(10 ** (MAX_EXPONENT + 1))


@st.composite
def decimals(draw: st.DrawFn) -> Decimal:
    """Return a finite decimal of up to 80 digits, some beyond what is allowed."""
    digits = draw(st.text("0123456789", min_size=1, max_size=80))
    exponent = draw(st.integers(-130, 60))
    sign = draw(st.sampled_from(["", "-"]))
    return Decimal(f"{sign}{digits}e{exponent}")


def is_within_limits(number: Decimal) -> bool:
    """Return whether the documented limits allow ``number``, by rational arithmetic."""
    size = abs(Fraction(number))
    if size == 0:
        # Its digits are kept while its exponent is within the limits.
        kept = -MAX_EXPONENT <= number.adjusted() <= MAX_EXPONENT
        return not kept or len(str(number)) <= MAX_CHARS
    return LEAST <= size < LIMIT and len(str(number)) <= MAX_CHARS


@given(decimals())
@settings(max_examples=500)
def test_an_amount_is_either_refused_or_unchanged(number: Decimal) -> None:
    """Nothing in between: no rounding, no clamping."""
    if is_within_limits(number):
        assert Fraction(to_exact_decimal(number, allow_credits=True)) == Fraction(
            number
        )
    else:
        with pytest.raises(InvalidEventError):
            to_exact_decimal(number, allow_credits=True)


@given(decimals().filter(is_within_limits))
def test_text_and_decimal_are_one_amount(number: Decimal) -> None:
    """It does not matter who turned the text into a number."""
    assert str(to_exact_decimal(str(number), allow_credits=True)) == str(
        to_exact_decimal(number, allow_credits=True)
    )


@given(decimals().filter(is_within_limits))
def test_every_amount_is_a_multiple_of_what_sums_are_exact_to(number: Decimal) -> None:
    """The reference server counts multiples of 1e-100, and excludes the rest."""
    taken = Fraction(to_exact_decimal(number, allow_credits=True))

    assert (taken * 10**100).denominator == 1


@given(st.integers(-(10**45), 10**45))
def test_an_integer_is_its_own_amount(number: int) -> None:
    """Whole cents or whole tokens, however many."""
    if abs(number) < LIMIT:
        assert Fraction(to_exact_decimal(number, allow_credits=True)) == number
    else:
        with pytest.raises(InvalidEventError):
            to_exact_decimal(number, allow_credits=True)


@given(st.floats(min_value=1e-40, max_value=1e40))
def test_a_float_is_what_its_shortest_repr_says(number: float) -> None:
    """0.1 means 0.1, and the float comes back the same from the amount."""
    taken = to_exact_decimal(number)

    assert taken == Decimal(repr(number))
    assert float(taken) == number


@given(st.floats() | st.decimals() | st.text() | st.integers() | st.booleans())
def test_whatever_is_taken_is_finite_and_not_negative(
    value: float | Decimal | str,
) -> None:
    """No input whatsoever gets a NaN or a credit past the check."""
    try:
        taken = to_exact_decimal(value)
    except InvalidEventError:
        return

    assert taken.is_finite()
    assert not taken.is_signed()
    assert not isinstance(value, bool)
    assert not math.isnan(taken)


@given(
    st.floats()
    | st.decimals()
    | st.integers(-10, 10**26)
    | st.booleans()
    | st.text("0123456789.-+e \n٣")
    | decimals().map(str)
)
@settings(max_examples=500)
def test_what_is_written_is_the_text_of_the_exact_amount(
    value: float | Decimal | str,
) -> None:
    """Plain numbers take a short cut, which must lead to the same place."""
    try:
        number = to_exact_decimal(value)
    except InvalidEventError:
        with pytest.raises(InvalidEventError):
            to_json_number(value)
        return

    text = to_json_number(value)
    assert text == str(number)
    assert json.loads(text, parse_float=Decimal) == number
