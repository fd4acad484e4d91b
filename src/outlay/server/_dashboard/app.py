"""Serve the dashboard: find the page, check who asks, render it.

Requests of other paths go on to the API.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request, cookie_parser
from starlette.responses import Response

from outlay.server._dashboard.customers import customer, customers
from outlay.server._dashboard.overview import overview
from outlay.server._dashboard.pages import Page, Redirect
from outlay.server._dashboard.rendering import assets, render
from outlay.server._dashboard.visit import Visit
from outlay.server._errors import StoreUnavailableError
from outlay.server._services.auth import require_permission
from outlay.server._services.sessions import (
    COOKIE,
    IDLE_SECONDS,
    AttemptLimit,
    Session,
)
from outlay.server._wire.problems import HttpProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from outlay.server._core import ServerCore
    from outlay.server._records import ApiKey

log = logging.getLogger("outlay.server")

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_STATIC_PREFIX: Final = "/static/"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_READ: Final = "costs:read"
_MAX_FORM_BYTES: Final = 64 * 1024
_FORM: Final = "application/x-www-form-urlencoded"

_PAGES: Final[Mapping[str, Callable[[Visit], Page | Redirect]]] = {
    "/": overview,
    "/customers": customers,
    "/customer": customer,
}
_SIGN_IN: Final = "/sign-in"
_SIGN_OUT: Final = "/sign-out"


class Dashboard:
    """The pages of the dashboard, before the API.

    Args:
        core: The server.
        sessions: The sessions of signed-in people.
        api: The application that serves all other paths.
    """

    def __init__(self, core: ServerCore, api: ASGIApp) -> None:
        self._core = core
        self._sessions = core.sessions
        self._attempts = AttemptLimit(core.now)
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a page, or pass the request on."""
        path = scope["path"]
        is_ours = path in _PAGES or path in {_SIGN_IN, _SIGN_OUT}
        if not is_ours and not path.startswith(_STATIC_PREFIX):
            await self._api(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except HttpProblem as problem:
            response = _problem_page(request, problem)
        except StoreUnavailableError as error:
            log.error("%s %s: %s", request.method, path, error)  # noqa: TRY400 - no bug
            response = _problem_page(request, HttpProblem(503, str(error)))
        except Exception:
            log.exception("%s %s failed", request.method, path)
            response = _problem_page(
                request,
                HttpProblem(500, "the server failed; see the reason in its log"),
            )
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = request.url.path
        if path.startswith(_STATIC_PREFIX):
            return _static(request)
        if path == _SIGN_IN:
            return await self._sign_in(request)
        if path == _SIGN_OUT:
            return await self._sign_out(request)
        if request.method not in {"GET", "HEAD"}:
            raise HttpProblem(405, f"{path} can only be read")
        key, session = self._who(request)
        if key is None:
            return _redirect(f"{_SIGN_IN}?next={quote(_address(request), safe='')}")
        require_permission(key, _READ)
        is_new = session is None
        session = session or self._sessions.begin(key.digest)
        visit = Visit(
            self._core,
            key,
            path,
            dict(parse_qsl(request.url.query, keep_blank_values=True)),
            str(request.base_url).rstrip("/"),
            self._sessions.form_token(session),
            not is_new,
        )
        # In a thread, because posts must not wait for a long query.
        page = await asyncio.to_thread(_PAGES[path], visit)
        if isinstance(page, Redirect):
            return _redirect(page.location)
        response = await asyncio.to_thread(_html, request, page)
        renewed = session if is_new else self._sessions.renewed(session)
        if renewed is not None:
            self._set_cookie(request, response, renewed)
        return response

    # -- who asks

    def _who(self, request: Request) -> tuple[ApiKey | None, Session | None]:
        """Return the API key of a request, and its session.

        A program may send a key in the header ``Authorization``, as it does to the
        API. A server for development gives every request a key.
        """
        session = self._session(request)
        if session is not None:
            key = self._core.auth.key_of_session(session.digest)
            if key is not None:
                return key, session
        try:
            authorization = request.headers.get("authorization")
            value = authorization and authorization.encode("latin-1")
            return self._core.auth.authenticate(value or None), None
        except HttpProblem:
            return None, None

    def _session(self, request: Request) -> Session | None:
        cookie = cookie_parser(request.headers.get("cookie", "")).get(COOKIE)
        return None if cookie is None else self._sessions.read(cookie)

    async def _sign_in(self, request: Request) -> Response:
        query = dict(parse_qsl(request.url.query))
        target = _own_address(query.get("next", "/"))
        if request.method == "GET":
            if "token" in query:
                return self._sign_in_by_link(request, query["token"])
            return _html(request, _sign_in_page(target))
        form = await _form(request)
        target = _own_address(form.get("next", "/"))
        _check_origin(request)
        address = request.client.host if request.client else ""
        if wait := self._attempts.wait_seconds(address):
            page = _sign_in_page(
                target, f"Too many attempts. Wait {wait} seconds.", 429
            )
            response = _html(request, page)
            response.headers["retry-after"] = str(wait)
            return response
        key, fault = self._key_of_form(form)
        if key is None:
            self._attempts.record_failure(address)
            return _html(request, _sign_in_page(target, fault, 403))
        response = _redirect(target)
        session = self._sessions.begin(key.digest)
        self._set_cookie(request, response, session)
        return response

    def _key_of_form(self, form: Mapping[str, str]) -> tuple[ApiKey | None, str]:
        """Return the key that a person typed, or else the fault."""
        typed = form.get("key", "").strip()
        try:
            key = self._core.auth.authenticate(f"Bearer {typed}".encode())
            require_permission(key, _READ)
        except HttpProblem as problem:
            if problem.status == 403:
                return None, f"This key may not read. Use one with {_READ}."
            return None, "This key is not valid here. Check it, and the server."
        return key, ""

    def _sign_in_by_link(self, request: Request, token: str) -> Response:
        if not self._sessions.use_link_token(token):
            fault = "This link was used before, or is too old. Enter an API key."
            return _html(request, _sign_in_page("/", fault, 403))
        response = _redirect("/")
        self._set_cookie(request, response, self._sessions.begin(b""))
        return response

    async def _sign_out(self, request: Request) -> Response:
        if request.method != "POST":
            return _redirect("/")
        session = self._session(request)
        if session is not None:
            self._check_form(request, session, await _form(request))
            self._sessions.end(session)
        response = _redirect(_SIGN_IN)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    def _check_form(
        self, request: Request, session: Session, form: Mapping[str, str]
    ) -> None:
        _check_origin(request)
        if not self._sessions.is_form_token(session, form.get("csrf", "")):
            raise HttpProblem(403, "this form is too old; go back, reload, and repeat")

    def _set_cookie(
        self, request: Request, response: Response, session: Session
    ) -> None:
        response.set_cookie(
            COOKIE,
            self._sessions.cookie(session),
            max_age=IDLE_SECONDS,
            path="/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )


def _check_origin(request: Request) -> None:
    """Refuse a form that another site sent.

    Browsers send ``Origin`` with each form. The cookie is ``SameSite=Strict`` and the
    form has a token, so this is a third lock, and the only one of the sign-in form.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HttpProblem(403, "this form came from another site; open it here")


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a posted form. The last value of a name counts."""
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if media_type != _FORM:
        raise HttpProblem(415, "send the form as a browser does")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            raise HttpProblem(413, f"a form has at most {_MAX_FORM_BYTES} bytes")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True))
    except UnicodeDecodeError:
        raise HttpProblem(400, "send the form in UTF-8") from None


def _sign_in_page(target: str, fault: str = "", status: int = 200) -> Page:
    context = {"title": "Sign in", "next": target, "fault": fault}
    return Page("sign_in.html", context, status)


def _problem_page(request: Request, problem: HttpProblem) -> Response:
    context = {
        "title": _TITLES.get(problem.status, "This did not work"),
        "text": str(problem),
        "back": request.url.path if problem.status == 400 else "/",
    }
    return _html(request, Page("problem.html", context, problem.status))


_TITLES: Final = {
    400: "This address is not valid",
    403: "This is not allowed",
    404: "Nothing is here",
    503: "The server is busy",
}


def _html(request: Request, page: Page) -> Response:
    body = render(page.template, page.context)
    headers = {**_HEADERS, "vary": "accept-encoding, cookie"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        # Safe beside the form's token: no other site's request carries the cookie.
        body = gzip.compress(body, 6, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, page.status, headers, "text/html; charset=utf-8")


def _static(request: Request) -> Response:
    asset = assets().get(request.url.path.removeprefix(_STATIC_PREFIX))
    if asset is None:
        raise HttpProblem(404, f"there is no file {request.url.path}")
    headers = {**_HEADERS, "vary": "accept-encoding"}
    if request.url.query:  # the version of the files
        headers["cache-control"] = _FOR_EVER
    body = asset.body
    if "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, 9, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, 200, headers, asset.media_type)


def _redirect(location: str) -> Response:
    # 303 makes a browser read the next page, also after a form.
    return Response(b"", 303, {**_HEADERS, "location": location})


def _address(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def _own_address(target: str) -> str:
    """Return the address of a page of ours, and "/" for any other address."""
    parts = urlsplit(target)
    is_ours = not parts.scheme and not parts.netloc and parts.path in _PAGES
    return target if is_ours and "\\" not in target else "/"
