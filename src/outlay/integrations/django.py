"""Attribute the costs of requests to Django: `OutlayMiddleware`.

    MIDDLEWARE = [
        ...,
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "outlay.integrations.django.OutlayMiddleware",
    ]
    OUTLAY = {"CUSTOMER": "shop.costs.customer_of"}

``CUSTOMER`` is a function of the request, or its dotted path. Other names are settings
of the client, in capitals, such as ``BASE_URL``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from asgiref.sync import (
    async_to_sync,
    iscoroutinefunction,
    markcoroutinefunction,
    sync_to_async,
)
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponseBase,
    StreamingHttpResponse,
)
from django.utils.module_loading import import_string

from outlay._capture.context.attribution import RequestAttribution
from outlay._capture.context.bind import ContextRun
from outlay._default_client import configure
from outlay._model.attribution import Attribution, current_attribution
from outlay._model.propagated_context import capture
from outlay.errors import ConfigError
from outlay.integrations._customer import CustomerCallback
from outlay.integrations._streams import iterate, iterate_async

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from outlay.integrations._customer import CustomerOf

__all__ = ("OutlayMiddleware",)

_CUSTOMER: Final = "CUSTOMER"

GetResponse: TypeAlias = Callable[[HttpRequest], Any]


class OutlayMiddleware:
    """Runs each view, and each streamed body, with the customer of its request.

    The callback runs before the view. List the middleware after those that it relies
    on, such as ``AuthenticationMiddleware``. Under ASGI, a callback without ``async``
    runs on the thread of synchronous code, where it may use the database. Its errors
    are counted and logged, and never fail the request. Without ``CUSTOMER``, requests
    have no customer until their code calls `outlay.set_customer`.

    Thread safety: any thread.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        """Create the middleware, as Django does, and configure the client once.

        Args:
            get_response: The rest of the application.

        Raises:
            ImproperlyConfigured: The setting ``OUTLAY`` is malformed.
        """
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        function = getattr(settings, "OUTLAY", {}).get(_CUSTOMER)
        if isinstance(function, str):
            function = import_string(function)
        if function is not None:
            function = _callback(function, is_async=self._is_async)
        self._customer = CustomerCallback("django", function)
        _configure_once()

    def __call__(
        self, request: HttpRequest
    ) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Serve a request."""
        if self._is_async:
            return self._serve(request)
        run = _run(self._customer.ask(request))
        with run:
            response = self._get_response(request)
        return _keep(response, run)

    async def _serve(self, request: HttpRequest) -> HttpResponseBase:
        attribution = self._customer.begin(request)
        if not isinstance(attribution, Attribution):
            attribution = await attribution
        run = _run(attribution)
        with run:
            response = await self._get_response(request)
        return _keep(response, run)


def _run(attribution: Attribution) -> ContextRun:
    request = RequestAttribution.begin(attribution)
    return ContextRun({**capture(), current_attribution: request})


def _keep(response: HttpResponseBase, run: ContextRun) -> HttpResponseBase:
    """Return a response whose body keeps the attribution of its request."""
    # Servers send files in their own way, and no code of the application makes them.
    if isinstance(response, StreamingHttpResponse) and not isinstance(
        response, FileResponse
    ):
        parts: Any = response.streaming_content
        response.streaming_content = (
            iterate_async(parts, run) if response.is_async else iterate(parts, run)
        )
        close = response.close

        def close_in_run() -> None:
            with run:
                close()

        response.close = close_in_run
    return response


def _callback(function: Any, *, is_async: bool) -> CustomerOf[HttpRequest]:  # noqa: ANN401 - from the settings
    """Return the callback as the handler needs it."""
    if is_async and not iscoroutinefunction(function):
        return sync_to_async(function)
    if not is_async and iscoroutinefunction(function):
        return async_to_sync(function)
    return function  # type: ignore[no-any-return]


@functools.cache
def _configure_once() -> None:
    """Configure the default client, if ``OUTLAY`` has settings of it.

    Django creates a middleware again for each handler, and for each client of a test.

    Raises:
        ImproperlyConfigured: A setting is malformed.
    """
    given = {
        name.lower(): value
        for name, value in getattr(settings, "OUTLAY", {}).items()
        if name != _CUSTOMER
    }
    if not given:
        return
    try:
        configure(**given)
    except ConfigError as error:
        raise ImproperlyConfigured(f"OUTLAY: {error}") from error
