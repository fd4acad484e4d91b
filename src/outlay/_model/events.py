"""Cost events as values, and their JSON.

The JSON of an event is the request body. The journal, the shipper and every retry carry
it unchanged. So no retry can change the key or the time of an event. Only a derived key
is left out, because its hash is a fifth of the caller's time. `add_key` adds the same
key each time an event is read to be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from outlay._model import keys
from outlay._model.clock import to_ms

Json: TypeAlias = (
    "str | int | float | bool | Decimal | Mapping[str, Json] | list[Json] | None"
)
"""The values of ``data``. A Decimal is sent as a JSON number with all its digits."""

Provenance: TypeAlias = Literal["reported", "priced", "manual"]
"""The origin of an amount: the provider, a dated price list applied to reported usage,
or the caller."""

OperationId: TypeAlias = str | int | UUID
"""An operation's own stable id. 42 and "42" are the same operation."""

MAX_CACHED_PREFIXES: Final = 8192
"""The largest number of cached hashes or texts that events share: about 4 MB."""


class CostEvent(
    msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True
):
    """The cost of one billable operation of one customer. Immutable.

    Attributes:
        type: The event type, such as ``cost.ai.inference``. It links to cost metrics.
        source: The URI of the application that tracked the cost.
        subject: The customer who caused the cost.
        data: The ``amount``, its provenance, the labels, and the caller's data.
        timestamp: The time of the cost: RFC 3339, UTC, milliseconds.
        namespace: The organization, if the credential may write to several.
        idempotency_key: The key by which the server recognises an event it has seen.
    """

    type: str
    source: str
    subject: str
    data: dict[str, Any]
    timestamp: str
    namespace: str | None = None
    idempotency_key: str


# How to make a plain value of a subclass, which the encoder does not know.
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
    raise NotImplementedError  # the encoder's own error. The rules refuse it earlier.


encode_json: Final = msgspec.json.Encoder(
    decimal_format="number", enc_hook=_as_plain
).encode
"""Encodes a value that follows the rules for ``data``. Decimals keep all digits."""

_decode_event: Final = msgspec.json.Decoder(CostEvent, float_hook=Decimal).decode


def encode_event(event: CostEvent) -> bytes:
    """Return the request body of an event. Amounts keep all digits."""
    return encode_json(event)


def encode_data(data: Mapping[str, Json]) -> bytes:
    """Return checked ``data`` as JSON. Decimals keep all digits."""
    return encode_json(data)


def decode_event(payload: bytes) -> CostEvent:
    """Return the event in ``payload``, with its numbers as exact decimals.

    Raises:
        msgspec.DecodeError: The payload is not a cost event.
    """
    return _decode_event(add_key(payload))


class _OperationParts(msgspec.Struct, rename="camel", gc=False):
    """The parts of an event's data that go into its key."""

    operation_id: str | None = None
    provider: str = ""
    line: str = ""


class _KeyParts(msgspec.Struct, rename="camel", gc=False):
    """The key of an event, or the parts that it is derived from."""

    type: str
    source: str
    subject: str
    data: _OperationParts
    idempotency_key: str | None = None


_decode_key_parts: Final = msgspec.json.Decoder(_KeyParts).decode
_shared_key_hash: Final = lru_cache(MAX_CACHED_PREFIXES)(keys.shared_key_hash)


def add_key(payload: bytes) -> bytes:
    """Return the request body of a composed event. A missing key is derived.

    A payload that is not an event is returned unchanged, so that its reader reports it.
    Thread safety: any thread.
    """
    try:
        event = _decode_key_parts(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return payload
    data = event.data
    if event.idempotency_key is not None or data.operation_id is None:
        return payload
    hasher = _shared_key_hash(
        event.source, event.type, event.subject, data.provider, data.line
    )
    key = keys.derive_key(hasher, data.operation_id)
    return b'%b,"idempotencyKey":"%b"}' % (payload[:-1], key.encode())


class _TimestampOnly(msgspec.Struct):
    timestamp: datetime


_decode_timestamp: Final = msgspec.json.Decoder(_TimestampOnly).decode


def event_time_ms(payload: bytes) -> int | None:
    """Return an event's time in milliseconds since 1970, or None if it has none."""
    try:
        return to_ms(_decode_timestamp(payload).timestamp)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError):  # not composed here
        return None
