"""Write the responses of the dashboard: pages, files and redirections."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response

from outlay.server._dashboard.pages import Page
from outlay.server._dashboard.rendering import assets, render
from outlay.server._wire.problems import HttpProblem

if TYPE_CHECKING:
    from starlette.types import Scope

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
STATIC_PREFIX: Final = "/static/"

_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
    "vary": "accept-encoding, cookie",
}
_ROOTS_OF_API: Final = frozenset(
    {"v0", "docs", "openapi.json", "metrics", "healthz", "readyz", "version"}
)
"""The first names of paths that the API serves. A browser gets its responses, too."""

_BAD_ADDRESS: Final = 400
_UNKNOWN_HOST: Final = 421
_NOT_NOW: Final = 503
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_TITLES: Final = {
    400: "This address is not valid",
    403: "This is not allowed",
    404: "This page does not exist",
    413: "This is too large",
    421: "This name is not the server's",
    503: "This is not available now",
}


def html(request: Request, page: Page) -> Response:
    """Return the response of a page."""
    response = _compressed(request, render(page.template, page.context))
    response.status_code = page.status
    response.headers["content-type"] = "text/html; charset=utf-8"
    return response


def problem_page(request: Request, problem: HttpProblem) -> Response:
    """Return the page that says what went wrong."""
    context = {
        "title": _TITLES.get(problem.status, "This did not work"),
        "text": str(problem),
        "links": _ways_on(request, problem.status),
    }
    return html(request, Page("problem.html", context, problem.status))


def page_for_person(scope: Scope, problem: HttpProblem) -> Response | None:
    """Return the page that says what went wrong, or None for a program."""
    return problem_page(Request(scope), problem) if wants_page(scope) else None


def wants_page(scope: Scope) -> bool:
    """Return whether a browser asks for a page, which may not exist.

    Programs do not name HTML among what they accept, and get the API's response.
    """
    return (
        scope["method"] in {"GET", "HEAD"}
        and scope["path"].split("/", 2)[1] not in _ROOTS_OF_API
        and "text/html" in Request(scope).headers.get("accept", "")
    )


def _ways_on(request: Request, status: int) -> list[tuple[str, str]]:
    """Return the links of a page about a problem, the best first: label and address."""
    if status == _UNKNOWN_HOST:
        return []
    home = ("Overview", "/")
    path, query = request.url.path, request.url.query
    if request.method == "POST":
        ways = [("Back to the form", path)]
    elif status == _BAD_ADDRESS and query:
        ways = [("Show the page without these settings", path)]
    elif status == _NOT_NOW:
        ways = [("Try again", f"{path}?{query}" if query else path)]
    else:
        return [home]
    return ways if path == "/" else [*ways, home]


def static_file(request: Request) -> Response:
    """Return the response of a static file.

    Raises:
        HttpProblem: 404, because there is no such file.
    """
    asset = assets().get(request.url.path.removeprefix(STATIC_PREFIX))
    if asset is None:
        raise HttpProblem(404, f"there is no file {request.url.path}")
    response = _compressed(request, asset.body)
    response.headers["content-type"] = asset.media_type
    if request.url.query:  # the version of the files
        response.headers["cache-control"] = _FOR_EVER
    return response


def redirect(location: str) -> Response:
    """Return the response that leads to another page, also after a form."""
    return Response(b"", 303, {**_HEADERS, "location": location})


def _compressed(request: Request, body: bytes) -> Response:
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(body, headers=_HEADERS)
    # Safe beside a form's token: no request of another site carries the cookie.
    body = gzip.compress(body, 6, mtime=0)
    return Response(body, headers={**_HEADERS, "content-encoding": "gzip"})
