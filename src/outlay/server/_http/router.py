"""HTTP in and out: finding an endpoint, reading a request, sending an answer.

A table instead of a router, because every path of the contract is fixed but for at
most one identifier in the third place: two dictionary look-ups find the endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl

import msgspec
from pydantic import BaseModel, ValidationError

from outlay.server._core import ServerCore
from outlay.server._errors import StoreUnavailableError
from outlay.server._http.gzip_bodies import SUPPORTED_ENCODINGS, gunzip
from outlay.server._services.auth import ANONYMOUS, require_permission
from outlay.server._wire.problems import (
    ACCEPT_GZIP,
    FieldError,
    HttpProblem,
    invalid_fields,
    malformed_body,
    too_large,
    unavailable,
    unsupported_encoding,
)
from outlay.server._wire.response_models import decode_data, encode

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from outlay.server._records import ApiKey

log = logging.getLogger("outlay.server")

EVENTS_PATH: Final = "/v0/events"
BATCH_PATH: Final = "/v0/events/batch"

Model = TypeVar("Model", bound=BaseModel)

_JSON: Final = (b"content-type", b"application/json")
_IDENTIFIER_PLACE: Final = 3  # of "", "v0", "costs", "{id}"


class Request:
    """One request, as an endpoint sees it.

    Attributes:
        key: the API key it came with.
        identifier: the third part of the path, or ''.
    """

    __slots__ = ("_receive", "_scope", "headers", "identifier", "key")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        headers: Mapping[bytes, bytes],
        key: ApiKey,
        identifier: str,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self.headers = headers
        self.key = key
        self.identifier = identifier

    async def body(self, limit: int) -> bytes:
        """Return the JSON body, at most ``limit`` bytes, sent plain or in gzip.

        Raises:
            Problem: it is larger, no JSON by its media type, or incomplete.
        """
        _check_media_type(self.headers.get(b"content-type"))
        coding = self.headers.get(b"content-encoding", b"identity").lower()
        if coding not in SUPPORTED_ENCODINGS:
            raise unsupported_encoding(coding.decode("latin-1"))
        body = await self._received(limit)
        return body if coding == b"identity" else gunzip(body, limit)

    async def _received(self, limit: int) -> bytes:
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise too_large(limit)
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise malformed_body("the body ended early")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise too_large(limit)
            more = message.get("more_body", False)
        return b"".join(parts)

    async def model(self, model: type[Model], limit: int) -> Model:
        """Return the JSON body as ``model``, its numbers exact.

        Raises:
            Problem: the body is unreadable, or breaks the model's rules.
        """
        try:
            values = decode_data(await self.body(limit))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed_body(f"send a JSON object ({error})") from None
        return _validated(model, values)

    def query(self, model: type[Model], *, repeated: str = "") -> Model:
        """Return the query as ``model``; a name given twice counts as given last.

        Args:
            model: its rules.
            repeated: the one name of which every value counts, in the order given.

        Raises:
            Problem: it breaks the model's rules.
        """
        text = self._scope["query_string"].decode("latin-1")
        # Blank values too: 'subject=' asks about nobody, and not about everybody.
        pairs = parse_qsl(text, keep_blank_values=True)
        values: dict[str, Any] = dict(pairs)
        if repeated in values:
            values[repeated] = tuple(value for name, value in pairs if name == repeated)
        return _validated(model, values)


class Response(NamedTuple):
    """What an endpoint answers."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()


Handler: TypeAlias = Callable[[ServerCore, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table of routes.

    Attributes:
        method: HTTP method.
        path: with ``{id}`` in its third place, if it has one.
        handler: what answers; its docstring is the summary.
        permission: what the key needs; None: no key is asked for.
        status: of a success.
        answer: type of a success's body; None: it has none.
        body: type of the request's body.
        query: type of the query.
        more_statuses: other successes, with the same body.
        errors: other statuses than 401, 403 and 500, which are everywhere.
    """

    method: str
    path: str
    handler: Handler
    permission: str | None
    status: int
    answer: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    more_statuses: tuple[int, ...] = ()
    errors: tuple[int, ...] = ()


class Router:
    """The ASGI application behind the middleware: finds, admits, calls, answers."""

    def __init__(self, engine: ServerCore, endpoints: Iterable[Route]) -> None:
        self._engine = engine
        self._table: dict[str, dict[str, Route]] = {}
        for endpoint in endpoints:
            self._table.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        batch = f"{BATCH_PATH}; max={engine.settings.max_batch_events}"
        # How a client learns that there is a batch path, without ever probing for it.
        self._event_headers = [(b"outlay-batch", batch.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope["path"].rstrip("/") or "/"
        try:
            reply = await self._reply(path, scope, receive)
        except HttpProblem as problem:
            reply = _error_response(problem)
        except StoreUnavailableError as error:
            log.error("%s %s: %s", scope["method"], path, error)  # noqa: TRY400 - no bug
            reply = _error_response(unavailable(str(error)))
        except Exception:
            log.exception("%s %s failed", scope["method"], path)
            reply = _error_response(
                HttpProblem(500, "the server failed; its log says why", code="INTERNAL")
            )
        headers = [*reply.headers]
        if reply.status != 204:
            headers += [_JSON, (b"content-length", b"%d" % len(reply.body))]
        if path in {EVENTS_PATH, BATCH_PATH}:
            headers += self._event_headers
            if reply.status != 415:
                # There it would say that the coding was at fault (RFC 7694).
                headers.append(ACCEPT_GZIP)
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, path: str, scope: Scope, receive: Receive) -> Response:
        methods, identifier = self._find(path)
        endpoint = methods.get(scope["method"])
        if endpoint is None:
            raise _wrong_method(scope["method"], path, methods)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        key = ANONYMOUS
        if endpoint.permission is not None:
            key = self._engine.access.authenticate(headers.get(b"authorization"))
            require_permission(key, endpoint.permission)
        call = Request(scope, receive, headers, key, identifier)
        return await endpoint.handler(self._engine, call)

    def _find(self, path: str) -> tuple[dict[str, Route], str]:
        """Return the path's endpoints by method, and its identifier if it has one."""
        methods = self._table.get(path)
        if methods is not None:
            return methods, ""
        parts = path.split("/")
        if len(parts) > _IDENTIFIER_PLACE:
            identifier = parts[_IDENTIFIER_PLACE]
            parts[_IDENTIFIER_PLACE] = "{id}"
            methods = self._table.get("/".join(parts))
            if methods is not None:
                return methods, identifier
        raise HttpProblem(
            404,
            f"there is nothing at {path}; GET /openapi.json lists what there is",
            code="ROUTE_NOT_FOUND",
        )


def _wrong_method(method: str, path: str, methods: Mapping[str, object]) -> HttpProblem:
    allowed = ", ".join(sorted(methods))
    return HttpProblem(
        405,
        f"{method} is not served at {path}; use {allowed}",
        code="METHOD_NOT_ALLOWED",
        headers=[(b"allow", allowed.encode())],
    )


def _error_response(problem: HttpProblem) -> Response:
    return Response(problem.status, encode(problem.body), [*problem.headers])


def _check_media_type(value: bytes | None) -> None:
    if value is None or value == b"application/json":
        return
    if value.split(b";")[0].strip().lower() != b"application/json":
        raise HttpProblem(
            415,
            "send the body as JSON, with the header 'Content-Type: application/json'",
            code="UNSUPPORTED_MEDIA_TYPE",
        )


def prefers_minimal(prefer: bytes) -> bool:
    """Return whether the header ``Prefer`` asks for a short answer (RFC 7240)."""
    wishes = {wish.partition(b";")[0].strip() for wish in prefer.lower().split(b",")}
    return b"return=minimal" in wishes


def _validated(model: type[Model], values: dict[str, Any]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_fields(
            [
                FieldError(
                    ".".join(map(str, fault["loc"])) or "body",
                    fault["msg"].removeprefix("Value error, "),
                    fault["type"].upper(),
                )
                for fault in error.errors(include_url=False, include_input=False)
            ]
        ) from None
