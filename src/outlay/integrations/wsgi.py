"""Attribute the costs of WSGI requests to their customers: `WSGIMiddleware`.

    from outlay.integrations.wsgi import WSGIMiddleware

    app = WSGIMiddleware(app, customer=lambda environ: environ["auth.organization"])

For Flask and Django, use `outlay.integrations.flask` or `outlay.integrations.django`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay._capture.context.attribution import RequestAttribution
from outlay._capture.context.bind import ContextRun
from outlay._model.attribution import UNATTRIBUTED, current_attribution
from outlay._model.propagated_context import capture
from outlay.integrations._customer import CustomerCallback
from outlay.integrations._streams import iterate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from outlay._model.attribution import Attribution
    from outlay.integrations._customer import CustomerOf

__all__ = ("WSGIMiddleware",)


class WSGIMiddleware:
    """Runs each request with the attribution of its customer.

    The attribution holds until the server has sent the whole response: servers read
    streamed bodies after the application has returned.

    Thread safety: any thread.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        customer: CustomerOf[WSGIEnvironment] | None = None,
    ) -> None:
        """Wrap an application.

        Args:
            app: The WSGI application.
            customer: A function, asynchronous or not, that returns the customer of a
                request: an id, ``outlay.attribute(...)``, or None. It gets the
                request's environment. Take the customer from what your program has
                authenticated. Errors are counted and logged, and never fail the
                request. If None, requests have no customer until their code calls
                `outlay.set_customer`.
        """
        self.app = app
        self._customer = CustomerCallback("wsgi", customer)

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Serve a request."""
        attribution = self._customer.ask(environ)
        return run_request(self.app, environ, start_response, attribution)


def run_request(
    app: WSGIApplication,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    attribution: Attribution = UNATTRIBUTED,
) -> Iterable[bytes]:
    """Serve a request with an attribution, and return its body, which keeps it."""
    request = RequestAttribution.begin(attribution)
    run = ContextRun({**capture(), current_attribution: request})
    with run:
        body = app(environ, start_response)
    file_wrapper = environ.get("wsgi.file_wrapper", ())
    # No code of the application runs in these. Servers send files in their own way.
    if isinstance(body, list | tuple) or (
        isinstance(file_wrapper, type) and isinstance(body, file_wrapper)
    ):
        return body
    return _Body(body, run)


class _Body:
    """A body that is made with the attribution of its request, wherever it is read."""

    def __init__(self, body: Iterable[bytes], run: ContextRun) -> None:
        self._body = body
        self._run = run

    def __iter__(self) -> Iterator[bytes]:
        return iterate(self._body, self._run)

    def close(self) -> None:
        """Close the body, which ends its generator."""
        close = getattr(self._body, "close", None)
        if close is not None:
            with self._run:
                close()
