"""Money is exact from the caller's argument to the encoded bytes."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from decimal import Decimal

import pytest

from outlay._model.events import decode_event
from outlay._model.money import MAX_CHARS, to_exact_decimal
from outlay.errors import InvalidEventError

Compose = Callable[..., tuple[str, bytes]]


class Fraction(float):
    """A subclass that prints itself with a name around, as numpy's numbers do."""

    def __repr__(self) -> str:
        return f"Fraction({super().__repr__()})"


EXACT = {
    "trailing-zeros": (Decimal("0.10"), "0.10"),
    "text": ("0.0042", "0.0042"),
    "text-with-trailing-zero": ("0.10", "0.10"),
    "text-in-scientific-notation": ("4.2e-3", "0.0042"),
    "text-with-a-plus": ("+5", "5"),
    "text-without-leading-zero": (".5", "0.5"),
    "text-with-spaces": (" 1.5\n", "1.5"),
    "text-with-leading-zeros": ("007.5", "7.5"),
    "float": (0.1, "0.1"),
    "float-1e-9": (1e-9, "1E-9"),
    "float-with-17-digits": (0.30000000000000004, "0.30000000000000004"),
    "float-1e22": (1e22, "1E+22"),
    "float-subclass": (Fraction(0.1), "0.1"),
    "int": (12, "12"),
    "int-beyond-64-bits": (2**100, "1267650600228229401496703205376"),
    "30-digits": (
        Decimal("123456789012345.678901234567895"),
        "123456789012345.678901234567895",
    ),
    "30-digits-as-text": (
        "0.123456789012345678901234567895",
        "0.123456789012345678901234567895",
    ),
    "smallest": ("1e-40", "1E-40"),
    "greatest": ("9.9e40", "9.9E+40"),
    "longest": ("1." + "2" * 60 + "e-40", "1." + "2" * 60 + "E-40"),
    "zero": (0, "0"),
    "zero-with-places": ("0.000", "0.000"),
    "zero-beyond-the-limits": ("0e-1000000", "0"),
    "negative-zero": (-0.0, "0"),
}


@pytest.mark.parametrize("field", ["amount", "quantity"])
@pytest.mark.parametrize(("given", "sent"), EXACT.values(), ids=EXACT.keys())
def test_a_number_arrives_with_the_digits_it_was_given(
    compose: Compose, field: str, given: object, sent: str
) -> None:
    """The total is right to the last digit only if each part of it is."""
    _, payload = compose(**{field: given})

    assert f'"{field}":{sent},'.encode() in payload.replace(b"}", b",")
    assert Decimal(decode_event(payload).data[field]) == Decimal(sent)


REFUSED = {
    "nan": (float("nan"), "pass a finite"),
    "infinity": (float("inf"), "pass a finite"),
    "decimal-nan": (Decimal("NaN"), "pass a finite"),
    "signalling-nan": (Decimal("sNaN"), "pass a finite"),
    "decimal-infinity": (Decimal("-Infinity"), "pass a finite"),
    "text-nan": ("nan", "pass a finite"),
    "text-infinity": ("inf", "pass a finite"),
    "empty-text": ("", "pass a finite"),
    "words": ("five", "pass a finite"),
    "currency-sign": ("$5", "pass a finite"),
    "thousands": ("1,000", "pass a finite"),
    "absurd-exponent": ("1e99999999999999999999", "pass a finite"),
    "true": (True, "a bool is no amount"),
    "false": (False, "a bool is no amount"),
    "none": (None, "pass a finite"),
    "bytes": (b"1", "pass a finite"),
    "tuple": ((0, (1,), 0), "pass a finite"),
    "too-small": ("9.9e-41", "must be 0, or from 1e-40 to below 1e41"),
    "too-great": ("1e41", "must be 0, or from 1e-40 to below 1e41"),
    "int-with-5000-digits": (10**5000, "must be 0, or from 1e-40 to below 1e41"),
    "too-many-digits": ("1." + "2" * 65, f"has over {MAX_CHARS} characters"),
    "too-many-plain-digits": ("9" * 26 + "." + "1" * 40, f"has over {MAX_CHARS} char"),
    "negative": ("-0.01", "must not be negative; set allow_credits=True"),
    "negative-int": (-1, "must not be negative; set allow_credits=True"),
}


@pytest.mark.parametrize("given, remedy", REFUSED.values(), ids=REFUSED.keys())  # noqa: PT006 - a name for each
def test_what_is_no_amount_is_refused(
    compose: Compose, given: object, remedy: str
) -> None:
    """A wrong number is refused where the caller can still correct it."""
    with pytest.raises(InvalidEventError, match=r"^amount=") as caught:
        compose(amount=given)

    assert caught.value.remedy.startswith(remedy)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("first", ["0.05", "4.2e-3", Decimal(3)], ids=str)
def test_an_amount_does_not_depend_on_the_one_before(
    compose: Compose, first: object
) -> None:
    """The amount of flat costs is remembered, for the next of them only."""
    compose(amount=first)

    for given, sent in (("0.05", "0.05"), ("0.06", "0.06"), ("0.050", "0.050")):
        assert f'"amount":{sent},'.encode() in compose(amount=given)[1]
    for wrong in ("", "0.05 EUR"):
        with pytest.raises(InvalidEventError, match=r"^amount="):
            compose(amount=wrong)


def test_an_unfit_quantity_is_called_by_its_name(compose: Compose) -> None:
    """Both numbers obey the same rules, and the error tells them apart."""
    with pytest.raises(InvalidEventError, match=r"^quantity='many': pass a finite"):
        compose(quantity="many")


@pytest.mark.parametrize("field", ["amount", "quantity"])
def test_credits_are_taken_if_the_settings_say_so(
    make_compose: Callable[..., Compose], field: str
) -> None:
    """A provider's refund is a negative cost, of a negative quantity."""
    compose = make_compose(allow_credits=True)

    _, payload = compose(**{field: Decimal("-0.10")})
    assert f'"{field}":-0.10'.encode() in payload


def test_the_decimal_context_of_the_application_does_not_matter(
    compose: Compose,
) -> None:
    """A report that sets three digits of precision must not round anyone's costs."""
    coarse = decimal.Context(prec=3, traps=[decimal.Inexact, decimal.FloatOperation])
    with decimal.localcontext(coarse):
        _, payload = compose(amount=Decimal("123456789.123456789"), quantity=0.12345)

    data = decode_event(payload).data
    assert data["amount"] == Decimal("123456789.123456789")
    assert data["quantity"] == Decimal("0.12345")


def test_a_context_without_traps_refuses_the_same(compose: Compose) -> None:
    """Without the trap, text that is no number becomes NaN instead of an error."""
    with (
        decimal.localcontext(decimal.Context(traps=[])),
        pytest.raises(InvalidEventError, match=r"^amount='five': pass a finite"),
    ):
        compose(amount="five")


def test_a_decimal_is_passed_on_as_it_is() -> None:
    """The commonest type costs nothing to take."""
    amount = Decimal("0.10")

    assert to_exact_decimal(amount) is amount
