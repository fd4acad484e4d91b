"""The routes of erasures, an extension of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import Request, Response, Route
from outlay.server._wire.erasure_models import (
    ErasureCreate,
    ErasureList,
    ErasureResponse,
)
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_PATH: Final = "/v0/erasures"
_PERMISSION: Final = "customers:erase"


async def begin_erasure(core: ServerCore, request: Request) -> Response:
    """Begin to replace a customer's id everywhere. Each total stays the same."""
    body = await request.model(ErasureCreate, core.settings.max_event_bytes)
    return Response(202, encode(await core.erasures.begin(request.key, body.customer)))


async def list_erasures(core: ServerCore, request: Request) -> Response:
    """List the erasures that are not finished."""
    return Response(200, encode(core.erasures.running(request.key)))


ERASURE_ROUTES: Final = (
    Route(
        "POST",
        _PATH,
        begin_erasure,
        _PERMISSION,
        202,
        ErasureResponse,
        body=ErasureCreate,
        errors=(400, 413, 415, 503),
        is_extension=True,
    ),
    Route(
        "GET", _PATH, list_erasures, _PERMISSION, 200, ErasureList, is_extension=True
    ),
)
