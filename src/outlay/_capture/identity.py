"""Identity: which operation a captured cost belongs to, and so what its key is.

The answer of a provider mostly has an id of its own. Where it has none, the operation
that the call was made in has one. There the call is named by what it was and what it
consumed, and by how many of the same came before: so a re-run that makes the same calls
gives them the same names, in whatever order they end. Those that could change places
are alike, and cost the same.
"""

from __future__ import annotations

import itertools
import os
from contextvars import ContextVar
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from outlay._model.carried import carried
from outlay._model.events import MAX_OPERATION_ID_CHARS, check_text
from outlay.errors import InvalidEventError

if TYPE_CHECKING:
    from outlay._capture.observation import Observation
    from outlay._capture.operations import Operation

enclosing: Final[ContextVar[Operation | None]] = carried(
    ContextVar("outlay_operation", default=None)
)
"""The operation that the running code is in."""


def operation_id_of(observation: Observation) -> str | None:
    """Return the id of the operation that was observed.

    The first of these that there is:

    1. what the user said, or the id that the provider gave to its answer: both are the
       observation's ``operation_id``, where the user's word goes before;
    2. the id of the HTTP request: each attempt that was charged has another;
    3. the id of the enclosing operation, and the call's place in it;
    4. None: the event's key will be random, which is counted, and said once.

    Not pure: asking for the third takes the place.
    """
    for told in (observation.operation_id, observation.request_id):
        usable = _usable(told)
        if usable is not None:
            return usable
    operation = enclosing.get()
    return None if operation is None else operation.name_call(observation)


def identified(observation: Observation) -> Observation:
    """Return ``observation`` with the id of its operation, if there is any."""
    name = operation_id_of(observation)
    if name == observation.operation_id:
        return observation
    return msgspec.structs.replace(observation, operation_id=name)


def operation_text(operation_id: object) -> str:
    """Return an operation id as the text that a key is made of.

    Raises:
        InvalidEventError: it is none.
    """
    if isinstance(operation_id, UUID) or type(operation_id) is int:
        operation_id = str(operation_id)
    return check_text("operation_id", operation_id, max_chars=MAX_OPERATION_ID_CHARS)


def _usable(told: object) -> str | None:
    try:
        return operation_text(told)
    except InvalidEventError:  # a provider's, or an extractor's, mistake
        return None


class Places:
    """Names the calls of one operation that have no ids of their own.

    Thread safety: any thread, re-entrant; made of single operations of a dict, and of
    counters that are.
    """

    def __init__(self, operation_id: str) -> None:
        if len(operation_id) > _MAX_PREFIX:
            operation_id = sha256(operation_id.encode()).hexdigest()
        self._operation_id = operation_id
        self._process = os.getpid()
        self._counters: dict[str, itertools.count[int]] = {}

    def name(self, *facts: object) -> str | None:
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


def facts_of(observation: Observation) -> tuple[object, ...]:
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


_encode: Final = msgspec.json.Encoder(order="sorted", enc_hook=str).encode

_DIGITS: Final = 12
"""Of a digest, in hex: two of a thousand kinds meet with a probability under 2e-9."""

_MAX_KINDS: Final = 65_536  # about 10 MB, of one operation
_MAX_PREFIX: Final = MAX_OPERATION_ID_CHARS - 64  # leaves room for what comes after
