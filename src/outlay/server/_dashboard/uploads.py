"""Read posted forms that have files.

The files are in memory, so a form is small. The command line takes larger files.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from outlay.server._dashboard.forms import check_origin
from outlay.server._wire.problems import HttpProblem

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from starlette.requests import Request

MAX_BYTES: Final = 16 * 1024 * 1024
_MOST_FILES: Final = 4
_MOST_FIELDS: Final = 30
_MEDIA_TYPE: Final = "multipart/form-data"


class PostedFile(NamedTuple):
    """A file of a form. Its name is what the browser says."""

    name: str
    content: bytes

    def open(self) -> BinaryIO:
        """Return the content as a new file."""
        return io.BytesIO(self.content)


class Posted(NamedTuple):
    """A posted form: its fields, and the files that a person has chosen."""

    fields: Mapping[str, str]
    files: Mapping[str, PostedFile]


async def read_upload(request: Request) -> Posted:
    """Return a posted form with files. A file that was not chosen is absent.

    Raises:
        HttpProblem: The form is from another site, too large, or of another type.
    """
    check_origin(request)
    if request.headers.get("content-type", "").partition(";")[0] != _MEDIA_TYPE:
        raise HttpProblem(415, "send the form as a browser does")
    parser = MultiPartParser(
        request.headers,
        _limited(request),
        max_files=_MOST_FILES,
        max_fields=_MOST_FIELDS,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise HttpProblem(400, f"send the form as a browser does ({error})") from None
    fields: dict[str, str] = {}
    files: dict[str, PostedFile] = {}
    try:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif value.filename:
                files[name] = PostedFile(value.filename, await value.read())
    finally:
        await form.close()
    return Posted(fields, files)


async def _limited(request: Request) -> AsyncGenerator[bytes]:
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BYTES:
            raise HttpProblem(
                413,
                f"the files have more than {MAX_BYTES >> 20} MB; use 'outlay revenue "
                "import' or 'outlay reconcile' for larger ones",
            )
        yield part
