"""The routes of API keys, an extension of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from outlay.server._http.router import Request, Response, Route
from outlay.server._services.auth import ANY_KEY
from outlay.server._services.keys import key_response
from outlay.server._wire.key_models import KeyCreate, KeyList, KeyResponse, KeyRotate
from outlay.server._wire.request_models import ListQuery
from outlay.server._wire.response_models import encode

if TYPE_CHECKING:
    from outlay.server._core import ServerCore

_READ: Final = "apiKeys:read"
_WRITE: Final = "apiKeys:write"
_PATH: Final = "/v0/apiKeys"
_ONE: Final = "/v0/apiKeys/{id}"
_SECRET: Final = [(b"cache-control", b"no-store")]


async def create_key(core: ServerCore, request: Request) -> Response:
    """Create an API key. The response is the only one with the key itself."""
    body = await request.model(KeyCreate, core.settings.max_event_bytes)
    return Response(201, encode(await core.keys.create(request.key, body)), _SECRET)


async def list_keys(core: ServerCore, request: Request) -> Response:
    """List the API keys of the organization, newest first."""
    query = request.query(ListQuery)
    return Response(200, encode(await core.keys.list(request.key, query)))


async def get_current_key(core: ServerCore, request: Request) -> Response:
    """Get the API key of this request. Each key may."""
    del core
    return Response(200, encode(key_response(request.key)))


async def get_key(core: ServerCore, request: Request) -> Response:
    """Get an API key."""
    key = await core.keys.get(request.key, request.identifier)
    return Response(200, encode(key))


async def revoke_key(core: ServerCore, request: Request) -> Response:
    """Revoke an API key. The next request with it is refused."""
    await core.keys.revoke(request.key, request.identifier)
    return Response(204)


async def rotate_key(core: ServerCore, request: Request) -> Response:
    """Replace an API key. The old one stays valid for a while."""
    body = await request.model(KeyRotate, core.settings.max_event_bytes)
    key = await core.keys.rotate(request.key, request.identifier, body)
    return Response(201, encode(key), _SECRET)


KEY_ROUTES: Final = (
    Route(
        "POST",
        _PATH,
        create_key,
        _WRITE,
        201,
        KeyResponse,
        body=KeyCreate,
        errors=(400, 413, 415),
        is_extension=True,
    ),
    Route(
        "GET",
        _PATH,
        list_keys,
        _READ,
        200,
        KeyList,
        query=ListQuery,
        errors=(400,),
        is_extension=True,
    ),
    # Readers expect it before the path with an id. The router finds a full path first.
    Route(
        "GET",
        f"{_PATH}/current",
        get_current_key,
        ANY_KEY,
        200,
        KeyResponse,
        is_extension=True,
    ),
    Route(
        "GET",
        _ONE,
        get_key,
        _READ,
        200,
        KeyResponse,
        errors=(404,),
        is_extension=True,
    ),
    Route("DELETE", _ONE, revoke_key, _WRITE, 204, errors=(404,), is_extension=True),
    Route(
        "POST",
        f"{_ONE}/rotate",
        rotate_key,
        _WRITE,
        201,
        KeyResponse,
        body=KeyRotate,
        errors=(400, 404, 409, 413, 415),
        is_extension=True,
    ),
)
