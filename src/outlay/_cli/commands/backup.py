"""``outlay backup``: copy a server's database, also while it serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.database_option import add_database_option, database_file
from outlay._cli.exit_codes import ExitCode
from outlay._cli.output import pluralize
from outlay.server._storage.sqlite.copying import copy_database

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
Copy the database of a server to a new file, also while the server takes events. The
copy is of one instant, and its pages are checked. Copying the file with other tools
loses what is still in its log.
"""

_EPILOG: Final = """\
examples:
  outlay backup --db costs.db --output /backups/costs-2026-11-30.db
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_database_option(parser)
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="the new file, which only its owner can read",
    )


def run(arguments: argparse.Namespace) -> int:
    """Copy and check the database."""
    database = database_file(arguments)
    events = copy_database(database, Path(arguments.output))
    print(f"wrote {arguments.output} with {pluralize(events, 'event')}; it is checked")
    return ExitCode.DONE
