"""The callback of a LiteLLM proxy: whose calls they are, and each counted once.

The calls have the metadata that the proxy fills in after it has checked a key.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import pytest

import outlay
from outlay._capture.providers.litellm import LIBRARY
from tests.capture.providers.test_litellm import (  # noqa: F401 - fixtures
    MESSAGES,
    Told,
    async_client,
    litellm,
    loop,
    pytestmark,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outlay.testing import Costs

_PRICE: Final = "0.00325"  # 800 and 200 cached input tokens, and 100 output tokens

_KEY: Final = {"user_api_key_metadata": {"outlay_customer_id": "cus_key"}}
_TEAM: Final = {
    "user_api_key_metadata": {},
    "user_api_key_team_metadata": {"outlay_customer_id": "cus_team"},
    "user_api_key_team_id": "team-1",
}
_STRANGER: Final = {"outlay_customer_id": "cus_victim", "user": "cus_victim"}


@pytest.fixture(params=[(), ("openai",), (None,)], ids=["alone", "openai", "all"])
def captured(
    request: pytest.FixtureRequest,
    litellm: Any,  # noqa: F811 - the fixture
) -> Iterator[Any]:
    """Load the callback as a proxy does, beside captured clients or alone."""
    integration = import_module("outlay.integrations.litellm")
    handler = integration.make_handler()
    for name in request.param:
        outlay.instrument(name)
    litellm.callbacks.append(handler)  # as the proxy, from its configuration
    yield integration
    litellm.callbacks.remove(handler)
    outlay.uninstrument()


def _ask(litellm: Any, told: Callable[[], Told], *metadata: dict[str, Any]) -> None:  # noqa: F811
    """Make a call for each request that the proxy gets, at the same time."""
    heard = told()

    async def ask(each: dict[str, Any]) -> None:
        await litellm.acompletion(
            model="gpt-4o", messages=MESSAGES, client=async_client(), metadata=each
        )

    async def ask_all() -> None:
        await asyncio.gather(*map(ask, metadata))
        for _ in metadata:
            await asyncio.to_thread(heard.wait)

    asyncio.run(ask_all())


@pytest.mark.usefixtures("captured")
def test_calls_belong_to_the_key_or_its_team(
    litellm: Any,  # noqa: F811
    told: Callable[[], Told],  # noqa: F811
    costs: Costs,
) -> None:
    """And what a client sends by itself names no customer."""
    _ask(litellm, told, _KEY, _TEAM, _STRANGER, {**_KEY, **_STRANGER})

    costs.assert_total(_PRICE, customer="cus_team")
    costs.assert_total("0.00650", customer="cus_key")
    costs.assert_total(_PRICE, customer="unattributed")
    assert len(costs.events) == 4


def test_a_program_names_another_field_to_trust(
    litellm: Any,  # noqa: F811
    told: Callable[[], Told],  # noqa: F811
    costs: Costs,
    captured: Any,
) -> None:
    """A proxy whose teams are customers."""
    captured.make_handler(customer=lambda key: key["user_api_key_team_id"])

    _ask(litellm, told, _TEAM)

    costs.assert_total(_PRICE, customer="team-1")
    assert len(costs.events) == 1


def test_a_function_that_fails_does_not_fail_the_call(
    litellm: Any,  # noqa: F811
    told: Callable[[], Told],  # noqa: F811
    costs: Costs,
    captured: Any,
) -> None:
    """The call is tracked without a customer."""
    captured.make_handler(customer=lambda key: key["nothing"])

    _ask(litellm, told, _TEAM)

    costs.assert_total(_PRICE, customer="unattributed")
    assert outlay.stats().capture_errors["litellm: KeyError"] >= 1


def test_the_configured_name_is_a_callback(
    litellm: Any,  # noqa: F811
    captured: Any,
) -> None:
    """The proxy imports ``outlay.integrations.litellm.handler`` by that text."""
    kind = litellm.integrations.custom_logger.CustomLogger

    assert isinstance(captured.handler, kind)
    assert isinstance(captured.make_handler(), kind)
    assert LIBRARY.callbacks.customer_of is not None
