"""The rules for the parts of an event. Each error names the argument and the remedy."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from outlay._model.clock import format_rfc3339, to_ms
from outlay._model.events import Json, add_key, encode_json
from outlay.errors import InvalidEventError

if TYPE_CHECKING:
    from outlay._model.events import OperationId

MAX_EVENT_BYTES: Final = 256 * 1024
"""The largest event in bytes. A larger one is refused where it is tracked, because the
caller can still act there. Servers accept 1 MiB. A batch's envelope fits, too."""

SURELY_FITS: Final = MAX_EVENT_BYTES - 1024
"""The bytes of an event without its key that fit, whatever the length of the key."""

MAX_TEXT_CHARS: Final = 255
"""The longest type, source, customer or label. Servers apply the same limit."""

MAX_OPERATION_ID_CHARS: Final = 1024
"""The longest operation id. Ids are hashed, so a longer one is a caller's mistake."""

_MAX_DEPTH: Final = 64  # of nested data. Common parsers refuse deeper JSON.

# C0 and C1 controls and the two Unicode line separators: they break logs and CSV
# files, and the service refuses control characters in event types.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# The checks of whole mappings run in C, as long as all is plain.
_all_are_text: Final = frozenset({str}).issuperset
_JSON_TYPES: Final = frozenset({str, int, bool})  # valid JSON whatever the value
_all_are_json: Final = _JSON_TYPES.issuperset

# Names in an event's data that outlay writes.
LABEL_FIELDS: Final = ("provider", "line", "operation", "region", "unit", "provenance")
_RESERVED_NAMES: Final = frozenset({*LABEL_FIELDS, "amount", "quantity", "operationId"})


def validate_text(field: str, value: object, *, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return ``value`` if it is text that every server and log can carry.

    A member of an enumeration of str, or another subclass, is returned as plain text.
    It equals that text, so it must not be written or cached as anything else.

    Args:
        field: The name of the argument, for the error.
        value: The value to check.
        max_chars: The largest number of characters. Defaults to 255.

    Raises:
        InvalidEventError: The value is not a str, is blank or too long, or has control
            characters or lone surrogates.
    """
    if (
        type(value) is str
        and value.isprintable()
        and 0 < len(value) <= max_chars
        and not value.isspace()
    ):
        return value  # Nearly all texts are like this.
    if not isinstance(value, str):
        raise InvalidEventError(field, value, f"pass a str, not {type(value).__name__}")
    if not value.strip():
        raise InvalidEventError(field, value, "must not be blank")
    if len(value) > max_chars:
        raise InvalidEventError(
            field, value, f"has {len(value)} characters, {max_chars} are allowed"
        )
    value = str.__str__(value)
    if value.isprintable():
        return value
    if _CONTROL.search(value):
        raise InvalidEventError(field, value, "remove the control characters")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidEventError(field, value, "is not Unicode text (lone surrogate)")
    return value


def is_plain_text(value: object) -> bool:
    """Return whether ``value`` surely passes `validate_text`. Most text does."""
    return (
        type(value) is str
        and value.isprintable()
        and value >= "!"  # neither empty nor blank
        and len(value) <= MAX_TEXT_CHARS
    )


def operation_id_text(operation_id: OperationId) -> str:
    """Return an operation id as text.

    Raises:
        InvalidEventError: It is not a str, int or UUID, or breaks a rule for text.
    """
    if isinstance(operation_id, UUID):
        operation_id = str(operation_id)
    elif isinstance(operation_id, int) and not isinstance(operation_id, bool):
        try:
            # int's own repr: a subclass may print as something else.
            operation_id = int.__repr__(operation_id)
        except ValueError:  # Python refuses to write thousands of digits
            raise InvalidEventError(
                "operation_id", operation_id, "has too many digits"
            ) from None
    return validate_text("operation_id", operation_id, max_chars=MAX_OPERATION_ID_CHARS)


def timestamp_text(timestamp: datetime) -> str:
    """Return an aware datetime as RFC 3339 text.

    Raises:
        InvalidEventError: It is not a datetime, is naive, or is out of range.
    """
    if not isinstance(timestamp, datetime):
        raise InvalidEventError("timestamp", timestamp, "pass an aware datetime")
    if timestamp.tzinfo is UTC:  # without the way through milliseconds
        return timestamp.isoformat(timespec="milliseconds")[:-6] + "Z"
    if timestamp.utcoffset() is None:
        raise InvalidEventError(
            "timestamp", timestamp, "is naive; pass one with a timezone, such as UTC"
        )
    try:
        return format_rfc3339(to_ms(timestamp))
    except OverflowError:
        raise InvalidEventError(
            "timestamp", timestamp, "must be in the years 1 to 9999 in UTC"
        ) from None


def check_size(data: object, payload: bytes) -> None:
    """Check that an event with ``data`` is not too large.

    Raises:
        InvalidEventError: It has more than `MAX_EVENT_BYTES`.
    """
    size = len(add_key(payload))
    if size > MAX_EVENT_BYTES:
        raise InvalidEventError(
            "data",
            data,
            f"makes an event of {size} bytes, {MAX_EVENT_BYTES} are allowed",
        )


def json_string(text: str) -> str:
    """Return ``text`` as a JSON string."""
    if '"' in text or "\\" in text or not text.isprintable():
        return encode_json(text).decode()
    return f'"{text}"'


def data_members(data: Mapping[str, Json]) -> str:
    """Return the caller's data as members to append to a JSON object.

    Raises:
        InvalidEventError: A name is reserved, or a value is not JSON.
    """
    if type(data) is not dict and not isinstance(data, Mapping):
        raise InvalidEventError("data", data, "pass a mapping of str to JSON values")
    if not _RESERVED_NAMES.isdisjoint(data):
        name = next(name for name in data if name in _RESERVED_NAMES)
        raise InvalidEventError(
            f"data.{name}", data[name], "is outlay's own; use the argument, or rename"
        )
    _validate_members("data", data, _MAX_DEPTH)
    try:
        return "," + encode_json(data)[1:-1].decode()
    except UnicodeEncodeError:
        raise InvalidEventError(
            "data", data, "holds text that is not Unicode (lone surrogate)"
        ) from None
    except (TypeError, ValueError) as error:  # such as an int of thousands of digits
        raise InvalidEventError("data", data, f"cannot be sent: {error}") from error


def validate_data(data: Mapping[str, Json]) -> None:
    """Check ``data`` as `track_cost` does.

    Raises:
        InvalidEventError: A name is reserved, or a value is not JSON.
    """
    if data:
        data_members(data)


def _validate_json(path: str, value: object, depth: int) -> None:
    """Refuse values that the encoder would change silently, such as NaN or a set."""
    if isinstance(value, Mapping):
        _validate_members(path, value, depth)
    elif depth == 0:
        raise _nested_too_deep(path, value)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _validate_json(f"{path}[{index}]", item, depth - 1)
    elif not _is_json_scalar(value):
        raise InvalidEventError(
            path, value, f"is not JSON ({type(value).__name__}); convert it first"
        )


def _validate_members(path: str, members: Mapping[Any, object], depth: int) -> None:
    if depth == 0:
        raise _nested_too_deep(path, members)
    if not _all_are_text(map(type, members)):
        _validate_names(path, members)
    if depth > 1 and _all_are_json(map(type, members.values())):
        return  # most mappings; the loop takes ten times as long
    for name, value in members.items():
        if type(value) is dict:
            _validate_members(f"{path}.{name}", value, depth - 1)
        elif depth == 1 or type(value) not in _JSON_TYPES:
            _validate_json(f"{path}.{name}", value, depth - 1)


def _validate_names(path: str, names: Iterable[object]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise InvalidEventError(path, name, "JSON names must be str")


def _nested_too_deep(path: str, value: object) -> InvalidEventError:
    return InvalidEventError(path, value, f"is nested over {_MAX_DEPTH} levels")


def _is_json_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Decimal):
        return value.is_finite()
    return value is None or isinstance(value, str | int)
