"""Instructor, which asks again until a response is valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import instructor
import openai
from pydantic import BaseModel, Field

from tests.frameworks.concurrently import (
    CUSTOMERS,
    assert_each_paid,
    in_tasks,
    in_threads,
)
from tests.frameworks.fake_providers import gpt_4o

if TYPE_CHECKING:
    from outlay.testing import Costs
    from tests.frameworks.fake_providers import FakeProviders


class Invoice(BaseModel):
    """The structure that is asked for."""

    total: int = Field(gt=0)


VALID = '{"total": 7}'
INVALID = '{"total": -1}'


def test_calls_in_threads(providers: FakeProviders, costs: Costs) -> None:
    """A response that is refused is billed, as the one that follows it."""
    providers.texts = [INVALID] * len(CUSTOMERS) + [VALID] * len(CUSTOMERS)
    client = instructor.from_openai(openai.OpenAI(), mode=instructor.Mode.JSON)

    def ask(number: int) -> None:
        invoice = client.chat.completions.create(
            model="gpt-4o",
            response_model=Invoice,
            max_retries=1,
            messages=[{"role": "user", "content": f"cus_{number}"}],
        )
        assert invoice.total == 7

    in_threads(providers, ask)

    assert_each_paid(costs, gpt_4o, calls=2)


def test_calls_in_tasks(providers: FakeProviders, costs: Costs) -> None:
    """With the asynchronous client."""
    providers.texts = [VALID] * len(CUSTOMERS)

    async def ask(number: int) -> None:
        client = instructor.from_openai(openai.AsyncOpenAI(), mode=instructor.Mode.JSON)
        await client.chat.completions.create(
            model="gpt-4o",
            response_model=Invoice,
            messages=[{"role": "user", "content": f"cus_{number}"}],
        )

    in_tasks(providers, ask)

    assert_each_paid(costs, gpt_4o)
