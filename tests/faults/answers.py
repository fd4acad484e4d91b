"""Servers that refuse, break, lie, stall, or answer too late."""

from __future__ import annotations

import functools
import threading
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

from outlay._model.clock import SystemClock, from_ms
from outlay.transport import TransportResponse
from tests.faults.children import Child, wait_to_be_killed
from tests.faults.judge import DEADLINE, EVENTS_PATH, judging
from tests.faults.scenario import Scenario
from tests.support.answers import accepted, refused, stored
from tests.support.events import track
from tests.support.servers import BATCH_PATH, Fault, Request, Spoilt

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from typing import Literal

    from outlay import Client
    from outlay._client_options import SettingsInput
    from tests.faults.children import Teller
    from tests.faults.judge import Judge
    from tests.faults.scenario import Tally
    from tests.support.servers import Response

    Trouble = Callable[[Judge, random.Random, Request], Response]
    Batching = Literal["never", "always"]

_TIMEOUT: Final = 0.15
"""Seconds that the clients wait for an answer."""

_never: Final = threading.Event()


# What may happen to a request.


def _reset_before(_: Judge, __: random.Random, ___: Request) -> Response:
    return Fault.RESET


def _reset_after(judge: Judge, _: random.Random, request: Request) -> Response:
    judge.server.keep(request)
    return Fault.RESET


def _late(judge: Judge, chance: random.Random, request: Request) -> Response:
    # The judge hears of the request now. After the wait, a retry may have been accepted
    # already, and this request would look as if it had been sent after that.
    judge.hear(request)
    if chance.random() < 0.5:
        judge.server.keep(request)
    _never.wait(1.5 * _TIMEOUT)
    return judge.server.accept(request)


def _spoil(
    judge: Judge,
    chance: random.Random,
    request: Request,
    *,
    truncated: bool,
    pause: float,
) -> Response:
    """Answer, but not whole, or not in time."""
    judge.hear(request)
    known = judge.server.keep(request)
    answer = stored(len(request.events), duplicates=known)
    if request.path != BATCH_PATH:
        answer = accepted()
    return Spoilt(answer, chance.random() if truncated else 1.0, pause)


def _with_one_refused(
    judge: Judge, _: random.Random, request: Request, *, status: int, error: str = ""
) -> Response:
    """Refuse the first event of a batch; a single one is that event."""
    judge.hear(request)
    if request.path != BATCH_PATH:
        return refused(status, error)
    for event in request.events[1:]:
        judge.server.keep(Request(EVENTS_PATH, {}, event))
    return stored(len(request.events), {0: (status, error)})


def _when_to_return(_: Judge, chance: random.Random, __: Request) -> Response:
    """Ask for patience, in one of the header's forms."""
    soon = from_ms(SystemClock().now_ms()) + timedelta(seconds=1)
    form = chance.choice(["0.02", "0", "1", format_datetime(soon, usegmt=True), "soon"])
    return refused(429, retry_after=form)


def _say(answer: TransportResponse) -> Trouble:
    return lambda *_: answer


def _too_large(judge: Judge, _: random.Random, request: Request) -> Response:
    return refused(413) if len(request.events) > 3 else judge.accept(request)


def _page(status: int) -> Trouble:
    return _say(
        TransportResponse(status, {"content-type": "text/html"}, b"<html>Hello!</html>")
    )


# Trials.


def _in_trouble(
    chance: random.Random, size: int, *, trouble: Trouble, batching: Batching | None
) -> Tally:
    """Give the first requests trouble; then all goes well."""
    with judging() as judge:
        left = chance.randint(1, 5)

        def respond(request: Request) -> Response:
            nonlocal left
            left -= 1
            return (
                trouble(judge, chance, request) if left >= 0 else judge.accept(request)
            )

        judge.server.respond = respond
        with judge.client(
            batching=batching or chance.choice(["never", "always"]), timeout=_TIMEOUT
        ) as client:
            _track(judge, client, size)
            client.flush(DEADLINE)
        judge.server.respond = judge.accept
        judge.inherit()
        return judge.tally()


def _track(judge: Judge, client: Client, size: int) -> None:
    for number in range(size):
        judge.tell(number, track(client, number))


def _down(chance: random.Random, size: int) -> Tally:
    """No server listens for a while, once or twice."""
    with judging() as judge:
        judge.server.stop()
        with judge.client(batching=chance.choice(["never", "always"])) as client:
            _track(judge, client, size)
            client.flush(chance.random() * 0.05)
            judge.server.restart()
            client.flush(chance.random() * 0.02)
            judge.server.stop()
            judge.server.restart()
            assert client.flush(DEADLINE).complete
        judge.inherit()
        return judge.tally()


def _work(tell: Teller, settings: SettingsInput, first: int, count: int) -> None:
    from outlay import Client  # noqa: PLC0415

    client = Client(**settings)
    for number in range(first, first + count):
        tell.track(client, number)
    wait_to_be_killed()


def _anything_and_kills(chance: random.Random, size: int) -> Tally:
    """Every other request has some trouble, and the processes are killed as well."""
    with judging() as judge:
        troubles = [*_AMBIGUOUS.values(), *_CLEAR.values()]

        def respond(request: Request) -> Response:
            if chance.random() < 0.5:
                return chance.choice(troubles)(judge, chance, request)
            return judge.accept(request)

        judge.server.respond = respond
        settings = judge.settings(
            batching=chance.choice(["never", "always"]), timeout=_TIMEOUT
        )
        for first in (0, 1000, 2000):
            child = Child(judge, _work, settings, first, size)
            child.hear_some(chance.randrange(size + 1))
            child.kill(after=chance.random() * 0.1)
        judge.server.respond = judge.accept
        judge.inherit()
        return judge.tally(killed=3)


_AMBIGUOUS: Final[dict[str, Trouble]] = {
    "resets before it stores": _reset_before,
    "resets after it has stored": _reset_after,
    "answers after the timeout": _late,
    "truncates its answer": functools.partial(_spoil, truncated=True, pause=0.0),
    "dribbles its answer (slow loris)": functools.partial(
        _spoil, truncated=False, pause=0.002
    ),
    "answers 500 to one event": functools.partial(_with_one_refused, status=500),
    "answers 503": _say(refused(503)),
    "answers 200 with a page": _page(200),
    "answers 200 with nothing": _say(TransportResponse(200, {}, b"")),
    "answers 502 with a page": _page(502),
}
"""The answer does not say what was stored."""

_CLEAR: Final[dict[str, Trouble]] = {
    "answers 429": _say(refused(429)),
    "answers 401, then takes all": _say(refused(401)),
    "answers 403, then takes all": _say(refused(403)),
    "redirects": _say(refused(302, location="http://127.0.0.1:9/v0/events")),
    "answers 413 to large batches": _too_large,
    "knows no metric for one event": functools.partial(
        _with_one_refused, status=422, error="invalid_event_type"
    ),
}

_SLOW: Final = {"answers after the timeout", "dribbles its answer (slow loris)"}

SCENARIOS: Final = (
    Scenario("server is down", _down, trials=40),
    *(
        Scenario(
            f"server {name}",
            functools.partial(_in_trouble, trouble=trouble, batching=None),
            trials=20 if name in _SLOW else 40,
        )
        for name, trouble in {**_AMBIGUOUS, **_CLEAR}.items()
    ),
    Scenario(
        "server answers 429 with Retry-After, in each form",
        functools.partial(_in_trouble, trouble=_when_to_return, batching=None),
        trials=20,
    ),
    Scenario(
        "server refuses one event of a batch for good",
        functools.partial(
            _in_trouble,
            trouble=functools.partial(_with_one_refused, status=400),
            batching="always",
        ),
    ),
    Scenario("server does any of these, and SIGKILL", _anything_and_kills, trials=100),
)
