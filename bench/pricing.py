"""Measure the price of a captured call, beside genai-prices itself."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import genai_prices
import msgspec

from bench._measure import quantiles, show, time_calls
from outlay import Client
from outlay._capture.observation import Observation
from outlay._capture.pricing.genai_list import GenaiPrices
from outlay._capture.recorder import Recorder
from outlay._model.attribution import Attribution
from outlay.pricing import Entry, PriceBook

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_prices.types import PriceCalculation

    from outlay._capture.pricing import PriceList

CALLS: Final = 5_000
ROUNDS: Final = 5
AT: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
OWNER: Final = Attribution(customer_id="cus_1")

SEEN: Final = {
    "openai chat": Observation(
        provider="openai",
        event_type="cost.ai.inference",
        model="gpt-4o-2024-08-06",
        service_tier="default",
        flavor="chat",
        usage={
            "prompt_tokens": 1000,
            "completion_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 200, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0},
        },
    ),
    "anthropic": Observation(
        provider="anthropic",
        event_type="cost.ai.inference",
        model="claude-sonnet-4-5-20250929",
        service_tier="standard",
        flavor="default",
        usage={
            "input_tokens": 1000,
            "output_tokens": 100,
            "cache_creation_input_tokens": 300,
            "cache_read_input_tokens": 500,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 300,
                "ephemeral_1h_input_tokens": 0,
            },
        },
    ),
    "google": Observation(
        provider="google",
        event_type="cost.ai.inference",
        model="gemini-2.5-flash",
        flavor="default",
        usage={
            "promptTokenCount": 1000,
            "candidatesTokenCount": 100,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}],
        },
    ),
}

_ROOTS: Final = {"google": "usageMetadata"}
_MODELS: Final = {"google": "modelVersion"}
_TOKENS: Final = {"input_tokens": 2, "output_tokens": 8, "cache_read_tokens": 1}


def main() -> None:
    """Measure and print."""
    entry = Entry.model_validate(
        {"provider": "*", "service_tier": "*", "from": "2026-01-01", "units": _TOKENS}
    )
    book, lists = PriceBook([entry]), GenaiPrices()
    rows = []
    for name, seen in SEEN.items():
        calls = {
            "genai-prices": _straight(seen),
            "ours": _asking(lists, seen),
            "own book": _asking(book, seen),
        }
        medians = _medians(calls)
        medians["recorded"] = _recorded(seen)
        ratio = medians["genai-prices"] / medians["ours"]
        shown = (f"{median:.1f}" for median in medians.values())
        rows.append((name, *shown, f"{ratio:.0f}"))
    show(
        "Pricing one captured call, median µs (goal: ours at most 15)",
        ("", "genai-prices", "ours", "own book", "priced and tracked", "ratio"),
        rows,
    )


def _medians(calls: dict[str, Callable[[int], object]]) -> dict[str, float]:
    """Return medians in µs, measured in turns: what disturbs one disturbs all."""
    times: dict[str, list[int]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name] += time_calls(call, range(CALLS))
    return {name: quantiles(each).p50 / 1000 for name, each in times.items()}


def _asking(prices: PriceList, seen: Observation) -> Callable[[int], object]:
    return lambda _: prices.price(seen, AT)


def _straight(seen: Observation) -> Callable[[int], PriceCalculation]:
    """Return what asks genai-prices by its public functions."""
    response = {
        _MODELS.get(seen.provider, "model"): seen.model,
        _ROOTS.get(seen.provider, "usage"): seen.usage,
    }

    def price(_: int) -> PriceCalculation:
        return genai_prices.extract_usage(
            response, provider_id=seen.provider, api_flavor=seen.flavor or ""
        ).calc_price(genai_request_timestamp=AT)

    return price


def _recorded(seen: Observation) -> float:
    """Return the median in µs of all that a door calls: priced, keyed, journalled."""
    with tempfile.TemporaryDirectory() as folder:
        client = Client(journal_dir=Path(folder), shipping="none")
        record = Recorder.for_client(client).record
        seen_each = [
            msgspec.structs.replace(seen, operation_id=f"call-{number}")
            for number in range(CALLS)
        ]
        times = time_calls(lambda n: record(seen_each[n], OWNER, AT), range(CALLS))
        client.close(0)
    return quantiles(times).p50 / 1000
