"""Carry attribution in the headers of messages to other processes.

There is one header. Its value is a version and members, each ended by a semicolon:

    outlay-attribution: 1;customer_id=cus_123;region=eu-1;data=%7B%22feature%22%3A1%7D;

Values are text in UTF-8. All but the unreserved characters of RFC 3986 are
percent-encoded. ``data`` is JSON. So name and value fit into headers of HTTP, AMQP, SQS
and Kafka, and into a column of a database. A value that was cut off, or joined with
another, does not parse.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote, unquote

import msgspec

from outlay._capture.context.attribution import AttributionScope, validated
from outlay._model.attribution import UNATTRIBUTED, Attribution, current_attribution
from outlay._model.clock import SystemClock
from outlay._model.events import encode_data
from outlay._model.rate_limited_log import RateLimitedLog
from outlay.errors import ConfigError, InvalidEventError, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEADER: Final = "outlay-attribution"

MAX_BYTES: Final = 4096
"""The largest value. Common servers accept 8 KB in a header line, and some in all
headers together (nginx's ``large_client_header_buffers``), which others share."""

_VERSION: Final = "1"
_VALUE: Final = re.compile(
    r"1;((?:[a-z_]+=(?:[A-Za-z0-9_.~-]|%[0-9A-Fa-f]{2})+;)*)", re.ASCII
)

_LABELS: Final = ("customer_id", "operation", "region")
_DATA: Final = "data"
NAMES: Final = (*_LABELS, _DATA)
"""The names of the members."""

_read_data: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode

propagation_log: Final = RateLimitedLog(SystemClock())
"""Reports attribution that could not be carried."""


class Headers(Protocol):
    """The headers of a message, such as a dict. Names may be in any case."""

    def items(self) -> Iterable[tuple[Any, object]]:
        """Return the pairs of name and value."""
        ...


def inject() -> dict[str, str]:
    """Return headers that carry the attribution of the running code.

    Add them to what you send to your own workers and services: a task, a message, a
    request. There, `extract` restores the attribution.

    Thread safety: any thread.

    Returns:
        One header, whose name and value are plain ASCII. Empty, if there is no
        attribution.

    Raises:
        InvalidEventError: The value would have over 4096 bytes. Use fewer or shorter
            dimensions.

    Example:
        >>> summarise.apply_async([document], headers=outlay.propagation.inject())
    """
    members = to_members(current_attribution.get())
    if not members:
        return {}
    text = "".join(f"{name}={quoted(value)};" for name, value in members.items())
    return {HEADER: check_size(f"{_VERSION};{text}")}


def extract(headers: Headers | None) -> AttributionScope:
    """Restore, for a block or a function, the attribution that a message carries.

    It acts as `attribute` with the values that `inject` wrote into ``headers``. Missing
    values come from the outer scope. A message without the header changes nothing. A
    malformed header is logged and ignored, and the code runs.

    Use it only for messages of your own. Anyone else could name any customer.

    Thread safety: as `attribute`.

    Args:
        headers: The headers of the message, with names in any case, or None. Other
            headers are ignored. Bytes, such as Kafka's, are read like text.

    Raises:
        ConfigError: ``headers`` is not a mapping.

    Example:
        >>> with outlay.propagation.extract(message.headers):
        ...     handle(message)
    """
    attribution = _read(_find(headers))
    return AttributionScope(lambda: attribution)


def to_members(attribution: Attribution) -> dict[str, str]:
    """Return the values of an attribution as text, by name."""
    labels = {name: getattr(attribution, name) for name in _LABELS}
    members = {name: value for name, value in labels.items() if value is not None}
    if attribution.dimensions:
        members[_DATA] = encode_data(attribution.dimensions).decode()
    return members


def from_members(members: Mapping[str, str]) -> Attribution:
    """Return the attribution of those ``members`` that are known.

    Raises:
        ValueError: A value is not valid; InvalidEventError is a ValueError.
    """
    try:
        data = _read_data(members.get(_DATA, "{}"))
    except RecursionError:
        raise ValueError("data is nested too deeply") from None
    return validated(data, **{name: members.get(name) for name in _LABELS})


def quoted(text: str) -> str:
    """Return ``text`` percent-encoded."""
    return quote(text, safe="")


def check_size(value: str) -> str:
    """Return ``value``, if it is short enough.

    Raises:
        InvalidEventError: It is too long.
    """
    if len(value) <= MAX_BYTES:
        return value
    raise InvalidEventError(
        "attribution",
        value,
        f"takes {len(value)} bytes to carry, {MAX_BYTES} are allowed: use fewer or "
        "shorter dimensions in attribute(...)",
    )


def warn_ignored(where: str, error: Exception) -> None:
    """Log that ``where`` is ignored, without its text, which may be personal."""
    why = error.remedy if isinstance(error, InvalidEventError) else error
    propagation_log.warn("extract", _IGNORED, where, why)


_IGNORED: Final = (
    "%s has no valid attribution, and is ignored: %s. Check that outlay wrote it, and "
    "that it arrives whole"
)


def _find(headers: Headers | None) -> object:
    if headers is None:
        return None
    try:
        pairs = headers.items()
    except AttributeError:
        raise ConfigError(
            f"extract({shorten(headers)}): pass the message's headers as a mapping"
        ) from None
    return next((value for name, value in pairs if _is_header(name)), None)


def _is_header(name: str | bytes) -> bool:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return text.lower() == HEADER


def _read(value: object) -> Attribution:
    if value is None:
        return UNATTRIBUTED
    try:
        return from_members(_members(value))
    except ValueError as error:
        warn_ignored(f"the header {HEADER}", error)
        return UNATTRIBUTED


def _members(value: object) -> dict[str, str]:
    """Return the decoded members of a header's value."""
    text = value.decode("ascii") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise ValueError(f"it is not text ({type(text).__name__})")  # noqa: TRY004 - a message's fault
    if len(text) > MAX_BYTES:
        raise ValueError(f"it has {len(text)} bytes, {MAX_BYTES} are allowed")
    found = _VALUE.fullmatch(text)
    if found is None:
        raise ValueError(f"it is not of version {_VERSION}")
    pairs = [member.partition("=") for member in found[1].split(";")[:-1]]
    members = {name: unquote(value, errors="strict") for name, _, value in pairs}
    if len(members) < len(pairs):
        raise ValueError("it has a member twice")
    return members
