"""An application of Django that tracks a cost in each request, for WSGI and ASGI.

``GET /{number}`` tracks cost ``number`` in one of several ways, and answers with the
worker's process id. The number also says which customer's user asks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

import outlay
from tests.integrations.customers import answer, by_number, customer_of, spend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from django.http.response import HttpResponseBase

WAYS: Final = ("view", "stream", "set", "set-stream", "async/view", "async/set")
ASYNC_WAYS: Final = (*WAYS, "async/stream", "async/set-stream")


def _number(request: HttpRequest) -> int:
    return int(request.path.strip("/").split("/")[-1])


def customer_of_request(request: HttpRequest) -> str | None:
    """Return the customer of a request, unless its code will set it."""
    if "set" in request.path:
        return None
    return customer_of(_number(request))


async def customer_of_request_later(request: HttpRequest) -> str | None:
    """Do the same, on the event loop."""
    await asyncio.sleep(0)
    return customer_of_request(request)


def _view(_: HttpRequest, way: str, number: int) -> HttpResponseBase:
    if "set" in way:
        outlay.set_customer(customer_of(number))
    if "stream" not in way:
        spend(number)
        return HttpResponse(answer())

    def body() -> Iterator[bytes]:
        yield b" "
        spend(number)
        yield answer()

    return StreamingHttpResponse(body())


async def _async_view(_: HttpRequest, way: str, number: int) -> HttpResponseBase:
    await asyncio.sleep(0)
    if "set" in way:
        outlay.set_customer(customer_of(number))
    if "stream" not in way:
        spend(number)
        return HttpResponse(answer())

    async def body() -> AsyncIterator[bytes]:
        yield b" "
        await asyncio.sleep(0)
        spend(number)
        yield answer()

    return StreamingHttpResponse(body())


urlpatterns = [
    path("<str:way>/<int:number>", _view),
    path("async/<str:way>/<int:number>", _async_view),
]


settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["outlay.integrations.django.OutlayMiddleware"],
    OUTLAY={"CUSTOMER": f"{__name__}.customer_of_request"},
)
django.setup()

wsgi = WSGIHandler()
asgi = ASGIHandler()


def wsgi_site(environ: WSGIEnvironment, start_response: StartResponse) -> Any:  # noqa: ANN401 - Django has no types
    """Serve ``GET /{number}`` in the ways by turns."""
    number = int(environ["PATH_INFO"].strip("/"))
    way = WAYS[number % len(WAYS)]
    return wsgi({**environ, "PATH_INFO": f"/{way}/{number}"}, start_response)


asgi_site = by_number(asgi, ASYNC_WAYS)
