"""Carry attribution in OpenTelemetry's baggage to other services.

The names are outlay's own: ``outlay.customer_id``, ``outlay.operation``,
``outlay.region``, and ``outlay.data``, the dimensions as JSON. Values are plain text.
The propagator that writes a header percent-encodes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.baggage import get_all, remove_baggage, set_baggage
from opentelemetry.context import attach, detach, get_current

from outlay._capture.context.attribution import AttributionScope
from outlay._capture.context.message_headers import (
    NAMES,
    check_size,
    from_members,
    propagation_log,
    quoted,
    to_members,
    warn_ignored,
)
from outlay._model.attribution import UNATTRIBUTED, Attribution, current_attribution

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from contextvars import Token

    from opentelemetry.context import Context

PREFIX: Final = "outlay."

_KEYS: Final = tuple(PREFIX + name for name in NAMES)

_MAX_MEMBERS: Final = 64
_MAX_BYTES: Final = 8192
"""The sizes that every service must pass on. Source: W3C Baggage, "Limits"."""


def to_baggage() -> AbstractContextManager[Context]:
    """Put the running code's attribution into OpenTelemetry's baggage, for a block.

    Requests that an instrumented library makes inside carry it to every service they
    reach, also to those of third parties. So outlay never does this by itself. Baggage
    with other names is unchanged. Baggage with outlay's names is replaced, or removed
    if there is no attribution.

    Baggage is passed on reliably up to 64 entries and 8192 bytes. If outlay's does not
    fit beside the rest, it is left out and a warning is logged.

    Returns:
        A context manager. It returns the OpenTelemetry context, for
        ``propagate.inject``.

    Raises:
        InvalidEventError: outlay's baggage would have over 4096 bytes. Use fewer or
            shorter dimensions.

    Example:
        >>> with outlay.propagation.to_baggage():
        ...     httpx.post("https://ocr.internal/pages", content=document)
    """
    return _AttachedContext(_context_with(to_members(current_attribution.get())))


def from_baggage(context: Context | None = None) -> AttributionScope:
    """Restore, for a block or a function, the attribution in OpenTelemetry's baggage.

    It acts as `attribute` with the values that `to_baggage` wrote. Missing values come
    from the outer scope. Baggage without outlay's names changes nothing. Malformed
    baggage is logged and ignored.

    Use it only where baggage of strangers is removed before. Any sender of a request
    can name any customer in it.

    Thread safety: as `attribute`.

    Args:
        context: The context with the baggage. Defaults to the current one at each entry
            of the scope.

    Example:
        >>> @outlay.propagation.from_baggage()
        ... async def read_pages(request): ...
    """
    return AttributionScope(lambda: _attribution_from(context))


class _AttachedContext:
    """Makes a context the current one in a block.

    `contextlib.contextmanager` would also make it a decorator. Around an asynchronous
    function, that decorator would end before the function begins.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> Context:
        self._token: Token[Context] = attach(self._context)
        return self._context

    def __exit__(self, *exc_info: object) -> None:
        detach(self._token)


def _attribution_from(context: Context | None) -> Attribution:
    entries = get_all(context)
    members = {
        name: entries[PREFIX + name] for name in NAMES if PREFIX + name in entries
    }
    if not members:
        return UNATTRIBUTED
    try:
        return from_members({name: str(value) for name, value in members.items()})
    except ValueError as error:
        warn_ignored("the baggage outlay.*", error)
        return UNATTRIBUTED


def _context_with(members: Mapping[str, str]) -> Context:
    """Return the current context with ``members`` as outlay's only baggage."""
    context = get_current()
    for name in _KEYS:
        context = remove_baggage(name, context)
    others = get_all(context)
    own = {PREFIX + name: value for name, value in members.items()}
    check_size(_header(own))
    if len(others) + len(own) > _MAX_MEMBERS or (
        len(_header({**others, **own})) > _MAX_BYTES
    ):
        propagation_log.warn("baggage", _NO_ROOM, _MAX_MEMBERS, _MAX_BYTES)
        return context
    for name, value in own.items():
        context = set_baggage(name, value, context)
    return context


def _header(entries: Mapping[str, object]) -> str:
    return ",".join(
        f"{quoted(name)}={quoted(str(value))}" for name, value in entries.items()
    )


_NO_ROOM: Final = (
    "the attribution is not in the baggage: with it there would be over %d entries or "
    "%d bytes, which services need not pass on. Put less into the baggage"
)
