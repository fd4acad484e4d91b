"""Serve ``/docs``: the description of the API, to read and to try in a browser.

Swagger UI comes from the package flask-swagger-ui, whose files are read and whose code
is never imported. Nothing is loaded from another host.
"""

from __future__ import annotations

import asyncio
import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Receive, Scope, Send

PATH: Final = "/docs"

# Swagger UI styles its icons with data URLs, and nothing needs a style attribute.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
    "vary": "accept-encoding",
}

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>outlay API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<noscript>This page needs JavaScript. <a href="/openapi.json">The description</a> does
not.</noscript>
<main id="api"></main>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

# The validator would send the description to another host.
_START: Final = """\
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
});
"""

_MISSING: Final = """\
This page needs the extra 'api-docs'. In a checkout of outlay:
pip install '.[api-docs]'
GET /openapi.json has the same description for programs.
"""


class _File(NamedTuple):
    """A file of the page."""

    media_type: str
    body: bytes
    compressed: bytes


class ApiDocs:
    """The pages under ``/docs``, before the API.

    Args:
        api: The application that serves all other paths.
    """

    def __init__(self, api: ASGIApp) -> None:
        self._api = api

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve a file, or pass the request on."""
        name = _name(scope["path"])
        if name is None or scope["method"] not in {"GET", "HEAD"}:
            return self._api(scope, receive, send)
        return _serve(name, scope, receive, send)


async def _serve(name: str, scope: Scope, receive: Receive, send: Send) -> None:
    # In a thread, because compressing takes a tenth of a second the first time.
    files = await asyncio.to_thread(_files)
    response = _response(files, name, Request(scope))
    await response(scope, receive, send)


def _name(path: str) -> str | None:
    """Return the name of a file under ``/docs``, or None for another path."""
    if path.rstrip("/") == PATH:
        return ""
    return path.removeprefix(f"{PATH}/") if path.startswith(f"{PATH}/") else None


def _response(files: dict[str, _File], name: str, request: Request) -> Response:
    if not files:
        return Response(_MISSING, 404, _HEADERS, "text/plain")
    file = files.get(name)
    if file is None:
        return Response(
            f"there is no {request.url.path}\n", 404, _HEADERS, "text/plain"
        )
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.body, 200, _HEADERS, file.media_type)
    headers = {**_HEADERS, "content-encoding": "gzip"}
    return Response(file.compressed, 200, headers, file.media_type)


@cache
def _files() -> dict[str, _File]:
    """Return the files by name, or nothing without the package."""
    package = find_spec("flask_swagger_ui")
    if package is None or package.origin is None:
        return {}
    folder = Path(package.origin).parent / "dist"
    script, style = "text/javascript", "text/css"
    files = {
        "": ("text/html", _PAGE.encode()),
        "start.js": (script, _START.encode()),
        "swagger-ui.css": (style, (folder / "swagger-ui.css").read_bytes()),
        "swagger-ui-bundle.js": (
            script,
            (folder / "swagger-ui-bundle.js").read_bytes(),
        ),
    }
    return {
        name: _File(media_type, body, gzip.compress(body, 6, mtime=0))
        for name, (media_type, body) in files.items()
    }
