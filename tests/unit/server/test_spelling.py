"""Texts that people mistype: the error says what to write, and shows no pattern."""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic import TypeAdapter, ValidationError

from outlay.server import ServerSettings
from outlay.server._wire.reconciliation_models import Day, Digest
from outlay.server._wire.request_models import Currency, ProductId, Text
from outlay.server._wire.revenue_models import Month

CASES: Final = [
    (Currency, "eur", "EURO", "must be a currency of three letters, such as EUR"),
    (Currency, "usd", "US\n", "must be a currency of three letters, such as EUR"),
    (Month, "2026-10", "2026-13", "must be a month such as 2026-10"),
    (Day, "2026-10-31", "2026-02-30", "must be a day such as 2026-10-31"),
    (Day, "2026-10-31", "31.10.2026", "must be a day such as 2026-10-31"),
    (ProductId, "prod_ai", "ai", "'prod_' and then letters and digits"),
    (Text, "Größe, Inc.", "a\tb", "must hold no control characters"),
    (Digest, "0f" * 16, "0F" * 16, "must have 32 hexadecimal digits"),
]


@pytest.mark.parametrize(("kind", "good", "wrong", "message"), CASES)
def test_a_wrong_text_is_refused_in_words(
    kind: Any,  # noqa: ANN401 - pydantic's own type
    good: str,
    wrong: str,
    message: str,
) -> None:
    """With the type of pydantic's own error, which programs may know."""
    adapter = TypeAdapter[str](kind)
    adapter.validate_python(good)
    with pytest.raises(ValidationError, match=message) as caught:
        adapter.validate_python(wrong)
    [fault] = caught.value.errors()
    assert fault["type"] in {"string_pattern_mismatch", "value_error"}


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("default_currency", "euro", "such as EUR"),
        ("namespace", "acme", "such as org_acme"),
        ("store", "mysql://secret@host/db", "such as postgresql://HOST/NAME"),
        ("history", "http://secret@host", "such as clickhouse://HOST/NAME"),
    ],
)
def test_a_wrong_setting_is_refused_in_words(
    name: str, wrong: str, message: str
) -> None:
    """And no password of it is in the error."""
    with pytest.raises(ValidationError, match=message) as caught:
        ServerSettings.model_validate({name: wrong})
    assert "secret" not in str(caught.value)


def test_the_schema_shows_the_pattern() -> None:
    """The OpenAPI document is for programs, which read patterns."""
    schema = TypeAdapter(Month).json_schema()
    assert schema == {"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[0-2])$"}
