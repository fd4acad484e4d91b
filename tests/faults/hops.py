"""Wrong successes, poison events and rolling deploys, among good responses."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Final

from outlay.transport import TransportResponse
from tests.faults.judge import DEADLINE, judging
from tests.faults.scenario import Scenario, Tally
from tests.support.answers import refused
from tests.support.events import track
from tests.support.servers import BATCH_PATH

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.faults.judge import Judge
    from tests.support.servers import Request, Response

_PAGE: Final = b"<html>plain HTTP request was sent to HTTPS port</html>"
_JSON: Final = {"content-type": "application/json"}

_WRONG_SUCCESSES: Final = {
    "a function's error": (200, b'{"errorMessage": "Task timed out"}'),
    "nothing": (200, b"{}"),
    "errors": (202, b'{"errors": ["no"]}'),
    "another's key": (200, b'{"idempotencyKey": "ok1_other", "id": "evt_1"}'),
}


def _wrong_success(
    chance: random.Random, size: int, *, status: int, body: bytes
) -> Tally:
    """A hop says success to some requests, and drops or passes them."""

    def respond(judge: Judge, request: Request) -> Response:
        if chance.random() < 0.5:
            return judge.accept(request)
        if chance.random() < 0.5:
            judge.server.keep(request)
        return TransportResponse(status, _JSON, body)

    return _shipped(chance, size, respond)


def _poison(chance: random.Random, size: int, *, status: int, page: bool) -> Tally:
    """A firewall refuses some events for their text, until a person corrects it."""
    body = _PAGE if page else b'{"message":"no","error":"forbidden"}'
    poisoned: set[str] = set()

    def respond(judge: Judge, request: Request) -> Response:
        keys = [json.loads(event)["idempotencyKey"] for event in request.events]
        if len(poisoned) < 3 and chance.random() < 0.3:
            poisoned.add(chance.choice(keys))
        if poisoned.intersection(keys):
            return TransportResponse(status, {}, body)
        return judge.accept(request)

    return _shipped(chance, size, respond)


def _rolling_deploy(chance: random.Random, size: int, *, status: int) -> Tally:
    """Some servers behind the address do not know the path, or not the batches, yet."""

    def respond(judge: Judge, request: Request) -> Response:
        old = chance.random() < 0.5
        if old and (request.path == BATCH_PATH or chance.random() < 0.3):
            return refused(status)
        return judge.accept(request)

    return _shipped(chance, size, respond)


def _shipped(
    chance: random.Random, size: int, respond: Callable[[Judge, Request], Response]
) -> Tally:
    """Ship with trouble for a while; then all goes well."""
    with judging() as judge:
        judge.server.respond = functools.partial(respond, judge)
        with judge.client(batching=chance.choice(["never", "always"])) as client:
            for number in range(size):
                judge.tell(number, track(client, number))
            client.flush(chance.random())
            judge.server.respond = judge.accept
            client.flush(DEADLINE)
        judge.inherit()
        return judge.tally()


SCENARIOS: Final = (
    *(
        Scenario(
            f"hop answers success with {name}",
            functools.partial(_wrong_success, status=status, body=body),
            trials=20,
        )
        for name, (status, body) in _WRONG_SUCCESSES.items()
    ),
    *(
        Scenario(
            f"hop refuses some events with {status}{' and a page' * page}",
            functools.partial(_poison, status=status, page=page),
            trials=20,
        )
        for status, page in [(403, False), (403, True), (302, True), (400, True)]
    ),
    *(
        Scenario(
            f"rolling deploy answers {status}",
            functools.partial(_rolling_deploy, status=status),
            trials=20,
        )
        for status in (404, 405, 421)
    ),
)
