"""Attribute the costs of requests to Litestar: `OutlayMiddleware`.

    from litestar.middleware import DefineMiddleware
    from outlay.integrations.litestar import OutlayMiddleware

    costs = DefineMiddleware(OutlayMiddleware, customer=lambda r: r.user.team)
    app = Litestar(handlers, middleware=[authentication, costs])

The middleware that authenticates comes first.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from litestar.connection import ASGIConnection

from outlay.integrations.asgi import ConnectionMiddleware, Scope

__all__ = ("OutlayMiddleware",)

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]


class OutlayMiddleware(ConnectionMiddleware[Connection]):
    """Attributes the costs of requests. The callback gets an ``ASGIConnection``.

    List it after the middleware that authenticates, because Litestar runs the first one
    first.

    See `ConnectionMiddleware` for the argument ``customer``.
    """

    integration = "litestar"

    def _connection(self, scope: Scope) -> Connection:
        return ASGIConnection(scope)
