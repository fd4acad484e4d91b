"""Read posted forms, and refuse those of other sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlsplit

from outlay.server._wire.problems import HttpProblem

if TYPE_CHECKING:
    from starlette.requests import Request

_MAX_BYTES: Final = 64 * 1024
_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a posted form. Several values of a name are lines.

    Browsers send ``Origin`` with each form. The cookie is ``SameSite=Strict`` and a
    form has a token, so this check is a third lock. The sign-in form has only this one.

    Raises:
        HttpProblem: The form is from another site, too large, or of another type.
    """
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HttpProblem(403, "this form came from another site; open it here")
    if request.headers.get("content-type", "").partition(";")[0] != _MEDIA_TYPE:
        raise HttpProblem(415, "send the form as a browser does")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BYTES:
            raise HttpProblem(413, f"a form has at most {_MAX_BYTES} bytes")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True)
    except UnicodeDecodeError:
        raise HttpProblem(400, "send the form in UTF-8") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields[name] = f"{fields[name]}\n{value}" if name in fields else value
    return fields
