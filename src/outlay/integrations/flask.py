"""Attribute the costs of requests to Flask: `Outlay`.

    from outlay.integrations.flask import Outlay

    Outlay(app, customer=lambda request: g.user.organization)

The callback runs right before the view, after all ``before_request`` functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import flask

from outlay._capture.context.attribution import RequestAttribution
from outlay._model.attribution import current_attribution
from outlay.integrations._customer import CustomerCallback
from outlay.integrations.wsgi import run_request

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from flask.typing import ResponseReturnValue

    from outlay.integrations._customer import CustomerOf

__all__ = ("Outlay",)

_NAME = "outlay"


class Outlay:
    """Runs each view, and each streamed body, with the customer of its request.

    Thread safety: any thread.

    Example:
        >>> costs = Outlay(customer=lambda request: g.user.organization)
        >>> costs.init_app(app)
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        customer: CustomerOf[flask.Request] | None = None,
    ) -> None:
        """Create the extension, and set up an application if one is given.

        Args:
            app: The application. If None, call `init_app` later.
            customer: A function, asynchronous or not, that returns the customer of a
                request: an id, ``outlay.attribute(...)``, or None. It gets Flask's
                request, and may use ``g`` and ``session``. Its errors are counted and
                logged, and never fail the request. If None, requests have no customer
                until their code calls `outlay.set_customer`.
        """
        self._customer = CustomerCallback("flask", customer)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Set up an application. A second call changes nothing."""
        if _NAME in app.extensions:
            return
        app.extensions[_NAME] = self
        serve, view = app.wsgi_app, app.dispatch_request

        def wsgi_app(
            environ: WSGIEnvironment, start_response: StartResponse
        ) -> Iterable[bytes]:
            return run_request(serve, environ, start_response)

        # Flask passes its request context to this method from version 3.2 on.
        def dispatch_request(*args: object) -> ResponseReturnValue:
            request = flask.request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - Werkzeug documents it
            attribution = self._customer.ask(request)
            current_attribution.set(RequestAttribution.begin(attribution))
            return view(*args)

        app.wsgi_app = wsgi_app  # type: ignore[method-assign]  # as Flask documents it
        app.dispatch_request = dispatch_request  # type: ignore[method-assign]
