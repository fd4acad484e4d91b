"""Carry attribution in MCP's ``_meta``: `meta` and `extract`.

    await session.call_tool("ocr", arguments, meta=meta())   # the client

    @server.tool()                                           # the server
    async def ocr(document: str, context: Context) -> str:
        with extract(context):
            ...

Both are explicit. A client names its customers only to servers of your own, and a
server trusts only clients of your own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from outlay._capture.context import message_headers
from outlay.integrations import _tasks

if TYPE_CHECKING:
    from outlay._capture.context.attribution import AttributionScope

__all__ = ("extract", "meta")

_NAME: Final = "mcp"


def meta() -> dict[str, Any]:
    """Return metadata that carry the attribution of the running code.

    Pass them to ``ClientSession.call_tool``, for servers of your own only: they contain
    the customer's id.

    Returns:
        A new dict, to which you may add. Empty, if there is no attribution.
    """
    return dict(_tasks.message_headers(_NAME))


def extract(context: Any) -> AttributionScope:  # noqa: ANN401 - of several versions of MCP
    """Restore, for a block, the attribution that a client sent with `meta`.

    Use it only in servers that strangers cannot reach. Any client can name any
    customer.

    Args:
        context: The context of the request, as a tool gets it: ``Context`` of the
            high-level server, or the request context of the low-level one.
    """
    request = getattr(context, "request_context", context)
    given = getattr(request, "meta", None)
    if given is not None and not isinstance(given, Mapping):
        given = given.model_extra  # a model, up to version 1 of the package
    return message_headers.extract(given)
