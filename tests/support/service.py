"""Model the service: it remembers a key for a day, and sums exactly.

An outcome is a function that decides about a request. It may lose the request or the
response, or refuse some of the events.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from outlay.errors import UnavailableError
from outlay.transport import TransportResponse
from tests.support.answers import accepted, refused, stored
from tests.support.clock import HOUR
from tests.support.servers import BATCH_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.clock import ManualClock

WINDOW: Final = 24 * HOUR
"""The time for which the service remembers a key, in seconds."""

Fate: TypeAlias = "Callable[[Service, str, bytes], TransportResponse]"


@dataclass
class Service:
    """Dedupes on the key for a window, and counts the events with other keys.

    Attributes:
        clock: The clock whose monotonic time is the service's. The wall clock of a
            client may step.
        counted: The number of times that each key was counted.
        total: The sum of the counted events.
    """

    clock: ManualClock
    counted: Counter[str] = field(default_factory=Counter)
    total: Decimal = Decimal(0)
    _seen_at: dict[str, float] = field(default_factory=dict)

    def take(self, payload: bytes) -> bool:
        """Store an event, and return whether its key was known."""
        event = json.loads(payload, parse_float=Decimal)
        key = event["idempotencyKey"]
        now = self.clock.monotonic()
        if key in self._seen_at and now - self._seen_at[key] < WINDOW:
            return True
        self._seen_at[key] = now
        self.counted[key] += 1
        self.total += Decimal(event["data"]["amount"])
        return False


def payloads_of(path: str, body: bytes) -> list[bytes]:
    """Return the events of a request."""
    if path != BATCH_PATH:
        return [body]
    events = json.loads(body, parse_float=str)["events"]
    return [json.dumps(event).encode() for event in events]


def take_all(service: Service, path: str, body: bytes) -> TransportResponse:
    """Store every event, and accept it."""
    payloads = payloads_of(path, body)
    known = sum(service.take(payload) for payload in payloads)
    if path == BATCH_PATH:
        return stored(len(payloads), duplicates=known)
    return accepted(outlay_duplicate="true") if known else accepted()


def lose_request(*_: object) -> TransportResponse:
    """Break the connection before the service has read the request."""
    raise UnavailableError("the connection broke", sent=True)


def lose_answer(service: Service, path: str, body: bytes) -> TransportResponse:
    """Break the connection after the service has stored the events."""
    take_all(service, path, body)
    raise UnavailableError("the connection broke", sent=True)


def _connect_in_vain(*_: object) -> TransportResponse:
    raise UnavailableError("no server listens", sent=False)


def _refuse(status: int, error: str = "") -> Fate:
    return lambda *_: refused(status, error)


def _fail_after_taking(status: int) -> Fate:
    def outcome(service: Service, path: str, body: bytes) -> TransportResponse:
        take_all(service, path, body)
        return refused(status)

    return outcome


def _take_some(status: int, error: str = "") -> Fate:
    """Store every other event of a batch, and refuse the rest and single events."""

    def outcome(service: Service, path: str, body: bytes) -> TransportResponse:
        if path != BATCH_PATH:
            return refused(status, error)
        payloads = payloads_of(path, body)
        failed = dict.fromkeys(range(0, len(payloads), 2), (status, error))
        known = sum(service.take(payload) for payload in payloads[1::2])
        return stored(len(payloads), failed, known)

    return outcome


def _answer_as_a_proxy(*_: object) -> TransportResponse:
    return TransportResponse(
        200, {"content-type": "text/html"}, b"<html>welcome</html>"
    )


FATES: Final[dict[str, Fate]] = {
    "taken": take_all,
    "request lost": lose_request,
    "answer lost": lose_answer,
    "no connection": _connect_in_vain,
    **{f"{status}": _refuse(status) for status in (302, 400, 401, 404, 413, 422)},
    **{f"{status}": _refuse(status) for status in (408, 429, 500, 503)},
    "unmatched type": _refuse(422, "invalid_event_type"),
    "500 after taking": _fail_after_taking(500),
    "503 after taking": _fail_after_taking(503),
    "some 400": _take_some(400),
    "some 429": _take_some(429),
    "some 500": _take_some(500),
    "some of an unmatched type": _take_some(422, "invalid_event_type"),
    "a proxy's page": _answer_as_a_proxy,
}
"""The possible outcomes of a request, by name."""
