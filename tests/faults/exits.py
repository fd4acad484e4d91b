"""Interpreters that end with events pending, in every way there is."""

from __future__ import annotations

import functools
import signal
from typing import TYPE_CHECKING, Final

from tests.faults.judge import KEY, judging
from tests.faults.scenario import Scenario
from tests.support.processes import finish, settings_for, start

if TYPE_CHECKING:
    import random

    from tests.faults.scenario import Tally

_TRACK: Final = """
client = outlay.default_client()

def work(first, count):
    for number in range(first, first + count):
        say(number, track(client, number))

SIZE = int(os.environ["SIZE"])
"""

_ENDS: Final = {
    "end of the program": "work(0, SIZE)",
    "an exception": "work(0, SIZE)\nsys.exit(3)",
    "os._exit": "work(0, SIZE)\nos._exit(0)",
    "daemon threads at work": """
for first in (0, 100_000):
    threading.Thread(target=work, args=(first, 10 * SIZE), daemon=True).start()
threading.Event().wait(0.02)
""",
    "an exit hook that tracks": """
import atexit
atexit.register(work, 1000, SIZE)
work(0, SIZE)
""",
    "a finaliser that tracks": """
import weakref
class Session: pass
session = Session()
weakref.finalize(session, work, 1000, SIZE)
work(0, SIZE)
""",
}

_UNTIL_TOLD: Final = "work(0, SIZE)\nthreading.Event().wait(30)\n"
_HANDLED: Final = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"


def _ended(chance: random.Random, size: int, *, program: str) -> Tally:
    """Let an interpreter end; the server may be up, or down until the adopter comes."""
    with judging() as judge:
        if down := chance.random() < 0.4:
            judge.server.stop()
        variables = settings_for(
            judge.server.url,
            judge.journal_dir,
            api_key=KEY,
            max_senders=1,
            exit_timeout=chance.choice([0, 0.05, 3]) if not down else 0.05,
            linger=chance.choice([0, 30]),
        )
        code = 3 if "exit(3)" in program else 0
        said = finish(start(_TRACK + program, {**variables, "SIZE": size}), code=code)
        if down:
            judge.server.restart()
        for line in said.splitlines():
            number, key = line.split()
            judge.tell(int(number), key)
        judge.inherit()
        # A daemon thread may be stopped between the tracking and the telling.
        return judge.tally(killed=2)


def _terminated(chance: random.Random, size: int, *, handled: bool) -> Tally:
    """Send SIGTERM at random; the usual handler ends in order, the default kills."""
    with judging() as judge:
        variables = settings_for(
            judge.server.url, judge.journal_dir, api_key=KEY, max_senders=1
        )
        program = _TRACK + (_HANDLED if handled else "") + _UNTIL_TOLD
        process = start(program, {**variables, "SIZE": size})
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(chance.randint(1, size))]
        process.terminate()
        said += process.stdout.readlines()
        finish(process, code=0 if handled else -signal.SIGTERM)
        for line in said:
            if line.endswith("\n"):  # one that was cut off was not said
                number, key = line.split()
                judge.tell(int(number), key)
        judge.inherit()
        return judge.tally(killed=1)


SCENARIOS: Final = (
    *(
        Scenario(
            f"exit by {name}",
            functools.partial(_ended, program=program),
            trials=15,
            bounded=1,
        )
        for name, program in _ENDS.items()
    ),
    *(
        Scenario(
            f"SIGTERM, {how}",
            functools.partial(_terminated, handled=handled),
            trials=15,
            bounded=1,
        )
        for how, handled in (("with a handler that exits", True), ("unhandled", False))
    ),
)
