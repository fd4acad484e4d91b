"""Outlay's own prices: each has a source, and none is a guess."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from outlay import Settings
from outlay._capture.observation import Observation
from outlay._capture.pricing import PriceUnknown
from outlay._capture.pricing.configured_lists import configured_prices
from outlay._capture.pricing.listed_prices import listed_prices
from outlay._capture.pricing.outlay_list import outlay_prices

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_each_line_has_its_source_on_the_page() -> None:
    """A reader can check every fee at its provider."""
    page = (Path(__file__).parents[4] / "docs" / "reference" / "fees.md").read_text()
    own = outlay_prices()

    sources = {
        each.id: each.source
        for rows in (own.fees.entries, own.surcharges, own.unpriced)
        for each in rows
    }
    missing = {name for name, source in sources.items() if f"({source})" not in page}
    assert missing == set()


UNKNOWN = [
    ("mistral", "web_search", {"web_searches": 2}, "web searches"),
    ("mistral", "code_interpreter", {"code_executions": 1}, "code interpreter"),
    ("mistral", "image_generation", {"image": 1}, "images"),
    ("openai", "code_interpreter", {"session": 1}, "minutes"),
]


@pytest.mark.parametrize(("provider", "line", "usage", "reason"), UNKNOWN)
def test_a_fee_without_a_known_price_is_unpriced_and_says_why(
    provider: str, line: str, usage: dict[str, int], reason: str
) -> None:
    """A price from memory would look exact."""
    fee = Observation(
        provider=provider,
        event_type="cost.ai.inference",
        model="m",
        line=line,
        usage=usage,
    )

    price = configured_prices(Settings()).price(fee, NOW)

    assert isinstance(price, PriceUnknown)
    assert price.reason == "no_unit_price"
    assert reason in price.message


def test_a_price_book_of_the_user_knows_such_a_fee(tmp_path: Path) -> None:
    """The user's own contract names it."""
    book = tmp_path / "prices.toml"
    book.write_text(
        "[[price]]\n"
        'provider = "mistral"\n'
        'line = "web_search"\n'
        "from = 2026-01-01\n"
        "units.web_searches = 0.02\n"
    )
    fee = Observation(
        provider="mistral",
        event_type="cost.ai.inference",
        line="web_search",
        usage={"web_searches": 2},
    )

    price = configured_prices(Settings(price_book=book)).price(fee, NOW)

    assert not isinstance(price, PriceUnknown)
    assert str(price.amount) == "0.04"


def test_the_list_of_a_model_s_prices_names_its_unpriced_fees() -> None:
    """``outlay prices show`` tells them from fees that do not exist."""
    listed = [*listed_prices(Settings(), "mistral-large-latest", NOW)]

    unpriced = [each for each in listed if each.price.startswith("unpriced: ")]
    assert {each.entry for each in unpriced} == {
        "mistral/mistral-web-search",
        "mistral/mistral-code-execution",
        "mistral/mistral-image-generation",
    }
    assert all(each.origin == "outlay" and each.source for each in unpriced)
