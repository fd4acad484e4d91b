"""Cost events: what the caller says, checked, and encoded once.

The bytes made here are the request body: journal, shipper and every retry carry them
unchanged, so that a retry can shift neither the key nor the time of an event.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args
from uuid import UUID

import msgspec

from outlay._model import keys
from outlay._model.clock import Clock, rfc3339, to_ms
from outlay._model.money import Amount, exact
from outlay.errors import InvalidEventError

Json: TypeAlias = (
    "str | int | float | bool | Decimal | Mapping[str, Json] | list[Json] | None"
)
"""What ``data`` may hold; a Decimal is sent as a JSON number with all its digits."""

Provenance: TypeAlias = Literal["reported", "priced", "manual"]
"""Who says the amount: the provider, a dated price list applied to reported usage,
or the caller by hand."""

OperationId: TypeAlias = str | int | UUID
"""An operation's own stable id; 42 and "42" are the same operation."""

MAX_EVENT_BYTES: Final = 256 * 1024
"""Refused at capture, where the caller can still act. Servers take 1 MiB; the margin
leaves room for a batch's envelope."""

MAX_TEXT_CHARS: Final = 255
"""Of a type, source, customer or label: the limit that servers apply to them."""

MAX_OPERATION_ID_CHARS: Final = 1024
"""Operation ids are hashed, so only a caller's mistake is longer than this."""

_MAX_DEPTH: Final = 64  # of nested data; deeper JSON is refused by common parsers
_MAX_HEADINGS: Final = 8192  # about 4 MB of cached headings before starting over

# C0 and C1 controls and the two Unicode line separators: they break logs and CSV
# files, and the service refuses control characters in event types.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_PLAIN_TYPES: Final = frozenset({str, int, bool})  # JSON whatever their value


class CostEvent(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One billable operation, for one customer, cost this much. Immutable.

    Attributes:
        type: event type, such as ``cost.ai.inference``; links to cost metrics.
        source: URI naming the application that tracked the cost.
        subject: the customer who the cost is attributed to.
        data: ``amount``, its provenance, the labels given, and the caller's data.
        timestamp: when the cost arose; RFC 3339, UTC, milliseconds.
        idempotency_key: what the server dedupes on.
        namespace: organization, where the credential may write to several.
    """

    type: str
    source: str
    subject: str
    data: dict[str, Any]
    timestamp: str
    idempotency_key: str
    namespace: str | None = None


class _Heading(NamedTuple):
    """What the events of one customer, type and set of labels have in common."""

    key_prefix: bytes
    fields: dict[str, str]


_Labels: TypeAlias = tuple[
    str, str, str | None, str | None, str | None, str | None, str | None, str
]

_LABEL_NAMES: Final = (
    "event_type",
    "customer_id",
    "provider",
    "line",
    "operation",
    "region",
    "unit",
    "provenance",
)
_FIELD_NAMES: Final = frozenset(
    {*_LABEL_NAMES[2:], "amount", "quantity", "operationId"},
)

_encode = msgspec.json.Encoder(decimal_format="number").encode
_decoder = msgspec.json.Decoder(CostEvent, float_hook=Decimal)


def decode_event(payload: bytes) -> CostEvent:
    """Return the event that ``payload`` carries, its numbers as exact decimals.

    Raises:
        msgspec.DecodeError: the payload is no cost event.
    """
    return _decoder.decode(payload)


class EventComposer:
    """Turns the arguments of ``track_cost`` into an idempotency key and a payload.

    Thread safety: any thread, re-entrant. The caches are dicts whose single
    operations are atomic; losing a race costs a recomputation.
    """

    def __init__(
        self,
        *,
        source: str,
        namespace: str | None,
        allow_credits: bool,
        clock: Clock,
    ) -> None:
        self._source = check_text("source", source)
        self._namespace = check_text("namespace", namespace) if namespace else None
        self._allow_credits = allow_credits
        self._now_ms = clock.now_ms
        self._headings: dict[_Labels, _Heading] = {}
        self._instant = (0, rfc3339(0))  # the last millisecond, and its text

    def compose(  # noqa: PLR0917 - one caller, and keywords would cost it 0.3 µs
        self,
        event_type: str,
        amount: Amount,
        customer_id: str,
        operation_id: OperationId | None,
        provider: str | None,
        operation: str | None,
        region: str | None,
        line: str | None,
        quantity: Amount | None,
        unit: str | None,
        provenance: Provenance,
        timestamp: datetime | None,
        data: Mapping[str, Json] | None,
    ) -> tuple[str, bytes]:
        """Return the idempotency key and the encoded event.

        Raises:
            InvalidEventError: an argument breaks a rule; the message names it.
        """
        labels = (
            event_type,
            customer_id,
            provider,
            line,
            operation,
            region,
            unit,
            provenance,
        )
        try:
            heading = self._headings[labels]
        except (KeyError, TypeError):  # new, or unhashable and so invalid
            heading = self._admit(labels)
        key_prefix, labelled = heading
        fields: dict[str, Any] = {
            "amount": exact(amount, allow_credits=self._allow_credits),
            **labelled,
        }
        if quantity is not None:
            fields["quantity"] = exact(quantity, field="quantity")
        if operation_id is None:
            key = keys.random_key()
        else:
            operation_text = fields["operationId"] = _operation_text(operation_id)
            key = keys.derive_key(key_prefix, operation_text)
        if data:
            _merge(fields, data)
        event = CostEvent(
            event_type,
            self._source,
            customer_id,
            fields,
            self._instant_text() if timestamp is None else _instant(timestamp),
            key,
            self._namespace,
        )
        return key, _payload(event)

    def _admit(self, labels: _Labels) -> _Heading:
        """Check labels not seen before, and remember what follows from them."""
        for name, value in zip(_LABEL_NAMES, labels, strict=True):
            if value is not None or name in {"event_type", "customer_id", "provenance"}:
                check_text(name, value)
        event_type, customer_id, provider, line, *_, provenance = labels
        if provenance not in get_args(Provenance):
            allowed = " or ".join(map(repr, get_args(Provenance)))
            raise InvalidEventError("provenance", provenance, f"pass {allowed}")
        heading = _Heading(
            keys.key_prefix(
                self._source, event_type, customer_id, provider or "", line or ""
            ),
            {
                name: value
                for name, value in zip(_LABEL_NAMES[2:], labels[2:], strict=True)
                if value is not None
            },
        )
        if len(self._headings) >= _MAX_HEADINGS:
            self._headings.clear()
        self._headings[labels] = heading
        return heading

    def _instant_text(self) -> str:
        now = self._now_ms()
        at, text = self._instant
        if now != at:
            text = rfc3339(now)
            self._instant = (now, text)
        return text


def check_text(field: str, value: object, *, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return ``value`` if it is text that every server and log can carry.

    Raises:
        InvalidEventError: not a str, blank, too long, or with control characters or
            lone surrogates.
    """
    if not isinstance(value, str):
        raise InvalidEventError(field, value, f"pass a str, not {type(value).__name__}")
    if not value.strip():
        raise InvalidEventError(field, value, "must not be blank")
    if len(value) > max_chars:
        raise InvalidEventError(
            field, value, f"has {len(value)} characters, {max_chars} are allowed"
        )
    if value.isprintable():
        return value
    if _CONTROL.search(value):
        raise InvalidEventError(field, value, "remove the control characters")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidEventError(field, value, "is not Unicode text (lone surrogate)")
    return value


def _operation_text(operation_id: OperationId) -> str:
    if type(operation_id) is str:
        if operation_id.isprintable() and 0 < len(operation_id) <= MAX_TEXT_CHARS:
            return operation_id
    elif isinstance(operation_id, int | UUID) and not isinstance(operation_id, bool):
        return str(operation_id)
    return check_text("operation_id", operation_id, max_chars=MAX_OPERATION_ID_CHARS)


def _instant(timestamp: datetime) -> str:
    if not isinstance(timestamp, datetime):
        raise InvalidEventError("timestamp", timestamp, "pass an aware datetime")
    if timestamp.utcoffset() is None:
        raise InvalidEventError(
            "timestamp", timestamp, "is naive; pass one with a timezone, such as UTC"
        )
    return rfc3339(to_ms(timestamp))


def _merge(fields: dict[str, Any], data: Mapping[str, Json]) -> None:
    """Add the caller's data to the fields that outlay writes itself."""
    if type(data) is not dict and not isinstance(data, Mapping):
        raise InvalidEventError("data", data, "pass a mapping of str to JSON values")
    for name, value in data.items():
        if name in _FIELD_NAMES:
            raise InvalidEventError(
                f"data.{name}", value, "is outlay's own; use the argument, or rename"
            )
        if type(name) is not str or type(value) not in _PLAIN_TYPES:
            _check_json("data", {name: value}, _MAX_DEPTH)
        fields[name] = value


def _check_json(path: str, value: object, depth: int) -> None:
    """Refuse what the encoder would change silently, such as NaN or a set."""
    if depth == 0:
        raise InvalidEventError(path, value, f"is nested over {_MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise InvalidEventError(path, name, "JSON names must be str")
            _check_json(f"{path}.{name}", item, depth - 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(f"{path}[{index}]", item, depth - 1)
    elif not _is_json_scalar(value):
        raise InvalidEventError(
            path, value, f"is not JSON ({type(value).__name__}); convert it first"
        )


def _is_json_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Decimal):
        return value.is_finite()
    return value is None or isinstance(value, str | int)


def _payload(event: CostEvent) -> bytes:
    try:
        payload = _encode(event)
    except (TypeError, ValueError) as error:  # ValueError: lone surrogates in data
        raise InvalidEventError(
            "data", event.data, f"cannot be sent: {error}"
        ) from error
    if len(payload) > MAX_EVENT_BYTES:
        raise InvalidEventError(
            "data",
            event.data,
            f"makes an event of {len(payload)} bytes, {MAX_EVENT_BYTES} are allowed",
        )
    return payload
