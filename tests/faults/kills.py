"""SIGKILL: at random instants, and between any two steps."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Final

from outlay import Client
from outlay._journal.admin.edit import ResendResult, resend
from outlay._journal.admin.inspect import DestinationView
from outlay._journal.merging import MERGE_FROM
from outlay._model.clock import SystemClock
from outlay.transport import HttpTransport
from tests.faults.children import Child, die, wait_to_be_killed
from tests.faults.judge import DEADLINE, KEY, judging
from tests.faults.scenario import Scenario
from tests.support.answers import refused
from tests.support.events import EVENT_TYPE, amount_of, track
from tests.support.interrupts import Interrupts
from tests.support.stepwise import Process

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from outlay._client_options import SettingsInput
    from tests.faults.children import Teller
    from tests.faults.judge import Judge
    from tests.faults.scenario import Tally

    Step = Callable[[], object]
    Prepare = Callable[[Client, Teller, SettingsInput], Step]

_GIB: Final = 2**30
_FOREVER: Final = 10**9  # instructions: more than any operation has
_PADDING: Final = "x" * 20_000  # bytes: three such events fill a segment of 64 KiB

_WATCHED: Final = (
    "outlay/_client.py",
    "outlay/_client_hooks.py",
    "outlay/_lifecycle.py",
    "outlay/_pipeline.py",
    "_journal/admin/commit.py",
    "_journal/admin/edit.py",
    "_journal/appender.py",
    "_journal/dead_letters.py",
    "_journal/folders.py",
    "_journal/frames.py",
    "_journal/journal.py",
    "_journal/locks.py",
    "_journal/marked_lines.py",
    "_journal/merging.py",
    "_journal/reader.py",
    "_journal/recovery.py",
    "_journal/segment_opener.py",
    "_journal/segment_reader.py",
    "_journal/segments.py",
    "_shipping/event_queue.py",
    "_shipping/planner.py",
    "_shipping/settlement.py",
)
"""Where the steps are that matter; what they call is one step to them."""


# At random instants.


def _track_on(tell: Teller, settings: SettingsInput, first: int, count: int) -> None:
    client = Client(**settings)
    for number in range(first, first + count):
        tell.track(client, number)
    wait_to_be_killed()


def _at_random(
    chance: random.Random, size: int, *, shipping: bool, batching: bool
) -> Tally:
    """Kill three processes in a row; each is the adopter of those before it."""
    with judging() as judge:
        settings = judge.settings(
            shipping="thread" if shipping else "none",
            batching="always" if batching else "never",
        )
        for first in (0, 1000, 2000):
            child = Child(judge, _track_on, settings, first, size)
            child.hear_some(chance.randrange(size + 1))
            child.kill(after=chance.choice([0, 0, chance.random() * 0.02]))
        judge.inherit()
        return judge.tally(killed=3)


def _leave(tell: Teller, settings: SettingsInput, count: int) -> None:
    settings["shipping"] = "none"
    client = Client(**settings)
    for number in range(count):
        tell.track(client, number)
    die()


def _ship_on(_: Teller, settings: SettingsInput) -> None:
    with Client(**settings) as client:
        client.flush(DEADLINE)
    wait_to_be_killed()


def _adopters(chance: random.Random, size: int) -> Tally:
    """Kill those who adopt and ship what another left, again and again."""
    with judging() as judge:
        settings = judge.settings(batching=chance.choice(["never", "always"]))
        Child(judge, _leave, settings, size).finish(code=None)
        for _ in range(4):
            child = Child(judge, _ship_on, settings)
            child.kill(after=0.01 + chance.random() * 0.04)
        judge.inherit()
        return judge.tally()


# Between two steps. Each operation has its scene, and one call that is watched.


def _appending(client: Client, tell: Teller, _: SettingsInput) -> Step:
    tell.track(client, 1)
    return lambda: tell.track(client, 2)


def _opening(client: Client, tell: Teller, settings: SettingsInput) -> Step:
    _dead_writer(tell, settings, 1)
    return lambda: tell.track(client, 2)


def _rotating(client: Client, tell: Teller, _: SettingsInput) -> Step:
    def track_large(number: int) -> None:
        receipt = client.track_cost(
            EVENT_TYPE,
            amount_of(number),
            customer_id="cus_1",
            operation_id=f"op-{number}",
            data={"padding": _PADDING},
        )
        tell.tell(number, receipt.idempotency_key)

    for number in (1, 2, 3):
        track_large(number)
    return lambda: track_large(4)


def _adopting(client: Client, tell: Teller, settings: SettingsInput) -> Step:
    for number in (1, 2):
        _dead_writer(tell, settings, number)
    return client._pipeline.journal.adopt_orphans


def _merging(client: Client, tell: Teller, settings: SettingsInput) -> Step:
    for number in range(MERGE_FROM):
        _dead_writer(tell, settings, number)
    return client._pipeline.journal.adopt_orphans


def _settling(client: Client, tell: Teller, settings: SettingsInput) -> Step:
    """Ship all there is, one's own and another's, to the last deletion."""
    for number in (1, 2):
        _dead_writer(tell, settings, number)
        tell.track(client, 10 + number)
    process = Process(client, SystemClock())
    process.adopt()
    client._pipeline.journal.seal()
    wire = HttpTransport(
        client.settings.base_url, api_key=KEY, timeout=DEADLINE, max_connections=1
    )
    return lambda: process.ship(wire.post)


def _closing(client: Client, tell: Teller, _: SettingsInput) -> Step:
    tell.track(client, 1)
    return lambda: client.close(0)


def _resending(client: Client, tell: Teller, _: SettingsInput) -> Step:
    """Resend dead letters, as ``outlay journal resend`` does."""
    for number in range(3):
        tell.track(client, number)
    process = Process(client, SystemClock())
    process.ship(lambda *_: refused(400, "bad_request"))
    return lambda: _resend_all(client)


def _resend_all(client: Client) -> ResendResult:
    view = DestinationView(client._pipeline.journal.folder.path)
    now_ms = SystemClock().now_ms()
    return resend(view, lambda _: True, now_ms=now_ms, max_journal_bytes=_GIB)


def _dead_writer(tell: Teller, settings: SettingsInput, number: int) -> None:
    """Leave an event as a writer does that was killed."""
    client = Client(**settings)
    tell.tell(number, track(client, number))
    Process(client, SystemClock()).crash()


def _strike(tell: Teller, settings: SettingsInput, prepare: Prepare, at: int) -> None:
    step = prepare(Client(**settings), tell, settings)
    interrupts = Interrupts(die, at, *_WATCHED)
    with interrupts.watching():
        step()
    tell.tell(interrupts.seen, "instructions")


@functools.cache
def _instructions(prepare: Prepare, *, refusing: bool) -> int:
    """Return how many instructions the watched call has."""
    with judging() as judge:
        _struck(judge, prepare, _FOREVER, refusing=refusing)
        return int(judge.told["instructions"] * 1000)


def _struck(judge: Judge, prepare: Prepare, at: int, *, refusing: bool) -> None:
    if refusing:
        judge.server.respond = lambda _: refused(400)
    settings = judge.settings(shipping="none", batching="never")
    Child(judge, _strike, settings, prepare, at).finish(code=None)


def _between_steps(
    chance: random.Random, _: int, *, prepare: Prepare, refusing: bool = False
) -> Tally:
    """Kill before one instruction of the watched call, whichever."""
    count = _instructions(prepare, refusing=refusing)
    with judging() as judge:
        _struck(judge, prepare, chance.randrange(count), refusing=refusing)
        judge.told.pop("instructions", None)  # it took another path, and lived
        judge.inherit(batching="never")
        return judge.tally(killed=1)


def _resend_between_steps(chance: random.Random, _: int) -> Tally:
    """Kill a resend before one instruction, ship what is pending, and resend again.

    A letter that was resent, and whose event was delivered, must not be resent again.
    """
    count = _instructions(_resending, refusing=False)
    with judging() as judge:
        _struck(judge, _resending, chance.randrange(count), refusing=False)
        judge.told.pop("instructions", None)  # it took another path, and lived
        judge.inherit()
        _resend_all(judge.client(shipping="none"))
        judge.inherit()
        tally = judge.tally()
        left = tally.events - len(judge.server.amounts)
    # What is still a dead letter after the second command was forgotten by it.
    return tally._replace(lost=left)


def _no_instructions() -> str:
    if sys.version_info >= (3, 13):
        return "settrace of Python 3.13 misses instructions"
    return ""


def _steps(name: str, prepare: Prepare, *, refusing: bool = False) -> Scenario:
    return Scenario(
        f"SIGKILL between two steps of {name}",
        functools.partial(_between_steps, prepare=prepare, refusing=refusing),
        trials=80,
        bounded=2,
        needs=_no_instructions,
    )


SCENARIOS: Final = (
    *(
        Scenario(
            f"SIGKILL at random, {how}",
            functools.partial(_at_random, shipping=shipping, batching=batching),
            trials=150,
        )
        for how, shipping, batching in (
            ("not shipping", False, False),
            ("shipping singly", True, False),
            ("shipping batches", True, True),
        )
    ),
    Scenario("SIGKILL of adopters, again and again", _adopters, trials=60, size=60),
    _steps("append", _appending),
    _steps("opening the first segment", _opening),
    _steps("rotate", _rotating),
    _steps("adopt", _adopting),
    _steps("merge", _merging),
    _steps("settle and delete", _settling),
    _steps("bury", _settling, refusing=True),
    Scenario(
        "SIGKILL between two steps of resend",
        _resend_between_steps,
        trials=80,
        bounded=2,
        needs=_no_instructions,
    ),
    _steps("close", _closing),
)
