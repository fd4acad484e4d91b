"""Call the endpoints of a server that `outlay.api` does not offer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from pydantic import BaseModel

from outlay._cli.connection import print_warning
from outlay._cli.wire_models import WirePage
from outlay.api import Api
from outlay.api._calls import Call, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from outlay._model.settings import Settings

ModelT = TypeVar("ModelT", bound=BaseModel)
PageT = TypeVar("PageT", bound=WirePage)

MAX_PAGE: Final = 100
"""The most items of a page."""

_ATTEMPTS: Final = 3  # a part of thousands of lines may be sent again
# A busy server may need long for thousands of lines. Its own limit of a query is 30 s
# by default, and its message says more than a time-out does.
_READ_SECONDS: Final = 60.0

_encode: Final = msgspec.json.Encoder().encode


class ServerApi(Api):
    """Sends requests and reads their responses. Use as a context manager.

    Args:
        settings: The address and the credential.
        attempts: The largest number of requests for a call. Defaults to 1, because a
            person or a script that reads the exit code decides about another try.
    """

    def __init__(self, settings: Settings, *, attempts: int = 1) -> None:
        super().__init__(settings, attempts=attempts, on_warning=print_warning)

    def _get(
        self, path: str, model: type[ModelT], query: Mapping[str, str] | None = None
    ) -> ModelT:
        return self._send(Call("GET", path, _reader(model), query or {}))

    def _post(self, path: str, model: type[ModelT], body: object) -> ModelT:
        return self._send(Call("POST", path, _reader(model), body=_encode(body)))

    def _put(self, path: str, model: type[ModelT], body: object) -> ModelT:
        return self._send(Call("PUT", path, _reader(model), body=_encode(body)))

    def _delete(self, path: str) -> None:
        self._send(Call("DELETE", path, _read_nothing))


class BulkApi(ServerApi):
    """Sends and reads thousands of lines, which may take a busy server long.

    Args:
        settings: The address and the credential. Their time-out holds if it is set.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, attempts=_ATTEMPTS)
        if "timeout" not in settings.model_fields_set:
            self._client.timeout = httpx.Timeout(settings.timeout, read=_READ_SECONDS)

    def _pages(self, path: str, model: type[PageT]) -> Iterator[PageT]:
        """Yield all pages of a list."""
        offset = 0
        while True:
            query = {"limit": str(MAX_PAGE), "offset": str(offset)}
            page = self._get(path, model, query)
            yield page
            offset += len(page.data)
            if not page.data or offset >= page.pagination.total:
                return


def quoted(text: str) -> str:
    """Return ``text`` as one segment of a path."""
    return quote(text, safe="")


def _reader(model: type[ModelT]) -> Callable[[bytes], ModelT]:
    return partial(_read, model)


def _read(model: type[ModelT], content: bytes) -> ModelT:
    return model.model_validate(decode(content))


def _read_nothing(_: bytes) -> None:
    return None
