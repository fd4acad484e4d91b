"""Compose events from the arguments of ``track_cost``. This is the hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, get_args

from outlay._model import keys
from outlay._model.bounded import BoundedDict
from outlay._model.clock import NS_PER_MS, Clock, format_rfc3339
from outlay._model.event_rules import (
    LABEL_FIELDS,
    MAX_TEXT_CHARS,
    SURELY_FITS,
    check_size,
    data_members,
    json_string,
    operation_id_text,
    timestamp_text,
    validate_text,
)
from outlay._model.events import MAX_CACHED_PREFIXES, Provenance
from outlay._model.money import Amount, is_json_amount, to_json_number
from outlay.errors import InvalidEventError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from outlay._model.events import Json, OperationId

_Prefix: TypeAlias = tuple[keys.HashObject, str, str]
"""The shared part of the events of one customer, type and set of labels: a hash of the
shared part of their keys; their JSON text up to the amount; and the first event's
amount, which need not be checked again, because many costs are flat.

A plain tuple, because the interpreter unpacks it faster than a named one."""


class Labels(NamedTuple):
    """The values that name and group a cost. They are equal for many events.

    The fields are arguments of ``track_cost``, which explains them.
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
"""`Labels` as the plain tuple that the hot path builds, and looks prefixes up by."""

ComposedEvent: TypeAlias = tuple[keys.HashObject | None, str, bytes]
"""A hash object, the text that completes the key, and the event without its key. Or
None, a random key, and the event with that key. Few callers need the derived key."""

_REQUIRED: Final = frozenset({"event_type", "customer_id", "provenance"})


class EventComposer:
    """Turns the arguments of ``track_cost`` into a payload and the parts of its key.

    The parts that events of one customer and set of labels share are checked and
    encoded once, and cached. An event adds its amount, operation and time to that text.
    With `add_key`, the result equals the JSON of the same `CostEvent`, at a third of
    the time.

    Thread safety: any thread, re-entrant. The caches change by single operations of a
    dictionary and an attribute. A lost race only repeats a computation.
    """

    def __init__(
        self,
        *,
        source: str,
        namespace: str | None,
        allow_credits: bool,
        clock: Clock,
        subject_for: Callable[[str], str] = str,
    ) -> None:
        """Create a composer.

        Args:
            source: The URI of the application.
            namespace: The organization to write to, or None for the credential's own.
            allow_credits: Whether negative amounts are allowed.
            clock: The source of time.
            subject_for: A function that returns the name under which the server knows a
                customer. Defaults to the customer id.
        """
        self._source = validate_text("source", source)
        self._ending = '"'
        if namespace is not None:
            validate_text("namespace", namespace)
            self._ending = f'","namespace":{json_string(namespace)}'
        self._allow_credits = allow_credits
        self._subject_for = subject_for
        self._now_ns = clock.now_ns
        self._prefixes: dict[LabelTuple, _Prefix] = BoundedDict(MAX_CACHED_PREFIXES)
        self._instant = (0, 0, "")  # the last millisecond: start, end, text

    def compose(  # noqa: C901, PLR0917 - each call in it costs 3 %
        self,
        labels: LabelTuple,
        amount: Amount,
        operation_id: OperationId | None,
        timestamp: datetime | None,
        quantity: Amount | None,
        data: Mapping[str, Json] | None,
    ) -> ComposedEvent:
        """Return the encoded event, and the parts of its key.

        Raises:
            InvalidEventError: An argument breaks a rule. The message names it.
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
            operation_id = operation_id_text(operation_id)
            more = f',"operationId":{json_string(operation_id)}'
        if quantity is not None:
            number = to_json_number(
                quantity, allow_credits=self._allow_credits, field="quantity"
            )
            more += f',"quantity":{number}'
        if data:
            more += data_members(data)
        now_ns, (start, end, instant) = self._now_ns, self._instant
        if timestamp is not None:
            instant = timestamp_text(timestamp)
        elif not start <= (now := now_ns()) < end:
            instant = self._current_instant(now)
        payload = f'{opening}{amount}{more}}},"timestamp":"{instant}{ending}}}'.encode()
        if len(payload) > SURELY_FITS:  # only data can be large
            check_size(data, payload)
        return hasher, operation_id, payload

    def _current_instant(self, now_ns: int) -> str:
        """Return the text of the current millisecond, and cache it."""
        ms = now_ns // NS_PER_MS
        instant = format_rfc3339(ms)
        self._instant = (ms * NS_PER_MS, (ms + 1) * NS_PER_MS, instant)
        return instant

    def _add_prefix(self, given: Labels, amount: Amount) -> _Prefix:
        """Check new labels, and cache the prefix of their events."""
        labels = Labels._make(map(_validate_label, Labels._fields, given))
        if labels.provenance not in get_args(Provenance):
            allowed = " or ".join(map(repr, get_args(Provenance)))
            raise InvalidEventError("provenance", labels.provenance, f"pass {allowed}")
        subject = self._subject_for(labels.customer_id)
        fields = "".join(
            f'"{name}":{json_string(value)},'
            for name, value in zip(LABEL_FIELDS, labels[2:], strict=True)
            if value is not None
        )
        hasher = keys.shared_key_hash(
            self._source,
            labels.event_type,
            subject,  # the id itself could be found out from a key made of it
            labels.provider or "",
            labels.line or "",
        )
        opening = (
            f'{{"type":{json_string(labels.event_type)},'
            f'"source":{json_string(self._source)},'
            f'"subject":{json_string(subject)},"data":{{{fields}"amount":'
        )
        flat = amount if type(amount) is str and is_json_amount(amount) else "0"
        prefix = (hasher, opening, flat)
        self._prefixes[labels] = prefix
        return prefix


def _validate_label(name: str, value: object) -> str | None:
    if value is None and name not in _REQUIRED:
        return None
    return validate_text(name, value)
