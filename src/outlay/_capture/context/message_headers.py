"""Messages: attribution in the headers of what leaves the process, and back.

One header, whose value is a version and members, each ended by a semicolon:

    outlay-attribution: 1;customer_id=cus_123;region=eu-1;data=%7B%22feature%22%3A1%7D;

Values are text in UTF-8, percent-encoded but for the unreserved characters of RFC 3986;
``data`` is JSON. So a name and a value are fit for HTTP, AMQP, SQS, Kafka and a column
of a database. A value that was cut off, or joined with another, is no such value.
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
"""Of the value. Common servers take header lines up to 8 KB, some of them all headers
together (nginx's ``large_client_header_buffers``); others have headers as well."""

_VERSION: Final = "1"
_VALUE: Final = re.compile(
    r"1;((?:[a-z_]+=(?:[A-Za-z0-9_.~-]|%[0-9A-Fa-f]{2})+;)*)", re.ASCII
)

_LABELS: Final = ("customer_id", "operation", "region")
_DATA: Final = "data"
NAMES: Final = (*_LABELS, _DATA)
"""Of the members."""

_read_data: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode

propagation_log: Final = RateLimitedLog(SystemClock())
"""Where what could not be carried is reported."""


class Headers(Protocol):
    """Names and values of a message, such as a dict; of HTTP, in any case."""

    def items(self) -> Iterable[tuple[Any, object]]:
        """Return pairs of name and value."""
        ...


def inject() -> dict[str, str]:
    """Return headers that say whose costs the running code's are.

    Put them on what you send to your own workers and services: a task, a message, a
    request. There, `resume` takes up what `attribute` says here.

    Thread safety: any thread.

    Returns:
        One header, whose name and value are plain ASCII; none if nobody said anything.

    Raises:
        InvalidEventError: it would have over 4096 bytes, for there is much in the
            dimensions.

    Example:
        >>> summarise.apply_async([document], headers=outlay.propagation.inject())
    """
    members = to_members(current_attribution.get())
    if not members:
        return {}
    written = "".join(f"{name}={quoted(value)};" for name, value in members.items())
    return {HEADER: check_size(f"{_VERSION};{written}")}


def extract(headers: Headers | None) -> AttributionScope:
    """Take up, for a block or a function, whose costs a message says they are.

    It is `attribute` with what `carry` put into ``headers`` elsewhere; what the message
    leaves open is as outside. A message without that header says nothing. Neither does
    a malformed one: it is logged, and the job runs all the same.

    Only for messages of your own: any stranger could name any customer.

    Thread safety: as `attribute`.

    Args:
        headers: of the message; None: it has none. Names in any case, other headers are
            passed over. Bytes, such as Kafka's, are read like text.

    Raises:
        ConfigError: not a mapping.

    Example:
        >>> with outlay.propagation.extract(message.headers):
        ...     handle(message)
    """
    said = _read(_find(headers))
    return AttributionScope(lambda: said)


def to_members(said: Attribution) -> dict[str, str]:
    """Return what is said, by name, as text."""
    labels = {name: getattr(said, name) for name in _LABELS}
    members = {name: value for name, value in labels.items() if value is not None}
    if said.dimensions:
        members[_DATA] = encode_data(said.dimensions).decode()
    return members


def from_members(members: Mapping[str, str]) -> Attribution:
    """Return what was said, by those of ``members`` that are known.

    Raises:
        ValueError: it cannot have been said; InvalidEventError is one.
    """
    try:
        data = _read_data(members.get(_DATA, "{}"))
    except RecursionError:
        raise ValueError("data is nested too deeply") from None
    return validated(data, **{name: members.get(name) for name in _LABELS})


def quoted(text: str) -> str:
    """Return ``text``, percent-encoded."""
    return quote(text, safe="")


def check_size(value: str) -> str:
    """Return ``value`` if it is short enough to be carried.

    Raises:
        InvalidEventError: it is not.
    """
    if len(value) <= MAX_BYTES:
        return value
    raise InvalidEventError(
        "attribution",
        value,
        f"takes {len(value)} bytes to carry, {MAX_BYTES} are allowed: attribute(...) "
        "fewer or shorter dimensions",
    )


def warn_ignored(where: str, error: Exception) -> None:
    """Log that what ``where`` says is passed over. What it says may be personal."""
    why = error.remedy if isinstance(error, InvalidEventError) else error
    propagation_log.warn("resume", _IGNORED, where, why)


_IGNORED: Final = (
    "%s does not say whose costs they are, and is ignored: %s. Is it written by "
    "outlay, and does it come in whole?"
)


def _find(headers: Headers | None) -> object:
    if headers is None:
        return None
    try:
        pairs = headers.items()
    except AttributeError:
        raise ConfigError(
            f"resume({shorten(headers)}): pass the message's headers as a mapping"
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
    """Return the members of a header's value, decoded."""
    text = value.decode("ascii") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise ValueError(f"it is no text ({type(text).__name__})")  # noqa: TRY004 - of a message, not of a call
    if len(text) > MAX_BYTES:
        raise ValueError(f"it has {len(text)} bytes, {MAX_BYTES} are allowed")
    found = _VALUE.fullmatch(text)
    if found is None:
        raise ValueError(f"it is not of version {_VERSION}")
    pairs = [member.partition("=") for member in found[1].split(";")[:-1]]
    members = {name: unquote(value, errors="strict") for name, _, value in pairs}
    if len(members) < len(pairs):
        raise ValueError("it says something twice")
    return members
