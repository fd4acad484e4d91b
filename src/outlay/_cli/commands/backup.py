"""``outlay backup``: copy a server's database, also while it serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.output import pluralize
from outlay.server._storage.opening import is_postgres_url
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
    parser.add_argument(
        "--db",
        default="outlay.db",
        metavar="FILE",
        help="the server's database file (default: outlay.db)",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="the new file, which only its owner can read",
    )


def run(arguments: argparse.Namespace) -> int:
    """Copy and check the database."""
    if is_postgres_url(arguments.db):
        raise UsageError(
            "a PostgreSQL database is backed up by its own tools: pgBackRest or "
            "pg_basebackup with archived WAL, pg_dump, or your provider's snapshots; "
            "'outlay store copy' makes one SQLite file of it"
        )
    events = copy_database(Path(arguments.db), Path(arguments.output))
    print(f"wrote {arguments.output} with {pluralize(events, 'event')}; it is checked")
    return ExitCode.DONE
