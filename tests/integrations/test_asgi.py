"""Requests of ASGI frameworks belong to their own customers."""

from __future__ import annotations

import asyncio
import operator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.testclient import TestClient

import outlay
from outlay.integrations.asgi import OutlayMiddleware
from tests.integrations import fastapi_application, litestar_application
from tests.integrations.customers import CUSTOMERS, customer_of, spend, totals

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from outlay.testing import Costs

_REQUESTS = range(1, 61)


async def _visit(app: Any, paths: list[str]) -> list[str]:  # noqa: ANN401 - any framework
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        responses = await asyncio.gather(*map(client.get, paths))
    return [response.raise_for_status().text.strip() for response in responses]


@pytest.mark.parametrize(
    ("app", "ways"),
    [
        pytest.param(
            fastapi_application.fastapi,
            (*fastapi_application.WAYS, "background"),
            id="fastapi",
        ),
        pytest.param(
            fastapi_application.starlette,
            ("async",),
            id="starlette, between two BaseHTTPMiddlewares",
        ),
        pytest.param(
            litestar_application.app, litestar_application.WAYS, id="litestar"
        ),
    ],
)
def test_requests_at_the_same_time_belong_to_their_own_customers(
    costs: Costs,
    app: Any,  # noqa: ANN401 - of any framework
    ways: tuple[str, ...],
) -> None:
    """In coroutines, threads, dependencies, streamed bodies and background tasks."""
    paths = [f"/{ways[number % len(ways)]}/{number}" for number in _REQUESTS]

    asyncio.run(_visit(app, paths))

    expected = totals(_REQUESTS)
    assert {each: costs.total(customer=each) for each in CUSTOMERS} == expected
    assert len(costs.events) == len(_REQUESTS)


def test_a_web_socket_belongs_to_its_customer(costs: Costs) -> None:
    """Two are open at the same time."""
    with (
        TestClient(fastapi_application.fastapi) as client,
        client.websocket_connect("/socket/1") as one,
        client.websocket_connect("/socket/2") as two,
    ):
        for socket in (two, one):
            socket.send_text("go")
            socket.receive_text()

    assert [event.subject for event in costs.events] == [customer_of(2), customer_of(1)]


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what outlay has logged."""
    return [each for each in caplog.records if each.name == "outlay"]


async def _track(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    del scope, receive
    spend(1)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def _fail_later(scope: object) -> str:
    raise LookupError(scope)


@pytest.mark.parametrize(
    ("customer", "kind"),
    [
        pytest.param(operator.itemgetter("user"), "KeyError", id="raises"),
        pytest.param(_fail_later, "LookupError", id="raises on the loop"),
        pytest.param(lambda _: " ", "InvalidEventError", id="blank"),
        pytest.param(lambda _: 7, "InvalidEventError", id="no text"),
    ],
)
def test_a_callback_that_fails_does_not_fail_the_request(
    costs: Costs,
    caplog: pytest.LogCaptureFixture,
    customer: Callable[[object], str],
    kind: str,
) -> None:
    """It is counted each time, and logged once, without the message of the error."""
    app = OutlayMiddleware(_track, customer=customer)
    counted = f"asgi customer: {kind}"
    before = outlay.stats().capture_errors.get(counted, 0)

    asyncio.run(_visit(app, ["/secret", "/secret"]))

    assert outlay.stats().capture_errors[counted] == before + 2
    assert sum(counted in each.message for each in ours(caplog)) <= 1
    assert "secret" not in "".join(each.message for each in ours(caplog))
    assert {event.subject for event in costs.events} == {"unattributed"}


def test_without_a_callback_the_outer_customer_remains(costs: Costs) -> None:
    """A program that serves one customer has set it elsewhere."""
    with outlay.attribute(customer_id="cus_outer"):
        asyncio.run(_visit(OutlayMiddleware(_track), ["/"]))

    assert [event.subject for event in costs.events] == ["cus_outer"]


def test_a_callback_may_return_more_than_the_customer(costs: Costs) -> None:
    """The region and dimensions are often known of the same user."""
    scope = outlay.attribute(customer_id="cus_1", plan="pro")
    app = OutlayMiddleware(_track, customer=lambda _: scope)

    asyncio.run(_visit(app, ["/"]))

    [event] = costs.events_where(customer="cus_1")
    assert event.data["plan"] == "pro"


def test_what_a_stranger_sends_is_no_attribution(costs: Costs) -> None:
    """Anyone on the network could name any customer in outlay's own header."""
    with outlay.attribute(customer_id="cus_victim"):
        headers = outlay.propagation.inject()

    async def visit() -> None:
        transport = httpx.ASGITransport(
            OutlayMiddleware(_track, customer=lambda _: None)
        )
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://app/", headers=headers)

    asyncio.run(visit())

    assert [event.subject for event in costs.events] == ["unattributed"]


def test_tasks_of_a_request_do_not_change_each_others_customer(costs: Costs) -> None:
    """A request that works for several customers has a task for each."""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        async def work(number: int) -> None:
            outlay.set_customer(customer_of(number))
            await asyncio.sleep(0)
            spend(number)

        await asyncio.gather(work(2), work(3))
        await _track(scope, receive, send)

    asyncio.run(_visit(OutlayMiddleware(app, customer=lambda _: "cus_own"), ["/"]))

    subjects = [event.subject for event in costs.events]
    assert subjects == [customer_of(2), customer_of(3), "cus_own"]
