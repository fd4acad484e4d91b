"""An application of Flask that tracks a cost in each request.

``GET /{number}`` tracks cost ``number`` in one of several ways, and answers with the
worker's process id. The number also says which customer's user asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import Flask, Request, Response, g, request, stream_with_context

import outlay
from outlay.integrations.flask import Outlay
from tests.integrations.customers import answer, customer_of, spend

if TYPE_CHECKING:
    from collections.abc import Iterator

WAYS: Final = ("view", "stream", "set", "set-stream", "context-stream")

app = Flask(__name__)


def customer_of_request(_: Request) -> str | None:
    """Return the customer of a request, unless its code will set it."""
    return None if "set" in g.way else g.customer


Outlay(app, customer=customer_of_request)


@app.before_request
def authenticate() -> None:
    """Authenticate after the extension was created, as programs do."""
    assert request.view_args is not None
    number = request.view_args["number"]
    g.way = WAYS[number % len(WAYS)]
    g.customer = customer_of(number)


@app.get("/<int:number>")
def view(number: int) -> Response:
    """Track in the view or in the body."""
    if "set" in g.way:
        outlay.set_customer(g.customer)
    if "stream" not in g.way:
        spend(number)
        return Response(answer())

    def body() -> Iterator[bytes]:
        yield b" "
        spend(number)
        yield answer()

    return Response(
        stream_with_context(body()) if g.way == "context-stream" else body()
    )
