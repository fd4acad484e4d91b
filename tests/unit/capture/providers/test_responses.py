"""What providers answer, priced: the table of recorded responses."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import genai_prices
import pytest

from outlay import Settings
from outlay._capture.pricing import PricedAmount, PriceUnknown
from outlay._capture.pricing.configured_lists import configured_prices
from tests.support.responses import Recorded, recorded

ROWS: Final = recorded()
PRICES: Final = configured_prices(Settings())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_recorded_response_costs_what_the_table_says(row: Recorded) -> None:
    """The first call of a kind and the next cost the same, to the last digit."""
    for _ in range(2):
        charge = PRICES.price(row.observed, row.at)
        if isinstance(charge, PriceUnknown):
            assert row.expected == {"unpriced": charge.reason}
        else:
            assert row.expected == shown(charge)


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in ROWS
        if row.observed.flavor
        and row.expected.get("provenance") == "priced"
        and row.rule is None
    ],
    ids=lambda row: row.name,
)
def test_genai_prices_reads_the_same_in_the_whole_response(row: Recorded) -> None:
    """What we hand over of a response is all that matters for its price."""
    observed, tier = row.observed, row.observed.service_tier
    extracted = genai_prices.extract_usage(
        # Bedrock's prices go by the profile that was asked for, not by the model.
        {**row.response, "model": observed.model},
        provider_id=observed.provider,
        api_flavor=observed.flavor or "",
    )
    names = ("service_tier", "processing", "speed")
    straight = extracted.calc_price(
        genai_request_timestamp=row.at,
        price_context=dict.fromkeys(names, tier) if tier else None,
    )

    assert Decimal(row.expected["amount"]) == straight.total_price


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.reported is not None], ids=lambda row: row.name
)
def test_what_a_response_reports_is_what_it_costs(row: Recorded) -> None:
    """The provider knows best."""
    assert row.expected["provenance"] == "reported"
    assert row.reported == Decimal(row.expected["amount"])


def test_the_table_covers_the_providers() -> None:
    """A row that is lost is not missed otherwise."""
    providers = {row.observed.provider for row in ROWS}

    assert len(ROWS) >= 60
    assert providers >= {
        "anthropic",
        "aws",
        "azure",
        "cohere",
        "google",
        "groq",
        "mistral",
        "openai",
        "openrouter",
        "perplexity",
    }


def shown(charge: PricedAmount) -> dict[str, str]:
    """Return a charge as the table has it."""
    return {
        "amount": format(charge.amount, "f"),
        "currency": charge.currency,
        "provenance": charge.provenance,
    }
