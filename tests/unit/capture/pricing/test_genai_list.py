"""Prices by genai-prices: equal to its own, and never a guess."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, localcontext
from typing import TYPE_CHECKING, Any, Final

import genai_prices
import pytest
from genai_prices.data_snapshot import (
    DataSnapshot,
    get_snapshot,
    set_custom_snapshot,
)
from genai_prices.data_units import unit_data
from genai_prices.types import TieredPrices
from genai_prices.units import UnitRegistry
from hypothesis import given, settings
from hypothesis import strategies as st

from outlay._capture.observation import UNKNOWN_PROVIDER, Observation
from outlay._capture.pricing import Price, PriceUnknown
from outlay._capture.pricing.genai_list import GenaiPrices
from outlay._capture.pricing.linear_rates import LinearPrice

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

AT: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
PRICES: Final = GenaiPrices()

CHAT: Final = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 200, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0},
}


def observe(**changes: Any) -> Observation:  # noqa: ANN401 - of any field's type
    """Return what a chat of a thousand tokens makes observed, but for ``changes``."""
    fields: dict[str, Any] = {
        "provider": "openai",
        "event_type": "cost.ai.inference",
        "model": "gpt-4o-2024-08-06",
        "flavor": "chat",
        "usage": CHAT,
        **changes,
    }
    return Observation(**fields)


def price(**changes: Any) -> Price | PriceUnknown:  # noqa: ANN401 - of any field's type
    """Return what is said the first time, which must be what is said the second."""
    prices = GenaiPrices()
    first = prices.price(observe(**changes), AT)

    assert prices.price(observe(**changes), AT) == first

    return first


def test_a_report_is_priced_to_the_last_digit_with_its_source() -> None:
    """800 at 2.50, 200 cached at 1.25 and 100 at 10.00 dollars for a million."""
    expected = Price(
        amount=Decimal("0.00325"),
        currency="USD",
        data={
            "list": "genai-prices",
            "version": genai_prices.__version__,
            "model": "openai/gpt-4o",
        },
    )

    assert expected == price()


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        pytest.param("unknown_provider", {"provider": "acme"}, id="provider"),
        pytest.param("unknown_model", {"model": "gpt-99"}, id="model"),
        pytest.param("unknown_model", {"model": None}, id="no-model"),
        pytest.param("unknown_tier", {"service_tier": "scale"}, id="tier"),
        pytest.param("unreadable_usage", {"usage": {}}, id="no-usage"),
        pytest.param("unreadable_usage", {"flavor": "acme"}, id="flavor"),
        pytest.param(
            "unreadable_usage",
            {"usage": {"prompt_tokens": 1, "completion_tokens": -1}},
            id="negative",
        ),
        pytest.param(
            "unreadable_usage",
            {"usage": {"prompt_tokens": "1", "completion_tokens": 1}},
            id="text",
        ),
        pytest.param(
            "unreadable_usage",
            {"usage": {"prompt_tokens": True, "completion_tokens": 1}},
            id="bool",
        ),
        pytest.param("unreadable_usage", {"usage": {"prompt_tokens": 1}}, id="missing"),
        pytest.param(
            "unreadable_usage",
            {"usage": {**CHAT, "prompt_tokens_details": {"cached_tokens": 1001}}},
            id="more-cached-than-tokens",
        ),
        pytest.param(
            "unreadable_usage",
            {"flavor": None, "usage": {"page": 3}},
            id="unit-of-another-world",
        ),
        pytest.param(
            "no_unit_price",
            {"flavor": None, "usage": {"input_tokens": 9, "audio_seconds": 1}},
            id="a-part-without-price",
        ),
    ],
)
def test_what_is_not_known_has_a_reason_and_no_price(
    reason: str, changes: dict[str, Any]
) -> None:
    """Unpriced is neither zero nor a guess."""
    answer = price(**changes)

    assert isinstance(answer, PriceUnknown)
    assert reason == answer.reason


def test_a_client_of_an_unknown_address_has_a_reason_of_its_own() -> None:
    """The list has no provider ``unknown``, and says so in words that lead on."""
    assert price(provider=UNKNOWN_PROVIDER) == PriceUnknown(
        "unknown_provider", "the address is of no known provider"
    )


def test_one_absurd_report_does_not_spoil_the_next() -> None:
    """Which counts contradict each other is no property of the model."""
    prices = GenaiPrices()
    absurd = {**CHAT, "prompt_tokens_details": {"cached_tokens": 1001}}

    first = prices.price(observe(usage=absurd), AT)
    second = prices.price(
        observe(usage={**CHAT, "prompt_tokens_details": {"cached_tokens": 200}}), AT
    )
    third = prices.price(observe(usage=absurd), AT)

    assert isinstance(second, Price)
    assert Decimal("0.00325") == second.amount
    assert isinstance(first, PriceUnknown)
    assert first == third


@pytest.mark.parametrize(
    ("tier", "amount"),
    [
        pytest.param(None, "0.00325", id="none"),
        pytest.param("default", "0.00325", id="default"),
        pytest.param("batch", "0.00175", id="batch"),
        pytest.param("priority", "0.005525", id="priority"),
    ],
)
def test_the_service_tier_decides(tier: str | None, amount: str) -> None:
    """A batch costs half, cached tokens excepted; priority costs 1.7 times as much."""
    answer = price(service_tier=tier)

    assert isinstance(answer, Price)
    assert Decimal(amount) == answer.amount


def test_the_time_of_the_call_decides() -> None:
    """A cost of last year is priced by last year's list, whatever came first."""
    amounts: dict[int, set[Decimal]] = {}
    prices = GenaiPrices()
    provider, model = dated_model()
    for year in (2026, 2020, 2026, 2020):
        at = AT.replace(year=year)
        usage = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
        answer = prices.price(
            observe(provider=provider.id, model=model.id, flavor=None, usage=usage), at
        )
        assert isinstance(answer, Price)
        amounts.setdefault(year, set()).add(answer.amount)
        straight = model.calc_price(
            genai_prices.Usage(**usage), provider, genai_request_timestamp=at
        )
        assert straight.total_price == answer.amount

    assert [len(found) for found in amounts.values()] == [1, 1]
    assert amounts[2020] != amounts[2026]


def dated_model() -> tuple[Provider, ModelInfo]:
    """Return a model whose price changed, and that its own id finds."""
    usage = genai_prices.Usage(input_tokens=1, output_tokens=1)
    for provider in get_snapshot().providers:
        for model in provider.models:
            if (
                isinstance(model.prices, list)
                and provider.find_model(model.id) is model
            ):
                then, now = (
                    model.calc_price(
                        usage, provider, genai_request_timestamp=AT.replace(year=year)
                    ).total_price
                    for year in (2020, 2026)
                )
                if then != now and then and now:
                    return provider, model
    raise AssertionError


def test_the_application_s_decimal_context_changes_nothing() -> None:
    """A program that counts with three digits still tracks exact amounts."""
    with localcontext(Context(prec=3, traps=[Inexact])):
        answer = price(usage={"prompt_tokens": 1_234_567, "completion_tokens": 7})

    assert isinstance(answer, Price)
    assert Decimal("3.0864875") == answer.amount


def test_hours_are_priced_to_28_digits() -> None:
    """A third of a cent has no end: genai-prices' own digits are taken."""
    answer = price(
        provider="groq",
        model="whisper-large-v3",
        flavor=None,
        usage={"input_audio_seconds": 100, "audio_seconds": 100},
    )

    assert isinstance(answer, Price)
    assert Decimal("0.111") * 100 / 3600 == answer.amount


def test_amounts_have_neither_exponents_nor_zeros_at_their_end() -> None:
    """They are read by people."""
    answer = price(usage={"prompt_tokens": 40_000_000, "completion_tokens": 0})

    assert isinstance(answer, Price)
    assert str(answer.amount) == "100"


def test_a_newer_list_is_used_at_once_and_named(
    request: pytest.FixtureRequest,
) -> None:
    """The updater puts a newer list in place of the old one, at any moment."""
    prices = GenaiPrices()
    bundled = get_snapshot()
    assert isinstance(prices.price(observe(), AT), Price)

    request.addfinalizer(lambda: set_custom_snapshot(None))
    set_custom_snapshot(
        DataSnapshot(
            providers=[each for each in bundled.providers if each.id == "openai"],
            from_auto_update=True,
            timestamp=datetime(2026, 11, 19, 8),  # noqa: DTZ001 - as the package does
        )
    )
    newer = prices.price(observe(), AT)
    gone = prices.price(observe(provider="anthropic", flavor="default"), AT)

    assert isinstance(newer, Price)
    assert newer.data["updated"].startswith("2026-11-1")
    assert isinstance(gone, PriceUnknown)


def test_without_the_extra_there_is_no_price_but_a_hint() -> None:
    """The package is optional; captured costs wait until it is installed."""
    program = """
import sys
sys.modules["genai_prices"] = None
from datetime import UTC, datetime
from outlay import Settings
from outlay._capture.observation import Observation
from outlay._capture.pricing.configured_lists import configured_prices
seen = Observation(provider="openai", event_type="c", model="gpt-4o", flavor="chat")
print(*configured_prices(Settings()).price(seen, datetime.now(UTC))[:2])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=40,
    )

    assert "missing_extra" in ran.stdout
    assert "pip install '.[pricing]'" in ran.stdout


def test_importing_outlay_loads_no_price_list() -> None:
    """Who only tracks pays nothing for pricing."""
    program = (
        "import sys, outlay, outlay._capture.recorder; "
        "print({'genai_prices'} & {*sys.modules})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=40,
    )

    assert ran.stdout == "set()\n"


def models() -> list[tuple[Provider, ModelInfo]]:
    """Return all that genai-prices knows."""
    return [(p, model) for p in get_snapshot().providers for model in p.models]


COUNTS: Final = st.integers(0, 3_000_000) | st.sampled_from([0, 200_000, 272_001])


@pytest.mark.slow
@settings(max_examples=1000)
@given(
    st.sampled_from(models()),
    st.lists(st.sampled_from(sorted(PRICES.units)), max_size=3, unique=True),
    st.data(),
    st.sampled_from([None, "default", "batch", "priority"]),
)
def test_every_price_is_the_one_that_genai_prices_tells(
    subject: tuple[Provider, ModelInfo],
    units: list[str],
    data: st.DataObject,
    tier: str | None,
) -> None:
    """Ours is faster, not different: later calls go by what the first one taught."""
    provider, model = subject
    for _ in range(3):
        usage = {unit: data.draw(COUNTS, unit) for unit in units}
        for whole in ("input_tokens", "output_tokens"):  # more than all of its parts
            usage[whole] = sum(usage.values()) + data.draw(COUNTS, whole)
        observation = observe(
            provider=provider.id,
            model=model.id,
            flavor=None,
            usage=usage,
            service_tier=tier,
        )
        answer = PRICES.price(observation, AT)

        if isinstance(answer, Price):
            assert straight(provider, model.id, usage, tier) == answer.amount


def test_prices_by_the_token_are_worked_out_without_asking_again() -> None:
    """A list that always asked would be right, too, and twenty times slower."""
    registry = UnitRegistry(unit_data)
    counts = {"input_tokens": 300_001, "output_tokens": 500, "cache_read_tokens": 1000}
    linear = 0
    for provider, model in models():
        price = model.get_prices(AT)
        rates = LinearPrice.from_price(price, registry, list(counts))
        if rates is not None:
            linear += 1
            straight = model.calc_price(
                genai_prices.Usage(**counts), provider, genai_request_timestamp=AT
            )
            assert straight.total_price == rates.amount(counts), model.id

    assert linear > 0.95 * len(models())


def test_the_tier_changes_after_its_first_token() -> None:
    """Where a tier starts at 200,000 tokens, so many still cost the lower price."""
    provider, model, start = next(
        (provider, model, price.tiers[0].start)
        for provider, model in models()
        if isinstance(price := model.get_prices(AT).input_mtok, TieredPrices)
        and provider.find_model(model.id) is model
    )
    prices = GenaiPrices()
    for count in (1, start - 1, start, start + 1, 10 * start):
        usage = {"input_tokens": count, "output_tokens": 7}
        answer = prices.price(
            observe(provider=provider.id, model=model.id, flavor=None, usage=usage), AT
        )

        assert isinstance(answer, Price)
        assert straight(provider, model.id, usage, None) == answer.amount


@given(
    st.dictionaries(st.sampled_from(sorted(PRICES.units)), COUNTS, min_size=1),
    st.sampled_from(["gpt-4o", "gpt-4o-audio-preview", "gpt-5.5", "gpt-realtime"]),
)
def test_usage_that_contradicts_itself_is_refused_as_genai_prices_does(
    usage: dict[str, int], model: str
) -> None:
    """Parts may be more than their whole in a report; no amount comes of it."""
    provider = get_snapshot().find_provider(None, "openai", None)
    answer = PRICES.price(observe(model=model, flavor=None, usage=usage), AT)

    if isinstance(answer, Price):
        assert straight(provider, model, usage, None) == answer.amount


def straight(
    provider: Provider, model_ref: str, usage: dict[str, int], tier: str | None
) -> Decimal:
    """Return what genai-prices says when asked by its public function."""
    names = ("service_tier", "processing", "speed")
    return genai_prices.calc_price(
        genai_prices.Usage(**usage),
        model_ref,
        provider_id=provider.id,
        genai_request_timestamp=AT,
        price_context=dict.fromkeys(names, tier) if tier else None,
    ).total_price
