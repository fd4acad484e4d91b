"""Baggage: attribution in OpenTelemetry's baggage, to other services and from them.

The names are outlay's own: ``outlay.customer_id``, ``outlay.operation``,
``outlay.region``, and ``outlay.data``, the dimensions as JSON. Values are plain text:
what makes a header of baggage percent-encodes it.
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

_OURS: Final = tuple(PREFIX + name for name in NAMES)

_MAX_MEMBERS: Final = 64
_MAX_BYTES: Final = 8192
"""What everybody must pass on at least: W3C Baggage, "Limits"."""


def to_baggage() -> AbstractContextManager[Context]:
    """Put whose costs the running code's are into OpenTelemetry's baggage, for a block.

    Requests that an instrumented library makes inside tell it to whoever they go to,
    third parties among them: that is how baggage works, and why this is never done
    unasked. Baggage of other names is untouched; ours, from wherever it came, is
    replaced, or removed where nobody said anything.

    Baggage is passed on reliably up to 64 entries and 8192 bytes. If ours does not fit
    beside others', it is left out, and the log says so.

    Returns:
        What to enter; it gives the context, for `propagate.inject`.

    Raises:
        InvalidEventError: ours alone would have over 4096 bytes, for there is much in
            the dimensions.

    Example:
        >>> with outlay.attribute(customer_id="cus_123"), outlay.propagation.to_baggage():
        ...     httpx.post("https://ocr.internal/pages", content=document)
    """
    return _AttachedContext(_context_with(to_members(current_attribution.get())))


def from_baggage(context: Context | None = None) -> AttributionScope:
    """Take up, for a block or a function, whose costs OpenTelemetry's baggage says.

    It is `attribute` with what `to_baggage` put in elsewhere; what it leaves open is as
    outside. Baggage without our names says nothing; neither does a malformed one, which
    is logged.

    Only behind a door that strangers' baggage does not pass: whoever sends a request
    can name any customer in it.

    Thread safety: as `attribute`.

    Args:
        context: whose baggage; None: the current one at each entry of the scope.

    Example:
        >>> @outlay.propagation.from_baggage()
        ... async def read_pages(request): ...
    """
    return AttributionScope(lambda: _attribution_from(context))


class _AttachedContext:
    """A context that is the current one in a block.

    No decorator, which `contextlib.contextmanager` would make of it: around an
    asynchronous function that one would end before the function begins.
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
    """Return the current context with ``members``, and no others, in our names."""
    context = get_current()
    for name in _OURS:
        context = remove_baggage(name, context)
    others = get_all(context)
    ours = {PREFIX + name: value for name, value in members.items()}
    check_size(_header(ours))
    if len(others) + len(ours) > _MAX_MEMBERS or (
        len(_header({**others, **ours})) > _MAX_BYTES
    ):
        propagation_log.warn("baggage", _NO_ROOM, _MAX_MEMBERS, _MAX_BYTES)
        return context
    for name, value in ours.items():
        context = set_baggage(name, value, context)
    return context


def _header(entries: Mapping[str, object]) -> str:
    return ",".join(
        f"{quoted(name)}={quoted(str(value))}" for name, value in entries.items()
    )


_NO_ROOM: Final = (
    "the baggage does not say whose costs they are: with it there would be over %d "
    "entries or %d bytes, which need not be passed on. Put less into it"
)
