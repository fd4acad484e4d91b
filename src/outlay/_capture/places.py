"""Places: names of calls that have no ids, by what they are, within an operation."""

from __future__ import annotations

import itertools
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from outlay._model.events import MAX_OPERATION_ID_CHARS

if TYPE_CHECKING:
    from outlay._capture.observation import Observation


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
