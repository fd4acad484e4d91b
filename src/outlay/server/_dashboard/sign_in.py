"""Sign people in and out, and tell which API key a request has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import cookie_parser

from outlay.server._dashboard.forms import read_form
from outlay.server._dashboard.pages import Page
from outlay.server._dashboard.responses import html, redirect
from outlay.server._services.auth import require_permission
from outlay.server._services.sessions import (
    COOKIE,
    IDLE_SECONDS,
)
from outlay.server._wire.problems import HttpProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from outlay.server._core import ServerCore
    from outlay.server._records import ApiKey
    from outlay.server._services.sessions import AttemptLimit, Session

SIGN_IN: Final = "/sign-in"
SIGN_OUT: Final = "/sign-out"
READ: Final = "costs:read"
"""The permission of every page."""


class SignIn:
    """Signs people in and out. Thread safety: the event loop's thread."""

    def __init__(self, core: ServerCore, attempts: AttemptLimit) -> None:
        self._auth = core.auth
        self._sessions = core.sessions
        self._attempts = attempts

    def who(self, request: Request) -> tuple[ApiKey | None, Session | None]:
        """Return the API key of a request, and its session.

        A program may send a key in the header ``Authorization``, as it does to the
        API. A server for development gives every request a key.
        """
        session = self._session(request)
        if session is not None:
            key = self._auth.key_of_session(session.digest)
            if key is not None:
                return key, session
        value = request.headers.get("authorization", "").encode("latin-1")
        try:
            return self._auth.authenticate(value or None), None
        except HttpProblem:
            return None, None

    def _session(self, request: Request) -> Session | None:
        cookie = cookie_parser(request.headers.get("cookie", "")).get(COOKIE)
        return None if cookie is None else self._sessions.read(cookie)

    async def sign_in(self, request: Request) -> Response:
        """Show the form, check the form, or use a one-time link."""
        if request.method == "POST":
            return await self._check_key(request)
        query = dict(parse_qsl(request.url.query))
        if "token" in query:
            return await self._use_link(request, query["token"])
        return html(request, _form(query.get("next", "/")))

    async def _check_key(self, request: Request) -> Response:
        form = await read_form(request)
        target = form.get("next", "/")
        address = request.client.host if request.client else ""
        if wait := self._attempts.wait_seconds(address):
            fault = f"Too many attempts failed. Wait {wait} seconds."
            response = html(request, _form(target, fault, 429))
            response.headers["retry-after"] = str(wait)
            return response
        try:
            key = self._key_of(form)
        except HttpProblem as problem:
            self._attempts.record_failure(address)
            return html(request, _form(target, str(problem), 403))
        response = redirect(own_address(target))
        self.set_cookie(request, response, self._sessions.begin(key.digest))
        return response

    def _key_of(self, form: Mapping[str, str]) -> ApiKey:
        """Return the key that a person typed.

        Raises:
            HttpProblem: The key is not valid, or may not read.
        """
        typed = form.get("key", "").strip()
        try:
            key = self._auth.authenticate(f"Bearer {typed}".encode())
        except HttpProblem:
            # One message for keys that are unknown, revoked and expired.
            raise HttpProblem(
                403, "This key is not valid here. Check it, and the server."
            ) from None
        require_permission(key, READ)
        return key

    async def _use_link(self, request: Request, token: str) -> Response:
        if not await self._sessions.use_link_token(token):
            fault = "This link was used before, or is too old. Enter an API key."
            return html(request, _form("/", fault, 403))
        # A page and no redirection. A link may be opened from anywhere, and no cookie
        # that is SameSite=Strict follows a redirection that began at another site.
        response = html(request, Page("opened.html", {}))
        self.set_cookie(request, response, self._sessions.begin(b""))
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        session = self._session(request)
        if request.method == "POST" and session is not None:
            self.check_form(session, await read_form(request))
            await self._sessions.end(session)
        response = redirect(SIGN_IN)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response

    def check_form(self, session: Session, form: Mapping[str, str]) -> None:
        """Refuse a form that is not of a page of the session.

        Raises:
            HttpProblem: 403, because the form's token is wrong.
        """
        if not self._sessions.is_form_token(session, form.get("csrf", "")):
            raise HttpProblem(403, "this form is too old; go back, reload, and repeat")

    def set_cookie(
        self, request: Request, response: Response, session: Session
    ) -> None:
        """Give the browser the cookie of a session."""
        response.set_cookie(
            COOKIE,
            self._sessions.cookie(session),
            max_age=IDLE_SECONDS,
            path="/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )


def sign_in_address(request: Request) -> str:
    """Return the page to sign in, which leads back to the requested one."""
    query = request.url.query
    target = f"{request.url.path}?{query}" if query else request.url.path
    return f"{SIGN_IN}?next={quote(target, safe='')}"


def own_address(target: str) -> str:
    """Return ``target`` if it is an address of this site, and else the first page."""
    parts = urlsplit(target)
    is_ours = (
        not parts.scheme
        and not parts.netloc
        and target.startswith("/")
        and "\\" not in target
        and target.isprintable()
    )
    return target if is_ours else "/"


def _form(target: str, fault: str = "", status: int = 200) -> Page:
    context = {"title": "Sign in", "next": own_address(target), "fault": fault}
    return Page("sign_in.html", context, status)
