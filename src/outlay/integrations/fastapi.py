"""Attribute the costs of requests to FastAPI: `OutlayMiddleware`.

    from outlay.integrations.fastapi import OutlayMiddleware

    app.add_middleware(OutlayMiddleware, customer=lambda r: r.state.customer)

FastAPI is Starlette here. If a dependency authenticates, leave ``customer`` out, and
let the dependency call `outlay.set_customer`.
"""

from outlay.integrations.starlette import OutlayMiddleware

__all__ = ("OutlayMiddleware",)
