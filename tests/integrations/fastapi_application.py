"""Applications of FastAPI and Starlette that track a cost in each request.

``GET /{way}/{number}`` tracks cost ``number`` in the
way that is named, and answers with the worker's process id. The number also says which
customer's user asks: see `customer_of`.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import outlay
from outlay.integrations.fastapi import OutlayMiddleware
from tests.integrations.customers import (
    answer,
    by_number,
    customer_of,
    customer_of_request,
    spend,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response

WAYS = ("async", "sync", "set", "yield", "async-yield", "stream", "async-stream")
"""The ways whose cost is tracked before the answer arrives."""


async def customer_of_connection(request: HTTPConnection) -> str | None:
    """Do the same, on the event loop."""
    await asyncio.sleep(0)
    return customer_of_request(request)


fastapi = FastAPI()


@fastapi.get("/async/{number}")
async def in_coroutine(number: int) -> int:
    """Track in a coroutine, beside others."""
    await asyncio.sleep(0)
    spend(number)
    return os.getpid()


@fastapi.get("/sync/{number}")
def in_thread(number: int) -> int:
    """Track on a thread."""
    spend(number)
    return os.getpid()


def authenticated(number: int) -> None:
    """Set the customer in a dependency, on a thread whose context is discarded."""
    outlay.set_customer(customer_of(number))


def session(number: int) -> Iterator[None]:
    """Set the customer in a dependency that is a generator, on a thread, too."""
    outlay.set_customer(customer_of(number))
    yield


async def async_session(number: int) -> AsyncIterator[None]:
    """Set the customer for the time of a request."""
    with outlay.attribute(customer_id=customer_of(number)):
        await asyncio.sleep(0)
        yield


@fastapi.get("/set/{number}")
def after_dependency(number: int, _: Annotated[None, Depends(authenticated)]) -> int:
    """Track on another thread than the dependency's."""
    spend(number)
    return os.getpid()


@fastapi.get("/yield/{number}")
async def in_session(number: int, _: Annotated[None, Depends(session)]) -> int:
    """Track in a coroutine, after a dependency on a thread."""
    spend(number)
    return os.getpid()


@fastapi.get("/async-yield/{number}")
def in_async_session(number: int, _: Annotated[None, Depends(async_session)]) -> int:
    """Track on a thread, in the scope of a dependency."""
    spend(number)
    return os.getpid()


@fastapi.get("/stream/{number}")
def streamed(number: int) -> StreamingResponse:
    """Track in the body, on threads."""

    def body() -> Iterator[bytes]:
        yield b" "
        spend(number)
        yield answer()

    return StreamingResponse(body())


@fastapi.get("/async-stream/{number}")
async def async_streamed(number: int) -> StreamingResponse:
    """Track in the body, on the event loop."""

    async def body() -> AsyncIterator[bytes]:
        yield b" "
        await asyncio.sleep(0)
        spend(number)
        yield answer()

    return StreamingResponse(body())


@fastapi.get("/background/{number}")
async def later(number: int, tasks: BackgroundTasks) -> int:
    """Track after the answer."""
    tasks.add_task(spend, number)
    return os.getpid()


@fastapi.websocket("/socket/{number}")
async def socket(number: int, websocket: WebSocket) -> None:
    """Track at a message."""
    await websocket.accept()
    await websocket.receive_text()
    spend(number)
    await websocket.send_text(str(os.getpid()))
    await websocket.close()


async def _spend_and_answer(request: Request) -> Response:
    await asyncio.sleep(0)
    spend(int(request.path_params["number"]))
    return PlainTextResponse(answer())


class _Base(BaseHTTPMiddleware):
    """Runs the application in another task, as many middlewares do."""

    async def dispatch(self, request: Request, call_next: Any) -> Any:  # noqa: ANN401
        """Pass the request on."""
        return await call_next(request)


starlette = Starlette(routes=[Route("/async/{number}", _spend_and_answer)])
starlette.add_middleware(_Base)
starlette.add_middleware(OutlayMiddleware, customer=customer_of_connection)
starlette.add_middleware(_Base)

fastapi.add_middleware(OutlayMiddleware, customer=customer_of_connection)

site = by_number(fastapi, WAYS)
