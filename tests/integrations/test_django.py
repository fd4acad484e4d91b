"""Requests to Django belong to their own customers, under WSGI and ASGI."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from asgiref.sync import markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import FileResponse, StreamingHttpResponse
from django.test import Client, RequestFactory, override_settings

import outlay
from outlay.integrations import django as integration
from tests.integrations import django_application as application
from tests.integrations.customers import CUSTOMERS, customer_of, spend, totals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest

    from outlay.testing import Costs

_REQUESTS: Final = range(1, 61)
_CALLBACKS: Final = ("customer_of_request", "customer_of_request_later")


@pytest.fixture(params=_CALLBACKS)
def callback(request: pytest.FixtureRequest) -> Iterator[None]:
    """Use a callback of either kind."""
    path = f"{application.__name__}.{request.param}"
    with override_settings(OUTLAY={"CUSTOMER": path}):
        yield


def _paths(ways: tuple[str, ...]) -> list[str]:
    return [f"/{ways[number % len(ways)]}/{number}" for number in _REQUESTS]


def _check(costs: Costs) -> None:
    expected = totals(_REQUESTS)
    assert {each: costs.total(customer=each) for each in CUSTOMERS} == expected
    assert len(costs.events) == len(_REQUESTS)


@pytest.mark.usefixtures("callback")
def test_requests_under_wsgi_belong_to_their_own_customers(costs: Costs) -> None:
    """In views of both kinds and in lazy bodies, several of which are open at once."""

    def visit(paths: list[str]) -> None:
        client = Client()
        for response in [client.get(path) for path in paths]:
            assert response.status_code == 200
            assert b"".join(response).strip().isdigit()

    paths = _paths(application.WAYS)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(visit, [paths[n : n + 6] for n in range(0, 60, 6)]))

    _check(costs)


@pytest.mark.usefixtures("callback")
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous")
def test_requests_under_asgi_belong_to_their_own_customers(costs: Costs) -> None:
    """In views of both kinds, and in bodies of asynchronous generators."""
    app = application.asgi

    async def visit() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://app"
        ) as client:
            paths = _paths(application.ASYNC_WAYS)
            for response in await asyncio.gather(*map(client.get, paths)):
                response.raise_for_status()

    asyncio.run(visit())

    _check(costs)


def test_a_body_that_is_closed_early_keeps_its_customer(costs: Costs) -> None:
    """Its generator may track what was consumed when the visitor goes away."""

    def view(_: HttpRequest) -> Any:  # noqa: ANN401 - Django has no types
        def body() -> Iterator[bytes]:
            try:
                yield b"first"
            finally:
                spend(1)

        return StreamingHttpResponse(body())

    response: Any = integration.OutlayMiddleware(view)(RequestFactory().get("/view/1"))
    next(iter(response))
    response.close()

    assert [event.subject for event in costs.events] == [customer_of(1)]


def test_files_are_left_to_the_server() -> None:
    """Servers send an open file faster than any iterator."""
    with Path(__file__).open("rb") as file:
        sent = FileResponse(file)
        app = integration.OutlayMiddleware(lambda _: sent)

        response: Any = app(RequestFactory().get("/view/1"))

        assert response is sent
        assert response.file_to_stream is file


def _fail(_: HttpRequest) -> str:
    raise LookupError


@override_settings(OUTLAY={"CUSTOMER": _fail})  # type: ignore[untyped-decorator]
def test_a_callback_that_fails_does_not_fail_the_request(costs: Costs) -> None:
    """Under WSGI and ASGI."""
    before = outlay.stats().capture_errors.get("django customer: LookupError", 0)

    def view(_: HttpRequest) -> str:
        spend(1)
        return "done"

    async def async_view(request: HttpRequest) -> str:
        return view(request)

    request = RequestFactory().get("/view/1")
    later: Any = integration.OutlayMiddleware(markcoroutinefunction(async_view))(
        request
    )

    assert integration.OutlayMiddleware(view)(request) == "done"
    assert asyncio.run(later) == "done"
    counted = outlay.stats().capture_errors["django customer: LookupError"]
    assert counted == before + 2
    assert {event.subject for event in costs.events} == {"unattributed"}


def test_settings_configure_the_client(tmp_path: Path) -> None:
    """Once in a process, and a mistake in them stops the start of the application."""
    integration._configure_once.cache_clear()
    with (
        override_settings(OUTLAY={"JOURNAL_DIR": tmp_path, "SHIPING": "none"}),
        pytest.raises(ImproperlyConfigured, match=r"OUTLAY: .*shiping"),
    ):
        integration.OutlayMiddleware(lambda _: None)

    with override_settings(OUTLAY={"JOURNAL_DIR": tmp_path, "SHIPPING": "none"}):
        integration.OutlayMiddleware(lambda _: None)
    configured = outlay.default_client()
    integration.OutlayMiddleware(lambda _: None)

    assert configured.settings.journal_dir == tmp_path
    assert outlay.default_client() is configured
    outlay.close(0)
