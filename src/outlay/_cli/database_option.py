"""Give a command the option ``--db``: the file of a server's database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import UsageError
from outlay._model.settings import SERVER_PREFIX
from outlay.server._storage.opening import is_postgres_url

if TYPE_CHECKING:
    import argparse

STORE_VARIABLE: Final = f"{SERVER_PREFIX}STORE"
"""The variable with the URL of a PostgreSQL database."""

_VARIABLE: Final = f"{SERVER_PREFIX}DATABASE"
_DEFAULT: Final = "outlay.db"


def add_database_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--db``, whose default is the file that the server on this machine uses."""
    parser.add_argument(
        "--db",
        metavar="FILE",
        help="the server's database file "
        f"(default: the one in {_VARIABLE}, else {_DEFAULT})",
    )


def database_file(arguments: argparse.Namespace) -> Path:
    """Return the file that ``--db`` or the server's settings name.

    Raises:
        UsageError: They name a PostgreSQL database, which has tools of its own.
    """
    named = (
        arguments.db
        or os.environ.get(STORE_VARIABLE)
        or os.environ.get(_VARIABLE)
        or _DEFAULT
    )
    if is_postgres_url(named):
        raise UsageError(
            "a PostgreSQL database is copied and restored by its own tools: "
            "pgBackRest or pg_basebackup with archived WAL, pg_dump, or your "
            "provider's snapshots; 'outlay store copy' makes one SQLite file of it"
        )
    return Path(named)
