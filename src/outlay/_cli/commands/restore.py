"""``outlay restore``: put a backup in the place of a server's database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.database_option import add_database_option, database_file
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay.server._storage.sqlite.copying import restore_database

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
Put a copy of a backup in the place of a server's database. Stop the server first. The
earlier database stays beside it, under another name.
"""

_EPILOG: Final = """\
examples:
  outlay restore /backups/costs-2026-11-30.db --db costs.db --replace
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument("backup", metavar="BACKUP", help="file of 'outlay backup'")
    add_database_option(parser)
    parser.add_argument(
        "--replace", action="store_true", help="take the place of an existing database"
    )


def run(arguments: argparse.Namespace) -> int:
    """Restore the backup."""
    target = database_file(arguments)
    if target.exists() and not arguments.replace:
        raise UsageError(f"{target} exists; add --replace, or name another file")
    earlier = restore_database(Path(arguments.backup), target)
    print(f"restored {target} from {arguments.backup}")
    if earlier is not None:
        print(f"the earlier database is {earlier}; delete it when you are sure")
    print(
        "API keys that were revoked since the backup are valid again: outlay keys list"
    )
    return ExitCode.DONE
