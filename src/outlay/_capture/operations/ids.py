"""Places: names of calls that have no ids, by what they are, within an operation."""

from __future__ import annotations

import itertools
import os
import threading
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import msgspec

from outlay._fork import after_fork_in_child
from outlay._model.events import MAX_OPERATION_ID_CHARS

if TYPE_CHECKING:
    from outlay._capture.observation import Observation


class DerivedIds:
    """Names the calls of one run of an operation that have no ids of their own.

    Blocks that overlap in one process, with the same operation and customer, are of one
    run: `join` gives them the same names to take from, or two calls alike would share
    one, and only one of them would count. A run that begins when all have left is a
    re-run, and finds the same names again.

    Thread safety: any thread, re-entrant. Names are made of single operations of a
    dict, and of counters that are; joining and leaving take the module's lock.
    """

    def __init__(self, operation_id: str) -> None:
        if len(operation_id) > _MAX_PREFIX:
            operation_id = sha256(operation_id.encode()).hexdigest()
        self._operation_id = operation_id
        self._process = os.getpid()
        self._counters: dict[str, itertools.count[int]] = {}
        self._users = 0  # guarded by _lock

    @classmethod
    def acquire(cls, operation_id: str, customer_id: str | None) -> DerivedIds:
        """Return the names of a run that is under way, or of one that begins now."""
        with _lock:
            places = _active.get((operation_id, customer_id))
            if places is None:
                places = cls(operation_id)
                _active[operation_id, customer_id] = places
            places._users += 1
            return places

    def release(self, operation_id: str, customer_id: str | None) -> None:
        """End the run, unless other blocks of it are under way."""
        with _lock:
            self._users -= 1
            key = (operation_id, customer_id)
            if self._users == 0 and _active.get(key) is self:
                del _active[key]

    def next_id(self, *facts: object) -> str | None:
        """Return the name of the next call that ``facts`` are true of.

        Args:
            *facts: what tells the call apart from others; JSON.

        Returns:
            Such as ``job-42/3f2a91c04b7d-1``; or None, for a name could come twice:
            this is a child that was forked in the midst of the operation, or there
            have been too many kinds of calls to remember.
        """
        if self._process != os.getpid():
            return None
        digest = sha256(_encode(facts)).hexdigest()[:_DIGITS]
        if digest not in self._counters and len(self._counters) >= _MAX_KINDS:
            return None
        counter = self._counters.setdefault(digest, itertools.count(1))
        return f"{self._operation_id}/{digest}-{next(counter)}"


def identity_fields(observation: Observation) -> tuple[object, ...]:
    """Return what tells a call apart from others in the same operation."""
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


# Weak: a block that is never left is forgotten when nothing can be in it any more.
_active: Final[WeakValueDictionary[tuple[str, str | None], DerivedIds]] = (
    WeakValueDictionary()
)
_lock = threading.RLock()  # re-entrant: a finaliser may leave a block


def _forked() -> None:
    """Begin anew in a forked child: the runs are its parent's, and so is the lock."""
    global _lock
    _lock = threading.RLock()
    _active.clear()


after_fork_in_child(_forked)

_encode: Final = msgspec.json.Encoder(order="sorted", enc_hook=str).encode

_DIGITS: Final = 12
"""Of a digest, in hex: two of a thousand kinds meet with a probability under 2e-9."""

_MAX_KINDS: Final = 65_536  # about 10 MB, of one operation
_MAX_PREFIX: Final = MAX_OPERATION_ID_CHARS - 64  # leaves room for what comes after
