"""Route HTTP requests: find the route, read the request, send the response.

The router is a table, because each path of the contract has at most one identifier, in
the third place. Two dictionary look-ups find the route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from pydantic import BaseModel, ValidationError

from outlay.server._core import ServerCore
from outlay.server._errors import StoreUnavailableError
from outlay.server._http.byte_budget import ByteBudget
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
METRICS_PATH: Final = "/metrics"
BATCH_PATH: Final = "/v0/events/batch"
BODY_ERRORS: Final = (400, 413, 415)
"""The statuses that refuse the body of a request."""

Model = TypeVar("Model", bound=BaseModel)

_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})
_EVENT_PATHS: Final = frozenset({EVENTS_PATH, BATCH_PATH})
_JSON: Final = (b"content-type", b"application/json")
_MAX_WARNING_BYTES: Final = 1000
_VALUE_BYTES: Final = 100  # of a Decimal; other values take less
_IDENTIFIER_PLACE: Final = 3  # of "", "v0", "costs", "{id}"


class Request:
    """One request, as a route's handler reads it.

    Attributes:
        headers: The request's headers, by lower-case name.
        key: The request's API key.
        identifier: The third part of the path, or ''.
        warning: A warning for the header ``Outlay-Warning``, or ''.
    """

    __slots__ = (
        "_budget",
        "_held",
        "_is_strict",
        "_receive",
        "_scope",
        "headers",
        "identifier",
        "key",
        "warning",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        headers: Mapping[bytes, bytes],
        key: ApiKey,
        identifier: str,
        *,
        budget: ByteBudget,
        is_strict: bool = False,
    ) -> None:
        self._budget = budget
        self._held = 0
        self._is_strict = is_strict
        self._scope = scope
        self._receive = receive
        self.headers = headers
        self.key = key
        self.identifier = identifier
        self.warning = ""

    async def body(self, limit: int) -> bytes:
        """Return the JSON body of at most ``limit`` bytes, decompressed.

        Raises:
            HttpProblem: The body is too large, incomplete, or of another media type. Or
                the requests in flight take all of the memory that they may take.
        """
        _check_media_type(self.headers.get(b"content-type"))
        encoding = self.headers.get(b"content-encoding", b"identity").lower()
        if encoding not in SUPPORTED_ENCODINGS:
            raise unsupported_encoding(encoding.decode("latin-1"))
        body = await self._received(limit)
        if encoding != b"identity":
            body = gunzip(body, limit)
        self._hold(_decoded_bytes(body))
        return body

    def release(self) -> None:
        """Give back the memory of the body."""
        self._budget.give_back(self._held)
        self._held = 0

    def _hold(self, total: int) -> None:
        """Hold ``total`` bytes, and not only those that are held already."""
        if total > self._budget.limit:
            raise HttpProblem(
                413,
                "the body has too many values; send less in one request",
                code="BODY_TOO_LARGE",
            )
        more = max(total - self._held, 0)
        if not self._budget.take(more):
            raise unavailable("too many large requests are in flight; send it again")
        self._held += more

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
            if more:  # Else `body` holds all of it.
                self._hold(size)
        return b"".join(parts)

    async def disconnected(self) -> None:
        """Wait until the client is gone. Only a request without a body may wait."""
        message = await self._receive()
        while message.get("more_body", False):
            message = await self._receive()
        if message["type"] == "http.request":
            message = await self._receive()
        if message["type"] != "http.disconnect":
            # A middleware repeats the body, and does not tell of the client.
            await asyncio.Event().wait()

    async def model(self, model: type[Model], limit: int) -> Model:
        """Return the JSON body as ``model``, with exact numbers.

        Raises:
            HttpProblem: The body is unreadable, or a field is invalid.
        """
        try:
            values = decode_data(await self.body(limit))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise malformed_body(f"send a JSON object ({error})") from None
        return _validated(model, values)

    def query(self, model: type[Model], *, repeated: str = "") -> Model:
        """Return the query as ``model``. The last value of a repeated name counts.

        Args:
            model: The model of the query.
            repeated: The one name of which every value counts, in order. Defaults to
                none.

        Raises:
            HttpProblem: A parameter is invalid, or a path of our own does not know it.
        """
        text = self._scope["query_string"].decode("latin-1")
        # Blank values too: 'subject=' means the unattributed costs, not all costs.
        pairs = parse_qsl(text, keep_blank_values=True)
        values: dict[str, Any] = dict(pairs)
        if unknown := _unknown_names(model, values):
            if self._is_strict:
                raise _unknown_parameters(model, unknown)
            named = ", ".join(unknown)
            self.warning = f"unknown query parameters are ignored: {named}"
        if repeated in values:
            values[repeated] = tuple(value for name, value in pairs if name == repeated)
        return _validated(model, values)

    def path(self, model: type[Model]) -> Model:
        """Return the identifier of the path as the field ``id`` of ``model``.

        Raises:
            HttpProblem: No object can have such an id.
        """
        return _validated(model, {"id": self.identifier})


class Response(NamedTuple):
    """The response of a route's handler."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()


Handler: TypeAlias = Callable[[ServerCore, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table of routes.

    Attributes:
        method: The HTTP method.
        path: The path. It may have ``{id}`` in its third place.
        handler: The function that responds. Its docstring is the summary.
        permission: The permission that the key needs. If None, no key is needed.
        status: The status of a success.
        response: The type of a success's body. If None, there is no body.
        body: The type of the request's body.
        query: The type of the query.
        more_statuses: The statuses of other successes with the same body.
        errors: The statuses of errors, without 401, 403 and 500.
        is_extension: Whether it is an addition of this server to the contract.
    """

    method: str
    path: str
    handler: Handler
    permission: str | None
    status: int
    response: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    more_statuses: tuple[int, ...] = ()
    errors: tuple[int, ...] = ()
    is_extension: bool = False


class Router:
    """The ASGI application behind the middleware."""

    def __init__(self, core: ServerCore, routes: Iterable[Route]) -> None:
        self._core = core
        self._budget = ByteBudget(core.settings.max_waiting_bytes)
        self._table: dict[str, dict[str, Route]] = {}
        for route in routes:
            if route.path == METRICS_PATH and core.settings.public_metrics:
                route = replace(route, permission=None)  # noqa: PLW2901 - a changed copy
            self._table.setdefault(route.path, {})[route.method] = route
        batch = f"{BATCH_PATH}; max={core.settings.max_batch_events}"
        # A client learns of the batch path by this header, and never probes for it.
        self._event_headers = [(b"outlay-batch", batch.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        start = perf_counter()
        path = scope["path"].rstrip("/") or "/"
        try:
            response = await self._respond(path, scope, receive)
        except HttpProblem as problem:
            response = _error_response(problem)
        except StoreUnavailableError as error:
            log.error("%s %s: %s", scope["method"], path, error)  # noqa: TRY400 - no bug
            response = _error_response(unavailable(str(error)))
        except Exception:
            log.exception("%s %s failed", scope["method"], path)
            response = _error_response(
                HttpProblem(
                    500, "the server failed; see the reason in its log", code="INTERNAL"
                )
            )
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": self._headers(path, response),
            }
        )
        # A HEAD has the headers of its GET (RFC 9110, section 9.3.2).
        body = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.body", "body": body})
        self._core.telemetry.observe(
            scope["method"] if scope["method"] in _METHODS else "OTHER",
            scope.get("outlay.route", "unknown"),
            response.status,
            perf_counter() - start,
        )

    def _headers(self, path: str, response: Response) -> list[tuple[bytes, bytes]]:
        headers = [*response.headers]
        if response.status != 204:
            headers.append((b"content-length", b"%d" % len(response.body)))
            if b"content-type" not in dict(response.headers):
                headers.append(_JSON)
        if path in _EVENT_PATHS:
            headers += self._event_headers
            if response.status != 415:
                # On a 415 it would mean that the encoding is unsupported (RFC 7694).
                headers.append(ACCEPT_GZIP)
        return headers

    async def _respond(self, path: str, scope: Scope, receive: Receive) -> Response:
        methods, identifier = self._find(path, scope.get("raw_path") or b"")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        route = methods.get(method)
        if route is None:
            raise _wrong_method(scope["method"], path, methods)
        scope["outlay.route"] = route.path
        headers: dict[bytes, bytes] = dict(scope["headers"])
        key = ANONYMOUS
        if route.permission is not None:
            key = self._core.auth.authenticate(headers.get(b"authorization"))
            require_permission(key, route.permission)
            self._core.rates.spend(key)
        request = Request(
            scope,
            receive,
            headers,
            key,
            identifier,
            budget=self._budget,
            is_strict=route.is_extension,
        )
        try:
            response = await route.handler(self._core, request)
        finally:
            request.release()
        if not request.warning:
            return response
        more = warning_header(request.warning)
        return response._replace(headers=[*response.headers, more])

    def _find(self, path: str, raw_path: bytes) -> tuple[dict[str, Route], str]:
        """Return the path's routes by method, and its identifier or ''.

        Args:
            path: The path, with percent-encoded characters decoded.
            raw_path: The path as it was sent.
        """
        has_slashes = b"%2f" in raw_path.lower()
        methods = None if has_slashes else self._table.get(path)
        if methods is not None:
            return methods, ""
        parts = _decoded_parts(raw_path) if has_slashes else path.split("/")
        if len(parts) > _IDENTIFIER_PLACE:
            identifier = parts[_IDENTIFIER_PLACE]
            parts[_IDENTIFIER_PLACE] = "{id}"
            methods = self._table.get("/".join(parts))
            if methods is not None:
                return methods, identifier
        raise HttpProblem(
            404,
            f"there is no path {path}; GET /openapi.json lists all paths",
            code="ROUTE_NOT_FOUND",
        )


def _decoded_parts(raw_path: bytes) -> list[str]:
    """Return the parts of a path. An encoded slash is a character of its part."""
    parts = raw_path.rstrip(b"/").split(b"/")
    return [unquote_to_bytes(part).decode(errors="replace") for part in parts]


def _decoded_bytes(body: bytes) -> int:
    """Return about how many bytes a JSON text takes when it is decoded, at most."""
    values = body.count(b",") + body.count(b"[") + body.count(b"{")
    return len(body) + _VALUE_BYTES * values


def _wrong_method(method: str, path: str, methods: Mapping[str, object]) -> HttpProblem:
    allowed = ", ".join(sorted(methods))
    return HttpProblem(
        405,
        f"{path} does not support {method}; use {allowed}",
        code="METHOD_NOT_ALLOWED",
        headers=[(b"allow", allowed.encode())],
    )


def _error_response(problem: HttpProblem) -> Response:
    return Response(problem.status, encode(problem.body), [*problem.headers])


def warning_header(text: str) -> tuple[bytes, bytes]:
    """Return the header ``Outlay-Warning``, in printable ASCII."""
    readable = text if text.isprintable() else ascii(text)
    value = readable.encode("ascii", "backslashreplace")[:_MAX_WARNING_BYTES]
    return b"outlay-warning", value


def _unknown_names(model: type[BaseModel], values: Mapping[str, object]) -> list[str]:
    known = {*_parameters_of(model), *getattr(model, "other_names", ())}
    return sorted(name for name in values if name not in known)


def _parameters_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _unknown_parameters(model: type[BaseModel], names: Iterable[str]) -> HttpProblem:
    """Return the 400 of a path of our own, which no older client can know."""
    allowed = ", ".join(sorted(_parameters_of(model)))
    return invalid_fields(
        [
            FieldError(
                name, f"no such parameter; there are {allowed}", "UNKNOWN_PARAMETER"
            )
            for name in names
        ]
    )


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
    """Return whether the header ``Prefer`` asks for a short response (RFC 7240)."""
    preferences = {one.partition(b";")[0].strip() for one in prefer.lower().split(b",")}
    return b"return=minimal" in preferences


def _wire_path(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """Return the place of a fault, with the field's name on the wire.

    The place of an absent field is its Python name.
    """
    if not place:
        return "body"
    first, *rest = place
    field = model.model_fields.get(str(first))
    return ".".join(map(str, [field.alias if field else first, *rest]))


def _validated(model: type[Model], values: dict[str, Any]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_fields(
            [
                FieldError(
                    _wire_path(model, fault["loc"]),
                    fault["msg"].removeprefix("Value error, "),
                    fault["type"].upper(),
                )
                for fault in error.errors(include_url=False, include_input=False)
            ]
        ) from None
