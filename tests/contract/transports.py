"""The ways to carry requests that must all keep the same contract."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeAlias

import httpx
import httpx2

from outlay.transport import HttpTransport

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import ModuleType

Made: TypeAlias = "AbstractContextManager[HttpTransport]"

KEY: Final = "sk_test_secret"
PATH: Final = "/v0/events"

LIBRARIES: Final[dict[str, ModuleType | None]] = {
    "built-in": None,
    "httpx": httpx,
    "httpx2": httpx2,
}
"""Whose client is lent; None: the transport's own connections."""


def transport_to(
    url: str,
    library: ModuleType | None,
    *,
    api_key: str | None = KEY,
    timeout: float = 5.0,
    deadline: float = 20.0,
    max_connections: int = 8,
    **options: object,
) -> Made:
    """Return a transport to use as a context.

    Args:
        url: where to.
        library: whose client to lend; None: none.
        api_key: as in the constructor, like the rest.
        timeout: the same.
        deadline: the same.
        max_connections: the same.
        **options: of the client that is lent, if one is.
    """
    client = None
    if library is not None:
        options.setdefault("limits", library.Limits(max_connections=max_connections))
        client = lambda: library.Client(**options)  # noqa: E731 - made for us, so closed
    return closing(
        HttpTransport(
            url,
            api_key=api_key,
            timeout=timeout,
            deadline=deadline,
            max_connections=max_connections,
            client=client,
        )
    )
