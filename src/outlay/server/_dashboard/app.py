"""Serve the dashboard: find the page, check who asks, render it.

Requests of other paths go on to the API.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from outlay.server._dashboard.api_keys import api_keys, change_keys
from outlay.server._dashboard.budgets import budgets, change_budgets
from outlay.server._dashboard.cost_metrics import change_metrics, cost_metrics
from outlay.server._dashboard.customers import customer, customers
from outlay.server._dashboard.data_health import data_health
from outlay.server._dashboard.events import event, events
from outlay.server._dashboard.forms import read_form
from outlay.server._dashboard.overview import overview
from outlay.server._dashboard.pages import Page, Redirect
from outlay.server._dashboard.reconciliation import reconcile, reconciliation
from outlay.server._dashboard.responses import (
    STATIC_PREFIX,
    html,
    problem_page,
    redirect,
    static_file,
    wants_page,
)
from outlay.server._dashboard.revenue import import_revenue, revenue
from outlay.server._dashboard.saved_reconciliations import (
    saved_reconciliation,
    withdraw,
)
from outlay.server._dashboard.sign_in import (
    READ,
    SIGN_IN,
    SIGN_OUT,
    SignIn,
    sign_in_address,
)
from outlay.server._dashboard.uploads import read_upload
from outlay.server._dashboard.visit import Visit
from outlay.server._errors import QueryStoppedError, StoreUnavailableError
from outlay.server._services.auth import require_permission
from outlay.server._services.sessions import AttemptLimit
from outlay.server._storage.query_limit import QueryLimit, limited
from outlay.server._wire.problems import HttpProblem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from outlay.server._core import ServerCore
    from outlay.server._dashboard.uploads import Posted
    from outlay.server._records import ApiKey
    from outlay.server._services.sessions import Session

log = logging.getLogger("outlay.server")

_PAGES: Final[Mapping[str, Callable[[Visit], Page | Redirect]]] = {
    "/": overview,
    "/customers": customers,
    "/customer": customer,
    "/events": events,
    "/event": event,
    "/cost-metrics": cost_metrics,
    "/budgets": budgets,
    "/api-keys": api_keys,
    "/data-health": data_health,
    "/reconciliation": reconciliation,
    "/saved-reconciliation": saved_reconciliation,
    "/revenue": revenue,
}
"""The pages. Each is computed in a thread, because posts must not wait for it."""

_ACTIONS: Final[
    Mapping[str, Callable[[Visit, Mapping[str, str]], Awaitable[Page | Redirect]]]
] = {
    "/cost-metrics": change_metrics,
    "/budgets": change_budgets,
    "/saved-reconciliation": withdraw,
    "/api-keys": change_keys,
}
"""The forms. Each is carried out on the event loop."""

_UPLOADS: Final[Mapping[str, Callable[[Visit, Posted], Awaitable[Page]]]] = {
    "/reconciliation": reconcile,
    "/revenue": import_revenue,
}
"""The forms with files. One is carried out at a time."""

_PATHS: Final = frozenset({*_PAGES, *_ACTIONS, SIGN_IN, SIGN_OUT})

_SHOWN_PATH: Final = 100  # characters


class Dashboard:
    """The pages of the dashboard, before the API.

    Args:
        core: The server.
        api: The application that serves all other paths.
    """

    def __init__(self, core: ServerCore, api: ASGIApp) -> None:
        self._core = core
        self._api = api
        self._attempts = AttemptLimit(core.now)
        self._uploading = asyncio.Lock()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a page, or pass the request on."""
        path = scope["path"]
        app = self._api
        if _is_ours(path):
            app = self._serve
        elif wants_page(scope):
            request = Request(scope, receive)
            app = problem_page(request, HttpProblem(404, _nothing_at(path)))
        return app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        request = Request(scope, receive)
        try:
            response = await self._respond(request, path)
        except HttpProblem as problem:
            response = problem_page(request, problem)
        except QueryStoppedError:
            late = HttpProblem(
                503, "This took too long. Choose a shorter period, or try again."
            )
            response = problem_page(request, late)
        except StoreUnavailableError as error:
            log.error("%s %s: %s", request.method, path, error)  # noqa: TRY400 - no bug
            response = problem_page(request, HttpProblem(503, str(error)))
        except Exception:
            log.exception("%s %s failed", request.method, path)
            text = "The server failed. The reason is in its log."
            response = problem_page(request, HttpProblem(500, text))
        await response(scope, receive, send)

    async def _respond(self, request: Request, path: str) -> Response:
        if path.startswith(STATIC_PREFIX):
            return static_file(request)
        sign_in = SignIn(self._core, self._attempts)
        if path == SIGN_IN:
            return await sign_in.sign_in(request)
        if path == SIGN_OUT:
            return await sign_in.sign_out(request)
        key, session = sign_in.who(request)
        if key is None:
            return redirect(sign_in_address(request))
        require_permission(key, READ)
        return await self._page(request, sign_in, key, session)

    async def _page(
        self, request: Request, sign_in: SignIn, key: ApiKey, session: Session | None
    ) -> Response:
        sessions = self._core.sessions
        renewed = sessions.renewed(session) if session else sessions.begin(key.digest)
        visit = self._visit(request, key, session, session or renewed)
        if request.method == "POST":
            page = await self._act(request, sign_in, session, visit)
        elif request.method in {"GET", "HEAD"} and visit.path in _PAGES:
            page = await asyncio.to_thread(self._compute, visit)
        else:
            raise HttpProblem(405, f"{visit.path} does not support {request.method}")
        if isinstance(page, Redirect):
            return redirect(page.location)
        response = await asyncio.to_thread(html, request, page)
        if renewed is not None:
            sign_in.set_cookie(request, response, renewed)
        return response

    def _compute(self, visit: Visit) -> Page | Redirect:
        """Return a page, computed in this thread until the deadline of a query."""
        with limited(QueryLimit(self._core.settings.query_timeout)):
            return _PAGES[visit.path](visit)

    def _visit(
        self,
        request: Request,
        key: ApiKey,
        session: Session | None,
        token_session: Session | None,
    ) -> Visit:
        return Visit(
            self._core,
            key,
            request.url.path,
            dict(parse_qsl(request.url.query, keep_blank_values=True)),
            str(request.base_url).rstrip("/"),
            self._core.sessions.form_token(token_session) if token_session else "",
            session is not None,
        )

    async def _act(
        self,
        request: Request,
        sign_in: SignIn,
        session: Session | None,
        visit: Visit,
    ) -> Page | Redirect:
        upload = _UPLOADS.get(visit.path)
        if upload is not None:
            posted = await read_upload(request)
            self._check(sign_in, session, posted.fields)
            if self._uploading.locked():
                text = "another file is being read; send this one again"
                raise HttpProblem(503, text)
            async with self._uploading:
                return await upload(visit, posted)
        action = _ACTIONS.get(visit.path)
        if action is None:
            raise HttpProblem(405, f"{visit.path} does not support POST")
        form = await read_form(request)
        self._check(sign_in, session, form)
        return await action(visit, form)

    def _check(
        self, sign_in: SignIn, session: Session | None, fields: Mapping[str, str]
    ) -> None:
        """Refuse a form that is not of a page of the session."""
        if session is None:
            raise HttpProblem(403, "open the page in a browser, then send its form")
        sign_in.check_form(session, fields)


def _is_ours(path: str) -> bool:
    return path in _PATHS or path.startswith(STATIC_PREFIX)


def _nothing_at(path: str) -> str:
    shown = path if len(path) <= _SHOWN_PATH else f"{path[:_SHOWN_PATH]}…"
    return f"There is no page {shown}. Check the address, or start at the overview."
