"""``outlay serve``: run the reference server in the foreground."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pydantic import field_validator

from outlay._cli.exit_codes import ExitCode
from outlay._model.settings import EnvironmentSettings
from outlay.server import ServerSettings, ServerStarted, serve

if TYPE_CHECKING:
    import argparse

PREFIX: Final = "OUTLAY_SERVER_"

_DESCRIPTION: Final = f"""\
Run the reference server until Ctrl-C or SIGTERM. It stores everything in one file. The
first start creates the file and an API key, and shows the key once.

Each option has a variable: {PREFIX}PORT for --port, {PREFIX}DATABASE
for --db, and so on.
"""

_EPILOG: Final = """\
examples:
  outlay serve --port 4600 --db costs.db
  OUTLAY_SERVER_API_KEY=sk_test_demo outlay serve --db :memory:
"""


class ServeSettings(EnvironmentSettings, ServerSettings):
    """The server's settings, read from arguments and ``OUTLAY_SERVER_*`` variables."""

    @field_validator("dedupe_window", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        """Read a number in a variable as seconds, as all other settings do."""
        if isinstance(value, str):
            with suppress(ValueError):
                return float(value)
        return value


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("--host", help="address to listen on (default: 127.0.0.1)")
    add(
        "--port",
        type=int,
        help="port to listen on; 0 takes any free one (default: 4600)",
    )
    add(
        "--db",
        dest="database",
        metavar="FILE",
        help="database file, or ':memory:' for one that is deleted at the end "
        "(default: outlay.db)",
    )
    add(
        "--api-key",
        metavar="KEY",
        help="a fixed key with all permissions (default: the keys in the database)",
    )
    add(
        "--dedupe-window",
        type=float,
        metavar="SECONDS",
        help="remember an idempotency key for this long (default: 86400, a day)",
    )
    add(
        "--default-currency",
        metavar="CODE",
        help="currency of metrics that name none (default: USD)",
    )
    for name, text in _SWITCHES.items():
        add(name, action="store_true", default=None, help=text)


_SWITCHES: Final = {
    "--accept-unmatched": "accept events that no cost metric counts, instead of "
    "refusing them",
    "--strict-products": "refuse metrics of unknown products, instead of registering "
    "the product",
    "--strict-timestamps": "refuse times without an offset, instead of reading them as "
    "UTC",
    "--access-log": "log a line for every request",
}


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal arrives."""
    settings = ServeSettings.resolve(vars(arguments), prefix=PREFIX)
    logging.basicConfig(
        level=logging.INFO if settings.access_log else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )

    def announce(started: ServerStarted) -> None:
        print(banner(started, settings), flush=True)

    serve(settings, on_start=announce)
    print("stopped; all accepted events are stored")
    return ExitCode.DONE


def banner(started: ServerStarted, settings: ServerSettings) -> str:
    """Return the address, the database and the settings of clients."""
    place = settings.database
    if place == ":memory:":
        database = "temporary, deleted when the server stops"
    else:
        database = str(place.absolute())
    lines = [
        "outlay server is running; Ctrl-C stops it",
        "",
        f"  address   {started.url}",
        f"  database  {database}",
    ]
    exports = ["", f"  export OUTLAY_BASE_URL={started.url}"]
    if started.generated_key is None:
        return "\n".join([*lines, "", "To use it:", *exports])
    lines.append(f"  API key   {started.generated_key}")
    exports.append(f"  export OUTLAY_API_KEY={started.generated_key}")
    return "\n".join(
        [
            *lines,
            "",
            "The key is new and is not shown again. To use it:",
            *exports,
        ]
    )
