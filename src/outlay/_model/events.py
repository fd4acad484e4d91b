"""Cost events: what the caller says, checked, and encoded once.

The bytes made here are the request body: journal, shipper and every retry carry them
unchanged, so that a retry can shift neither the key nor the time of an event. Only a
key that follows from them is left out, for its hash is a fifth of the caller's time;
`with_key` adds it, the same each time, where events are read to be sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args
from uuid import UUID

import msgspec

from outlay._model import keys
from outlay._model.clock import NS_PER_MS, Clock, format_rfc3339, to_ms
from outlay._model.money import Amount, is_json_amount, to_json_number
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

_SURELY_FITS: Final = MAX_EVENT_BYTES - 1024  # whatever the length of its key

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


class CostEvent(
    msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True
):
    """One billable operation, for one customer, cost this much. Immutable.

    Attributes:
        type: event type, such as ``cost.ai.inference``; links to cost metrics.
        source: URI naming the application that tracked the cost.
        subject: the customer who the cost is attributed to.
        data: ``amount``, its provenance, the labels given, and the caller's data.
        timestamp: when the cost arose; RFC 3339, UTC, milliseconds.
        namespace: organization, where the credential may write to several.
        idempotency_key: what the server dedupes on.
    """

    type: str
    source: str
    subject: str
    data: dict[str, Any]
    timestamp: str
    namespace: str | None = None
    idempotency_key: str


_Prefix: TypeAlias = tuple[keys.HashObject, str, str]
"""What the events of one customer, type and set of labels have in common: a hash of the
shared part of their keys; their JSON text, up to where the amount goes; and an amount
that need not be checked, that of the first of them, for many costs are flat.

A plain tuple, which the interpreter takes apart faster than a named one."""


class Labels(NamedTuple):
    """What names and groups a cost; equal for many events.

    The fields are the arguments of ``track_cost``, where they are documented.
    """

    event_type: str
    customer_id: str
    provider: str | None
    line: str | None
    operation: str | None
    region: str | None
    unit: str | None
    provenance: str


LabelTuple: TypeAlias = tuple[
    str, str, str | None, str | None, str | None, str | None, str | None, str
]
"""`Labels` as the plain tuple that the hot path builds, and looks headings up by."""

ComposedEvent: TypeAlias = tuple[keys.HashObject | None, str, bytes]
"""A hasher, the text to finish it with, and the event without its key; or None, and a
random key that the event has already. Whoever asks derives the key: a few do."""

_REQUIRED: Final = frozenset({"event_type", "customer_id", "provenance"})
_LABEL_FIELDS: Final = Labels._fields[2:]  # those that go into the event's data
_FIELD_NAMES: Final = frozenset(
    {*_LABEL_FIELDS, "amount", "quantity", "operationId"},
)

# How to make a plain value of what JSON has, but the encoder knows only the base of.
_PLAIN: Final[tuple[tuple[type, Callable[[Any], object]], ...]] = (
    (str, str.__str__),  # not str(): a subclass may print as something else
    (int, int.__int__),
    (float, float.__float__),
    (Decimal, Decimal),
    (Mapping, dict),
)


def _as_plain(value: object) -> object:
    for kind, convert in _PLAIN:
        if isinstance(value, kind):
            return convert(value)
    raise NotImplementedError  # the encoder's own error; `_check_json` comes first


_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=_as_plain).encode
_decoder = msgspec.json.Decoder(CostEvent, float_hook=Decimal)


def encode_event(event: CostEvent) -> bytes:
    """Return the request body of an event, its amounts with all their digits."""
    return _encode(event)


def encode_data(data: Mapping[str, Json]) -> bytes:
    """Return checked ``data`` as JSON; its decimals keep all their digits."""
    return _encode(data)


def decode_event(payload: bytes) -> CostEvent:
    """Return the event that ``payload`` carries, its numbers as exact decimals.

    Raises:
        msgspec.DecodeError: the payload is no cost event.
    """
    return _decoder.decode(add_key(payload))


class _Operation(msgspec.Struct, rename="camel", gc=False):
    """What of an event's data goes into its key."""

    operation_id: str | None = None
    provider: str = ""
    line: str = ""


class _KeyParts(msgspec.Struct, rename="camel", gc=False):
    """The key of an event, or what it is derived from."""

    type: str
    source: str
    subject: str
    data: _Operation
    idempotency_key: str | None = None


_decode_named: Final = msgspec.json.Decoder(_KeyParts).decode
_hasher: Final = lru_cache(_MAX_HEADINGS)(keys.shared_key_hash)


def add_key(payload: bytes) -> bytes:
    """Return the request body of a composed event: with its key, derived if need be.

    What is no event stays what it is, for whoever takes it to say so. Any thread.
    """
    try:
        event = _decode_named(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return payload
    data = event.data
    if event.idempotency_key is not None or data.operation_id is None:
        return payload
    hasher = _hasher(event.source, event.type, event.subject, data.provider, data.line)
    key = keys.derive_key(hasher, data.operation_id)
    return b'%b,"idempotencyKey":"%b"}' % (payload[:-1], key.encode())


class _TimestampOnly(msgspec.Struct):
    timestamp: datetime


_decode_dated: Final = msgspec.json.Decoder(_TimestampOnly).decode


def event_time_ms(payload: bytes) -> int | None:
    """Return an event's timestamp in milliseconds since 1970; None: it has none."""
    try:
        return to_ms(_decode_dated(payload).timestamp)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):  # not made by us
        return None


class EventComposer:
    """Turns the arguments of ``track_cost`` into a payload, and what makes its key.

    This is the hot path. What the events of one customer and set of labels share is
    checked and encoded once, and remembered; an event adds its amount, operation and
    time to that text. The result, `with_key`, is what the JSON encoder makes of the
    same `CostEvent`, at a third of the price.

    Thread safety: any thread, re-entrant. The caches are single operations of a dict
    and an attribute; losing a race costs a recomputation.
    """

    def __init__(
        self,
        *,
        source: str,
        namespace: str | None,
        allow_credits: bool,
        clock: Clock,
        subject_of: Callable[[str], str] = str,
    ) -> None:
        self._source = validate_text("source", source)
        self._ending = '"'
        if namespace is not None:
            validate_text("namespace", namespace)
            self._ending = f'","namespace":{_json_string(namespace)}'
        self._allow_credits = allow_credits
        self._subject_of = subject_of
        self._now_ns = clock.now_ns
        self._prefixes: dict[LabelTuple, _Prefix] = {}
        self._instant = (0, 0, "")  # the last millisecond: from, until, its text

    def compose(  # noqa: C901, PLR0917 - each call in it costs 3 %
        self,
        labels: LabelTuple,
        amount: Amount,
        operation_id: OperationId | None,
        timestamp: datetime | None,
        quantity: Amount | None,
        data: Mapping[str, Json] | None,
    ) -> ComposedEvent:
        """Return the encoded event, and what its key is derived from.

        Raises:
            InvalidEventError: an argument breaks a rule; the message names it.
        """
        hasher: keys.HashObject | None
        try:
            hasher, opening, flat = self._prefixes[labels]
        except (KeyError, TypeError):  # new, or unhashable and so invalid
            hasher, opening, flat = self._add_prefix(Labels(*labels), amount)
        if type(amount) is not str or (amount != flat and not is_json_amount(amount)):
            amount = to_json_number(amount, allow_credits=self._allow_credits)
        ending = self._ending
        if operation_id is None:
            hasher, operation_id, more = None, keys.random_key(), ""
            ending = f'{ending},"idempotencyKey":"{operation_id}"'
        elif (
            type(operation_id) is str
            and operation_id.isprintable()
            and operation_id >= "!"  # neither empty nor blank
            and len(operation_id) <= MAX_TEXT_CHARS
            and '"' not in operation_id
            and "\\" not in operation_id
        ):
            more = f',"operationId":"{operation_id}"'
        else:
            operation_id, quoted = _operation_id_text(operation_id)
            more = f',"operationId":{quoted}'
        if quantity is not None:
            number = to_json_number(
                quantity, allow_credits=self._allow_credits, field="quantity"
            )
            more += f',"quantity":{number}'
        if data:
            more += _data_members(data)
        now_ns, (since, until, instant) = self._now_ns, self._instant
        if timestamp is not None:
            instant = _instant(timestamp)
        elif not since <= (now := now_ns()) < until:
            instant = self._current_instant(now)
        payload = f'{opening}{amount}{more}}},"timestamp":"{instant}{ending}}}'.encode()
        if data:  # nothing else is that large
            _check_size(data, payload)
        return hasher, operation_id, payload

    def _current_instant(self, now_ns: int) -> str:
        """Return the text of the millisecond that it is now, and remember it."""
        ms = now_ns // NS_PER_MS
        instant = format_rfc3339(ms)
        self._instant = (ms * NS_PER_MS, (ms + 1) * NS_PER_MS, instant)
        return instant

    def _add_prefix(self, given: Labels, amount: Amount) -> _Prefix:
        """Check labels not seen before, and remember what follows from them."""
        labels = Labels._make(map(_check_label, Labels._fields, given))
        if labels.provenance not in get_args(Provenance):
            allowed = " or ".join(map(repr, get_args(Provenance)))
            raise InvalidEventError("provenance", labels.provenance, f"pass {allowed}")
        subject = self._subject_of(labels.customer_id)
        named = zip(_LABEL_FIELDS, labels[2:], strict=True)
        fields = "".join(
            f'"{name}":{_json_string(value)},'
            for name, value in named
            if value is not None
        )
        hasher = keys.shared_key_hash(
            self._source,
            labels.event_type,
            subject,  # a key made of the id itself could be tried out
            labels.provider or "",
            labels.line or "",
        )
        opening = (
            f'{{"type":{_json_string(labels.event_type)},"source":{_json_string(self._source)},'
            f'"subject":{_json_string(subject)},"data":{{{fields}"amount":'
        )
        flat = amount if type(amount) is str and is_json_amount(amount) else "0"
        heading = (hasher, opening, flat)
        if len(self._prefixes) >= _MAX_HEADINGS:
            self._prefixes.clear()
        self._prefixes[labels] = heading
        return heading


def _check_label(name: str, value: object) -> str | None:
    if value is None and name not in _REQUIRED:
        return None
    return validate_text(name, value)


def validate_text(field: str, value: object, *, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return ``value`` if it is text that every server and log can carry.

    A member of an enumeration of str, or another subclass, is returned as plain text:
    it equals that text, so it must not be written or remembered as anything else.

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
    value = str.__str__(value)
    if value.isprintable():
        return value
    if _CONTROL.search(value):
        raise InvalidEventError(field, value, "remove the control characters")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidEventError(field, value, "is not Unicode text (lone surrogate)")
    return value


def _operation_id_text(operation_id: OperationId) -> tuple[str, str]:
    """Return the id as text, and that as a JSON string."""
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
    text = validate_text("operation_id", operation_id, max_chars=MAX_OPERATION_ID_CHARS)
    return text, _json_string(text)


def _instant(timestamp: datetime) -> str:
    if not isinstance(timestamp, datetime):
        raise InvalidEventError("timestamp", timestamp, "pass an aware datetime")
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


def _check_size(data: object, payload: bytes) -> None:
    size = len(add_key(payload)) if len(payload) > _SURELY_FITS else 0
    if size > MAX_EVENT_BYTES:
        raise InvalidEventError(
            "data",
            data,
            f"makes an event of {size} bytes, {MAX_EVENT_BYTES} are allowed",
        )


def _json_string(text: str) -> str:
    """Return printable ``text`` as a JSON string."""
    if '"' in text or "\\" in text or not text.isprintable():
        return _encode(text).decode()
    return f'"{text}"'


def _data_members(data: Mapping[str, Json]) -> str:
    """Return the caller's data as members to append to a JSON object."""
    if type(data) is not dict and not isinstance(data, Mapping):
        raise InvalidEventError("data", data, "pass a mapping of str to JSON values")
    for name, value in data.items():
        if name in _FIELD_NAMES:
            raise InvalidEventError(
                f"data.{name}", value, "is outlay's own; use the argument, or rename"
            )
        if type(name) is not str or type(value) not in _PLAIN_TYPES:
            _validate_json("data", {name: value}, _MAX_DEPTH)
    try:
        return "," + _encode(data)[1:-1].decode()
    except UnicodeEncodeError:
        raise InvalidEventError(
            "data", data, "holds text that is not Unicode (lone surrogate)"
        ) from None
    except (TypeError, ValueError) as error:  # such as an int of thousands of digits
        raise InvalidEventError("data", data, f"cannot be sent: {error}") from error


def validate_data(data: Mapping[str, Json]) -> None:
    """Refuse what `track_cost` would refuse as ``data``.

    Raises:
        InvalidEventError: a name is outlay's own, or a value is not JSON.
    """
    if data:
        _data_members(data)


def _validate_json(path: str, value: object, depth: int) -> None:
    """Refuse what the encoder would change silently, such as NaN or a set."""
    if depth == 0:
        raise InvalidEventError(path, value, f"is nested over {_MAX_DEPTH} levels")
    if type(value) is dict or isinstance(value, Mapping):
        _check_members(path, value, depth)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _validate_json(f"{path}[{index}]", item, depth - 1)
    elif not _is_json_scalar(value):
        raise InvalidEventError(
            path, value, f"is not JSON ({type(value).__name__}); convert it first"
        )


def _check_members(path: str, members: Mapping[Any, object], depth: int) -> None:
    for name, value in members.items():
        if type(name) is str and type(value) in _PLAIN_TYPES and depth > 1:
            continue  # as most are; the rest of the loop takes ten times as long
        if not isinstance(name, str):
            raise InvalidEventError(path, name, "JSON names must be str")
        _validate_json(f"{path}.{name}", value, depth - 1)


def _is_json_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Decimal):
        return value.is_finite()
    return value is None or isinstance(value, str | int)
