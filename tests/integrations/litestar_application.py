"""An application of Litestar that tracks a cost in each request.

It has the addresses of `fastapi_application`.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import litestar
import litestar.di
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.response import Stream

import outlay
from outlay.integrations.litestar import OutlayMiddleware
from tests.integrations.customers import (
    answer,
    by_number,
    customer_of,
    customer_of_request,
    spend,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from outlay.integrations.asgi import ASGIApp

# Earlier releases know a dependency by its name alone.
_Session: Any = getattr(litestar.di, "NamedDependency", {None: None})[None]

WAYS = ("async", "sync", "yield", "async-stream")

LitestarRequest: TypeAlias = litestar.Request[Any, Any, Any]


@litestar.get("/async/{number:int}", media_type="text/plain")
async def _coroutine(request: LitestarRequest) -> str:
    await asyncio.sleep(0)
    spend(request.path_params["number"])
    return str(os.getpid())


@litestar.get("/sync/{number:int}", media_type="text/plain", sync_to_thread=True)
def _thread(request: LitestarRequest) -> str:
    spend(request.path_params["number"])
    return str(os.getpid())


def _authenticate(request: LitestarRequest) -> Iterator[None]:
    outlay.set_customer(customer_of(request.path_params["number"]))
    yield


@litestar.get(
    "/yield/{number:int}",
    media_type="text/plain",
    dependencies={"session": Provide(_authenticate)},
)
async def _session(request: LitestarRequest, session: _Session) -> str:  # noqa: ARG001 - a dependency
    spend(request.path_params["number"])
    return str(os.getpid())


@litestar.get("/async-stream/{number:int}")
async def _stream(request: LitestarRequest) -> Stream:
    number = request.path_params["number"]

    async def body() -> AsyncIterator[bytes]:
        yield b" "
        spend(number)
        yield answer()

    return Stream(body())


_costs = DefineMiddleware(OutlayMiddleware, customer=customer_of_request)
# Without a configuration of logging: the root logger belongs to the tests.
app = litestar.Litestar(
    [_coroutine, _thread, _session, _stream],
    middleware=[_costs],
    logging_config=None,
)

site = by_number(cast("ASGIApp", app), WAYS)
