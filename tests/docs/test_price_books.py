"""Price books that pages show, read as the setting ``price_book`` reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import pytest

from outlay.pricing import Observation, PriceBook, PriceUnknown
from tests.docs.blocks import Block, blocks
from tests.docs.test_pages import PAGES

if TYPE_CHECKING:
    from pathlib import Path

BOOKS: Final = [
    block
    for page in PAGES
    for block in blocks(page)
    if block.language == "toml" and "[[price]]" in block.text
]
PROVIDERS: Final = [
    block for block in BOOKS if block.name.startswith(("media", "messages-and-maps"))
]
NOW: Final = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.mark.parametrize("block", BOOKS, ids=lambda block: block.name)
def test_a_price_book_on_a_page_can_be_read(block: Block, tmp_path: Path) -> None:
    """Readers copy what they see, and `outlay prices check` says the same."""
    path = tmp_path / "prices.toml"
    path.write_text(block.text)

    assert PriceBook.load(path).entries


@pytest.mark.parametrize(
    ("seen", "amount"),
    [
        ({"model": "geocode", "usage": {"call": 1}}, "0.005"),
        ({"model": "geocode", "usage": {"call": 1}, "service_tier": "advanced"}, None),
        (
            {"model": "place/details", "usage": {"call": 1, "atmosphere_data": 1}},
            "0.022",
        ),
        (
            {
                "model": "distancematrix",
                "usage": {"element": 6},
                "service_tier": "advanced",
            },
            "0.06",
        ),
        ({"provider": "twilio", "model": "verify/approved"}, "0.05"),
        (
            {
                "provider": "replicate",
                "model": "black-forest-labs/flux-schnell",
                "usage": {"second": Decimal("1.25"), "image": 2},
            },
            "0.006",
        ),
        (
            {
                "provider": "replicate",
                "model": "acme/upscale",
                "usage": {"second": Decimal("1.25"), "image": 2},
            },
            "0.00121875",
        ),
        (
            {
                "provider": "fal",
                "model": "fal-ai/flux/dev",
                "usage": {"billable_unit": Decimal("1.5")},
            },
            "0.0375",
        ),
        (
            {
                "provider": "elevenlabs",
                "model": "eleven_flash_v2_5",
                "usage": {"character": 9},
            },
            "0.0009",
        ),
        (
            {
                "provider": "deepgram",
                "model": "nova-3",
                "usage": {"second": 60},
                "service_tier": "multilingual",
            },
            "0.0052",
        ),
        (
            {
                "provider": "deepgram",
                "model": "nova-3",
                "usage": {"streamed_second": 30},
            },
            "0.00385",
        ),
        ({"provider": "twilio", "model": "lookup", "usage": {"sim_swap": 1}}, None),
    ],
    ids=[
        "call",
        "dearer call",
        "more data",
        "elements",
        "verification",
        "by the image",
        "by the second",
        "by the unit",
        "by the character",
        "another tier",
        "live",
        "unknown",
    ],
)
def test_the_books_price_what_is_observed(
    seen: dict[str, object], amount: str | None, tmp_path: Path
) -> None:
    """By the names that extractors give; what they do not know, they do not guess."""
    path = tmp_path / "prices.toml"
    path.write_text("".join(block.text for block in PROVIDERS))
    known = {"provider": "google_maps", "event_type": "cost.geocoding", **seen}
    price = PriceBook.load(path).price(Observation(**known), NOW)  # type: ignore[arg-type]

    found = None if isinstance(price, PriceUnknown) else price.amount
    assert found == (None if amount is None else Decimal(amount))
