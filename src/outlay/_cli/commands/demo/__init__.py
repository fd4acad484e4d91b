"""``outlay demo``: see outlay work through an outage and a kill."""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.commands.demo.faulty_server import DemoServer
from outlay._cli.commands.demo.scenario import DemoScenario
from outlay._cli.exit_codes import ExitCode
from outlay._cli.output import require_rich

if TYPE_CHECKING:
    from outlay._model.settings import Settings

_DESCRIPTION: Final = """\
Start a server, three cost metrics, and worker processes that track costs. The server
goes down, and a worker is killed with SIGKILL. Its replacement delivers the events
that it left, and repeats some of its operations. At the end, each total on the server
must equal the tracked amounts, to the last digit.

The demo runs on this machine, in a temporary folder that it deletes.
"""

_EPILOG: Final = """\
examples:
  outlay demo
  outlay demo --events 300 --keep

exit codes: 0 all totals are equal; 1 they are not
"""

_MIN_EVENTS: Final = 60  # Each worker needs some before and some in the outage.
_MAX_EVENTS: Final = 1_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "--events",
        type=_event_count,
        default=3000,
        metavar="N",
        help="number of operations to track (default: 3000)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the server running until Ctrl-C"
    )


def _event_count(text: str) -> int:
    if not text.isdecimal() or not _MIN_EVENTS <= int(text) <= _MAX_EVENTS:
        raise argparse.ArgumentTypeError(f"pass {_MIN_EVENTS} to {_MAX_EVENTS}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Run the scenario, and compare the totals."""
    require_rich("'outlay demo'", "server")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="outlay-demo-") as folder:
        demo_server = DemoServer(Path(folder))
        with demo_server.server:
            equal = DemoScenario(demo_server, arguments.events).run()
            if arguments.keep:
                _keep_running(demo_server.settings())
    return ExitCode.DONE if equal else ExitCode.REFUSED


def _keep_running(settings: Settings) -> None:
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    print(
        f"\nThe server runs at {settings.base_url} until Ctrl-C. To look around:\n\n"
        f"  export OUTLAY_BASE_URL={settings.base_url}\n"
        f"  export OUTLAY_API_KEY={key}\n  outlay costs --by customer,cost",
        flush=True,
    )
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
