"""Find the operation id of a captured cost.

The idempotency key of an event is made of this id. The first of these applies:

1. The provider's id of its response, or the id that the user gave.
2. The id of the HTTP request. Each attempt that is charged has another one.
   Servers that outlay does not know may repeat both: Ollama draws its ids from a
   thousand. There `RepeatingIds` replaces them, by 3 or by an id with a random part.
   Source: https://github.com/ollama/ollama/blob/main/middleware/openai.go, 2026-11.
3. A derived id: the id of the enclosing operation, a digest of the call, and a number.
   A re-run that makes the same calls gets the same ids, in whatever order they end.
   Two calls that could swap their ids are equal, and cost the same.
4. None. The event then gets a random key, which is counted and logged once.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec

from outlay._fork import after_fork_in_child
from outlay._model.bounded import BoundedDict
from outlay._model.event_rules import (
    MAX_OPERATION_ID_CHARS,
    is_plain_text,
    validate_text,
)
from outlay.errors import InvalidEventError

if TYPE_CHECKING:
    from outlay._capture.observation import Observation


def identify(observation: Observation, derived_ids: DerivedIds | None) -> Observation:
    """Return ``observation`` with its operation id, if it has any.

    Not pure: a derived id is used up.

    Args:
        observation: The observation of one completed call.
        derived_ids: The ids of the enclosing operation, if there is one.
    """
    operation_id = resolve_operation_id(observation, derived_ids)
    if operation_id == observation.operation_id:
        return observation
    return msgspec.structs.replace(observation, operation_id=operation_id)


def resolve_operation_id(
    observation: Observation, derived_ids: DerivedIds | None
) -> str | None:
    """Return the operation id of ``observation``, or None; see the module."""
    for given in (observation.operation_id, observation.request_id):
        valid = _valid_or_none(given)
        if valid is not None:
            return valid
    if derived_ids is None:
        return None
    return derived_ids.next_id(*identity_fields(observation))


class RepeatingIds:
    """Operation ids for calls whose server may give one id to several calls.

    Several sources may observe one call, and see the same id. So the first calls of all
    sources with an id are the same call, and so are the second ones.

    Thread safety: any thread, re-entrant.
    """

    def __init__(self) -> None:
        """Start without any call."""
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # Re-entrant: the garbage collector may end a stream in the middle.
        self._lock = threading.RLock()
        self._calls: BoundedDict[tuple[object, ...], _CallsOfOneId] = BoundedDict(8192)

    def replace(
        self, observation: Observation, source: object, derived_ids: DerivedIds | None
    ) -> Observation:
        """Return ``observation`` with an operation id of its own.

        Args:
            observation: The observation, with the ids of the server.
            source: The source that observed it, hashable.
            derived_ids: The ids of the enclosing operation, if there is one.
        """
        given = _valid_or_none(observation.operation_id) or _valid_or_none(
            observation.request_id
        )
        if given is None:
            return observation
        key = (observation.provider, observation.event_type, observation.line, given)
        with self._lock:
            calls = self._calls.setdefault(key, _CallsOfOneId())
            operation_id = calls.known(source, is_lookup=observation.is_lookup)
            if operation_id is None:
                operation_id = _own_id(observation, given, derived_ids)
                calls.ids.append(operation_id)
                calls.count += 1
        return msgspec.structs.replace(observation, operation_id=operation_id)


class _CallsOfOneId:
    """The calls that got the same id from their server."""

    def __init__(self) -> None:
        self.count = 0
        self.ids: deque[str] = deque(maxlen=64)  # of the last calls
        self._observed: dict[object, int] = {}  # the number of calls by source

    def known(self, source: object, *, is_lookup: bool) -> str | None:
        """Return the id of the source's next call, if another source observed it.

        A lookup repeats the last call.
        """
        if is_lookup:
            return self.ids[-1] if self.ids else None
        index = self._observed.get(source, 0)
        self._observed[source] = index + 1
        if not self.count - len(self.ids) <= index < self.count:
            return None
        return self.ids[index - self.count]


def _own_id(
    observation: Observation, given: str, derived_ids: DerivedIds | None
) -> str:
    derived = derived_ids and derived_ids.next_id(*identity_fields(observation))
    return derived or f"{given[:_MAX_PREFIX]}/{secrets.token_hex(8)}"


def operation_id_text(operation_id: object) -> str:
    """Return an operation id as the text that a key is made of.

    Raises:
        InvalidEventError: It is not an operation id.
    """
    if isinstance(operation_id, UUID) or type(operation_id) is int:
        operation_id = str(operation_id)
    return validate_text("operation_id", operation_id, max_chars=MAX_OPERATION_ID_CHARS)


def _valid_or_none(given: object) -> str | None:
    if given is None:
        return None
    if type(given) is str and is_plain_text(given):
        return given
    try:
        return operation_id_text(given)
    except InvalidEventError:  # a mistake of the provider or of an extractor
        return None


class DerivedIds:
    """The ids of the calls in one run of an operation that have no ids of their own.

    Blocks that overlap in one process, with the same operation and customer, belong to
    one run. `acquire` gives them the same object. Otherwise two equal calls would get
    one id, and only one of them would count. A run that starts after all blocks have
    ended is a re-run, and gets the same ids again.

    Thread safety: any thread, re-entrant. `next_id` consists of single operations of a
    dict and of counters. `acquire` and `release` take the module's lock.
    """

    def __init__(self, operation_id: str) -> None:
        """Start without any call.

        Args:
            operation_id: The operation's id. A long one is replaced by its digest.
        """
        if len(operation_id) > _MAX_PREFIX:
            operation_id = sha256(operation_id.encode()).hexdigest()
        self._operation_id = operation_id
        self._process = os.getpid()
        self._counters: dict[str, itertools.count[int]] = {}
        self._users = 0  # guarded by _lock

    @classmethod
    def acquire(cls, operation_id: str, customer_id: str | None) -> DerivedIds:
        """Return the shared ids of a running operation, or new ones."""
        with _lock:
            ids = _active.get((operation_id, customer_id))
            if ids is None:
                ids = _active[operation_id, customer_id] = cls(operation_id)
            ids._users += 1
            return ids

    def release(self, operation_id: str, customer_id: str | None) -> None:
        """End the run, unless other blocks of it are active."""
        with _lock:
            self._users -= 1
            key = (operation_id, customer_id)
            if self._users == 0 and _active.get(key) is self:
                del _active[key]

    def next_id(self, *fields: object) -> str | None:
        """Return the id of the next call with these fields.

        Args:
            *fields: The values that tell the call from others, as JSON.

        Returns:
            An id such as ``job-42/3f2a91c04b7d-1``. None, if the id could come twice:
            in a child that was forked inside of the operation, or after too many kinds
            of calls.
        """
        if self._process != os.getpid():
            return None
        digest = sha256(_encode(fields)).hexdigest()[:_DIGITS]
        if digest not in self._counters and len(self._counters) >= _MAX_KINDS:
            return None
        counter = self._counters.setdefault(digest, itertools.count(1))
        return f"{self._operation_id}/{digest}-{next(counter)}"


def identity_fields(observation: Observation) -> tuple[object, ...]:
    """Return the fields that tell a call from others in the same operation."""
    return (
        observation.provider,
        observation.event_type,
        observation.line,
        observation.model,
        observation.service_tier,
        observation.region,
        observation.usage,
        observation.amount,
        observation.currency,
    )


# Weak: a block that is never left goes when no code can be inside of it any more.
_active: Final[WeakValueDictionary[tuple[str, str | None], DerivedIds]] = (
    WeakValueDictionary()
)
_lock = threading.RLock()  # re-entrant: a finaliser may leave a block


def _reset_after_fork() -> None:
    """Forget the parent's runs, and the lock that one of its threads may hold."""
    global _lock
    _lock = threading.RLock()
    _active.clear()


after_fork_in_child(_reset_after_fork)

_encode: Final = msgspec.json.Encoder(order="sorted", enc_hook=str).encode

_DIGITS: Final = 12
"""Hex digits of a digest. Two of a thousand kinds collide with a chance under 2e-9."""

_MAX_KINDS: Final = 65_536
"""Kinds of calls that one operation remembers. They take about 10 MB."""

_MAX_PREFIX: Final = MAX_OPERATION_ID_CHARS - 64
"""Characters of the operation's id. The rest is room for digest and number."""
