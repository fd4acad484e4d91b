"""LiteLLM's helpers, which call in threads of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import litellm

import outlay
from tests.frameworks.fake_providers import gpt_4o

if TYPE_CHECKING:
    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders


def asked(number: int) -> list[dict[str, str]]:
    """Return the messages of a customer."""
    return [{"role": "user", "content": f"cus_{number}"}]


def test_a_batch_of_completions(providers: FakeProviders, costs: Costs) -> None:
    """Its threads get the customer of the code that called it."""
    with providers.meeting(3), outlay.attribute(customer_id="cus_2"):
        litellm.batch_completion("openai/gpt-4o", messages=[asked(2)] * 3)

    assert costs.total() == costs.total(customer="cus_2") == 3 * gpt_4o(2)


def test_several_models_at_once(providers: FakeProviders, costs: Costs) -> None:
    """All responses are billed, also those that come too late to be used."""
    models = ["openai/gpt-4o", "openai/gpt-4o-2024-08-06"]

    with providers.meeting(2), outlay.attribute(customer_id="cus_1"):
        litellm.batch_completion_models(models=models, messages=asked(1))
        litellm.batch_completion_models_all_responses(models=models, messages=asked(1))

    assert costs.total() == costs.total(customer="cus_1") == 4 * gpt_4o(1)
