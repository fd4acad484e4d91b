"""Attribute the costs of ASGI requests to their customers: `OutlayMiddleware`.

    from outlay.integrations.asgi import OutlayMiddleware

    app = OutlayMiddleware(app, customer=lambda scope: scope["user"].organization)

For Starlette, FastAPI and Litestar, use `outlay.integrations.starlette`, ``fastapi`` or
``litestar``. There the callback gets the framework's request instead of the scope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from outlay._capture.context.attribution import RequestAttribution
from outlay._model.attribution import Attribution, current_attribution
from outlay.integrations._customer import CustomerCallback

if TYPE_CHECKING:
    from outlay.integrations._customer import CustomerOf

__all__ = ("ConnectionMiddleware", "OutlayMiddleware")

R = TypeVar("R")

# Each framework has types of its own for these, and they exclude each other.
Scope: TypeAlias = Any
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class ConnectionMiddleware(Generic[R]):
    """Runs each request and web socket with the attribution of its customer.

    The attribution holds for everything that the application does for the request:
    streaming bodies, background tasks, dependencies of all kinds, threads of
    ``run_in_threadpool``. It also holds for a web socket until that is closed.

    Thread safety: one event loop, as ASGI has it.
    """

    integration = "asgi"

    def __init__(self, app: ASGIApp, *, customer: CustomerOf[R] | None = None) -> None:
        """Wrap an application.

        Args:
            app: The ASGI application.
            customer: A function, asynchronous or not, that returns the customer of a
                request: an id, ``outlay.attribute(...)``, or None. Take it from what
                your program has authenticated. It runs on the event loop. Its errors
                are counted and logged, and never fail the request. If None, requests
                have no customer until their code calls `outlay.set_customer`.
        """
        self.app = app
        self._customer = CustomerCallback(self.integration, customer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a web socket, or the lifespan."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        outer = current_attribution.get()
        attribution = self._customer.begin(self._connection(scope))
        if not isinstance(attribution, Attribution):
            attribution = await attribution
        current_attribution.set(RequestAttribution.begin(attribution))
        try:
            await self.app(scope, receive, send)
        finally:
            current_attribution.set(outer)

    def _connection(self, scope: Scope) -> R:
        """Return the object that the callback gets."""
        raise NotImplementedError


class OutlayMiddleware(ConnectionMiddleware[Scope]):
    """Attributes the costs of requests. The callback gets the ASGI scope.

    See `ConnectionMiddleware` for the argument ``customer``.
    """

    def _connection(self, scope: Scope) -> Scope:
        return scope
