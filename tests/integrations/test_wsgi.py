"""Requests of WSGI applications and Flask belong to their own customers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from flask import Flask
from packaging.version import Version

import outlay
from outlay.integrations.flask import Outlay
from outlay.integrations.wsgi import WSGIMiddleware
from tests.integrations import flask_application
from tests.integrations.customers import CUSTOMERS, customer_of, spend, totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from outlay.testing import Costs

_REQUESTS: Final = range(1, 61)

# Earlier releases of Flask let a body of `stream_with_context` keep its request on the
# thread until it is read, and fail if another request began there in between.
_BODIES_OVERLAP: Final = Version(version("flask")) >= Version("3.1.2")


def _call(app: Any, number: int, **environ: object) -> Iterable[bytes]:  # noqa: ANN401 - any WSGI application
    """Return the body that the application returns for a request, not read yet."""
    variables: dict[str, Any] = {"PATH_INFO": f"/{number}", "number": number, **environ}
    setup_testing_defaults(variables)
    body: Iterable[bytes] = app(variables, lambda *_: None)
    return body


def _read(body: Iterable[bytes]) -> bytes:
    content = b"".join(body)
    close = getattr(body, "close", None)
    if close is not None:
        close()
    return content


def test_flask_requests_at_the_same_time_belong_to_their_own_customers(
    costs: Costs,
) -> None:
    """In views, in streamed bodies, and where the view sets the customer.

    The bodies of several requests are read by turns, on the same threads.
    """

    def visit(numbers: range) -> None:
        bodies = (_call(flask_application.app, number) for number in numbers)
        for body in [*bodies] if _BODIES_OVERLAP else bodies:
            assert _read(body).strip().isdigit()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(visit, [_REQUESTS[n : n + 6] for n in range(0, 60, 6)]))

    expected = totals(_REQUESTS)
    assert {each: costs.total(customer=each) for each in CUSTOMERS} == expected
    assert len(costs.events) == len(_REQUESTS)


def test_flask_is_set_up_once_however_often_that_is_asked(costs: Costs) -> None:
    """Factories of applications are called by many tests."""
    app = Flask(__name__)
    asked = []
    extension = Outlay(customer=lambda request: asked.append(request.path))
    for _ in range(2):
        extension.init_app(app)

    app.test_client().get("/nowhere")

    assert asked == ["/nowhere"]
    assert costs.events == []


def _streamed(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:  # noqa: ANN401 - WSGI
    start_response("200 OK", [])
    try:
        yield b"first"
        spend(environ["number"])
    finally:
        spend(environ["number"] + 1000)


def _customer(environ: dict[str, Any]) -> str:
    return customer_of(environ["number"])


async def _customer_later(environ: dict[str, Any]) -> str:
    return customer_of(environ["number"])


@pytest.mark.parametrize("customer", [_customer, _customer_later])
def test_a_streamed_body_keeps_its_customer(
    costs: Costs, customer: Callable[[dict[str, Any]], str]
) -> None:
    """Also when the server closes it, because the visitor has gone."""
    app = WSGIMiddleware(_streamed, customer=customer)
    read, left = _call(app, 1), _call(app, 2)
    next(iter(left))
    _read(read)
    left.close()  # type: ignore[attr-defined]

    found = {(event.subject, str(event.data["operationId"])) for event in costs.events}
    assert found == {
        (customer_of(1), "op-1"),
        (customer_of(1), "op-1001"),
        (customer_of(2), "op-1002"),
    }


def test_bodies_without_code_are_returned_as_they_are() -> None:
    """Servers take the length of a list, and send a file without reading it."""
    ready = [b"all"]
    file = FileWrapper(iter([b""]))  # type: ignore[arg-type]

    assert _call(WSGIMiddleware(lambda *_: ready), 1) is ready
    app = WSGIMiddleware(lambda *_: file)
    assert _call(app, 1, **{"wsgi.file_wrapper": FileWrapper}) is file


def test_a_request_leaves_nothing_on_its_thread(costs: Costs) -> None:
    """The next request on it is of another customer, or of none."""
    app = WSGIMiddleware(_streamed, customer=_customer)
    body = iter(_call(app, 1))
    next(body)
    spend(7)

    with pytest.raises(LookupError):
        _call(WSGIMiddleware(_failing, customer=_customer), 2)
    spend(8)

    assert {event.subject for event in costs.events} == {"unattributed"}
    body.close()  # type: ignore[attr-defined]


def _failing(*_: object) -> list[bytes]:
    outlay.set_customer("cus_other")
    raise LookupError
