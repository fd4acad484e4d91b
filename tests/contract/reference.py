"""The reference server as the contract tests run it, and what happens on its wire."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
import msgspec
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from outlay.server import BackgroundServer, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

API_KEY: Final = "sk_test_contract"
EVENT_TYPE: Final = "cost.ai.inference"
JANUARY: Final = {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
ALL_TIME: Final = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}

_decode_exactly = msgspec.json.Decoder(float_hook=Decimal).decode


class Seen(NamedTuple):
    """A request as it reached the server."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Turnstile:
    """Stands before a server: notes each request, and may turn some away.

    Thread safety: any thread.

    Attributes:
        advertises_batches: whether answers keep the header that names the batch path.
        seen: the requests, in the order in which their bodies were complete.
    """

    def __init__(self, *, advertises_batches: bool = True) -> None:
        self.advertises_batches = advertises_batches
        self._lock = threading.Lock()
        self.seen: list[Seen] = []  # guarded by _lock
        self._refusals: deque[int] = deque()  # guarded by _lock
        self._losses: deque[int] = deque()  # guarded by _lock

    @property
    def middleware(self) -> list[Middleware]:
        """What to hand to the server."""
        return [Middleware(_Turned, turnstile=self)]

    def refuse(self, *statuses: int) -> None:
        """Turn away the next requests, with these statuses."""
        with self._lock:
            self._refusals.extend(statuses)

    def lose(self, *statuses: int) -> None:
        """Let the next requests through, and answer with these statuses instead.

        As a gateway does that loses the connection to the server behind it.
        """
        with self._lock:
            self._losses.extend(statuses)

    def note(self, seen: Seen) -> None:
        """Note a request."""
        with self._lock:
            self.seen.append(seen)

    def refusal(self) -> JSONResponse | None:
        """Return the answer to a request that is turned away, or None."""
        return self._answer(self._refusals)

    def loss(self) -> JSONResponse | None:
        """Return the answer in place of the server's, or None."""
        return self._answer(self._losses)

    def _answer(self, statuses: deque[int]) -> JSONResponse | None:
        with self._lock:
            if not statuses:
                return None
            return JSONResponse({"message": "come back later"}, statuses.popleft())


class _Turned:
    """ASGI middleware: the turnstile's place in front of the application."""

    def __init__(self, app: ASGIApp, *, turnstile: Turnstile) -> None:
        self._app = app
        self._turnstile = turnstile

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _whole_body(receive)
        self._turnstile.note(_seen(scope, body))
        answer = self._turnstile.refusal()
        if answer is None:
            answer = self._turnstile.loss()
            await self._serve(scope, body, _nowhere if answer else send)
        if answer is not None:
            await answer(scope, receive, send)

    async def _serve(self, scope: Scope, body: bytes, send: Send) -> None:
        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def quietly(message: Message) -> None:
            if not self._turnstile.advertises_batches and "headers" in message:
                message["headers"] = [
                    header for header in message["headers"] if header[0] != _BATCH
                ]
            await send(message)

        await self._app(scope, again, quietly)


async def _nowhere(_: Message) -> None:
    """Send nothing."""


_BATCH: Final = b"outlay-batch"


async def _whole_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _seen(scope: Scope, body: bytes) -> Seen:
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    return Seen(scope["method"], scope["path"], headers, body)


@contextmanager
def serving(
    turnstile: Turnstile | None = None,
    **settings: Any,  # noqa: ANN401 - any setting
) -> Iterator[BackgroundServer]:
    """Run a reference server of one's own, on a free port, without a file to keep."""
    fields = {"port": 0, "database": ":memory:", "api_key": API_KEY, **settings}
    middleware = turnstile.middleware if turnstile else ()
    with BackgroundServer(ServerSettings(**fields), middleware=middleware) as server:
        yield server


class Tenant(NamedTuple):
    """An organization with nothing in it, and a key that may do everything there.

    Tests that need an empty server take one of these instead of a server each: what
    belongs to one organization is never seen by another.
    """

    server: BackgroundServer
    organization: str
    api_key: str


_numbers: Final = itertools.count(1)


def tenant_of(server: BackgroundServer) -> Tenant:
    """Return a new tenant of ``server``."""
    organization = f"org_{next(_numbers)}"
    key = server.create_key(organization, ["*"], namespace=organization)
    return Tenant(server, organization, key)


@contextmanager
def calling(tenant: Tenant) -> Iterator[httpx.Client]:
    """Open a plain HTTP client with a tenant's key."""
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    with httpx.Client(base_url=tenant.server.url, headers=headers, timeout=30) as http:
        yield http


def create_cost(http: httpx.Client, **overrides: object) -> str:
    """Create a cost that sums ``data.amount`` at a price of 1, and return its id."""
    answer = http.post("/v0/costs", json=cost_body(**overrides))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def cost_body(**overrides: object) -> dict[str, object]:
    """Return the body that creates a cost."""
    return {
        "type": "metered",
        "name": "AI",
        "unitCost": 1,
        "currency": "USD",
        "productId": "prod_p1",
        "eventType": EVENT_TYPE,
        "aggregation": "SUM",
        "valueProperty": "$.amount",
        "groupBy": {"provider": "$.provider"},
        **overrides,
    }


def summary(http: httpx.Client, cost_id: str, **query: str) -> dict[str, Any]:
    """Return a cost's summary over all time, its numbers exact."""
    answer = http.get(f"/v0/costs/{cost_id}/summary", params={**ALL_TIME, **query})
    assert answer.status_code == 200, answer.text
    decoded: dict[str, Any] = _decode_exactly(answer.content)
    return decoded
