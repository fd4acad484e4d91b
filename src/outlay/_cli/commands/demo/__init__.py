"""``outlay demo``: the main job on one screen, with everything that may go wrong."""

from __future__ import annotations

import argparse
import secrets
import signal
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.commands.demo.faulty_server import DemoServer
from outlay._cli.commands.demo.scenario import DemoScenario
from outlay._cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from outlay._model.settings import Settings

_DESCRIPTION: Final = """\
See outlay work: a server, three cost metrics, and worker processes that track real
costs. The server goes down, a worker is killed with SIGKILL, its successor delivers
what it left and runs some of its operations again. In the end, each total on the
server must equal what was tracked, to the last digit.

Everything runs on this machine, in a temporary folder that is gone afterwards.
"""

_EPILOG: Final = """\
examples:
  outlay demo
  outlay demo --events 300 --seed 7 --keep

exit codes: 0 all totals are equal; 1 they are not
"""

_MIN_EVENTS: Final = 60  # so that each worker has some before and some in the outage
_MAX_EVENTS: Final = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "--events",
        type=_event_count,
        default=3000,
        metavar="N",
        help="how many operations to track (default: 3000)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="for the same operations again (default: a new one each time)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the server running until Ctrl-C, to look around",
    )


def _event_count(text: str) -> int:
    if not text.isdecimal() or not _MIN_EVENTS <= int(text) <= _MAX_EVENTS:
        raise argparse.ArgumentTypeError(f"pass {_MIN_EVENTS} to {_MAX_EVENTS}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Play it, and say whether the totals are equal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    print(f"outlay demo (--seed {seed})\n")
    with tempfile.TemporaryDirectory(prefix="outlay-demo-") as folder:
        stage = DemoServer(Path(folder))
        with stage.server:
            equal = DemoScenario(stage, arguments.events, seed).run()
            if arguments.keep:
                _keep(stage.settings())
    return ExitCode.DONE if equal else ExitCode.REFUSED


def _keep(settings: Settings) -> None:
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    print(
        f"\nThe server keeps running at {settings.base_url} until Ctrl-C. To look "
        f"around:\n\n  export OUTLAY_BASE_URL={settings.base_url}\n"
        f"  export OUTLAY_API_KEY={key}\n  outlay costs --by customer,cost",
        flush=True,
    )
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
