"""Attribute the costs of requests to Starlette and FastAPI: `OutlayMiddleware`.

    from outlay.integrations.starlette import OutlayMiddleware

    app.add_middleware(OutlayMiddleware, customer=lambda request: request.user.team)

Add it before the middleware that authenticates.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection

from outlay.integrations.asgi import ConnectionMiddleware, Scope

__all__ = ("OutlayMiddleware",)


class OutlayMiddleware(ConnectionMiddleware[HTTPConnection]):
    """Attributes the costs of requests. The callback gets an ``HTTPConnection``.

    That is the part that requests and web sockets have in common: headers, cookies,
    session, user and state. Add the middleware before those that authenticate, because
    Starlette runs the one that was added last first.

    See `ConnectionMiddleware` for the argument ``customer``.

    Example:
        >>> app.add_middleware(OutlayMiddleware, customer=lambda r: r.state.customer)
        >>> app.add_middleware(AuthenticationMiddleware, backend=...)
    """

    integration = "starlette"

    def _connection(self, scope: Scope) -> HTTPConnection:
        return HTTPConnection(scope)
