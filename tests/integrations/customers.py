"""The customers of the applications under test, and what their requests cost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import outlay
from tests.support.events import EVENT_TYPE, amount_of, total_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from outlay.integrations.asgi import ASGIApp, Receive, Scope, Send

CUSTOMERS: Final = tuple(f"cus_{number}" for number in range(5))


def customer_of(number: int) -> str:
    """Return the customer that request ``number`` is of."""
    return CUSTOMERS[number % len(CUSTOMERS)]


def spend(number: int) -> None:
    """Track the cost of request ``number``, for the customer of the running code."""
    outlay.track_cost(
        EVENT_TYPE, amount_of(number), operation_id=f"op-{number}", provider="anthropic"
    )


def answer() -> bytes:
    """Return the answer of a request."""
    return str(os.getpid()).encode()


def totals(numbers: Iterable[int]) -> Mapping[str, Decimal]:
    """Return each customer's total of the requests ``numbers``."""
    asked = [*numbers]
    return {
        customer: total_of(each for each in asked if customer_of(each) == customer)
        for customer in CUSTOMERS
    }


def customer_of_request(request: Any) -> str | None:  # noqa: ANN401 - of any framework
    """Return the customer of a request, unless its code will set it."""
    way, number = request.scope["path"].strip("/").split("/")
    return None if way in ("set", "yield", "async-yield") else customer_of(int(number))


def by_number(app: ASGIApp, ways: tuple[str, ...]) -> ASGIApp:
    """Return an application that serves ``GET /{number}`` in the ways by turns."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = "/" + ways[int(scope["path"][1:]) % len(ways)] + scope["path"]
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await app(scope, receive, send)

    return dispatch
