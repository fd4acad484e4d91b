"""``outlay store``: copy the data of a server to another kind of store."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import add_subcommand, has_password
from outlay._cli.output import pluralize
from outlay._cli.progress import ProgressBar
from outlay.server._storage.opening import is_postgres_url, open_copied
from outlay.server._storage.store_copy import copy_store

if TYPE_CHECKING:
    import argparse

    from outlay.server._storage.store_copy import CopyResult

_DESCRIPTION: Final = """\
Move a server from one store to another: from a SQLite file to PostgreSQL, back, or to a
new file.
"""

_COPY: Final = """\
Copy all that a server stored to an empty store, and compare both to the last digit:
each event, each record, and the totals of each metric and customer. Stop the servers of
both stores first. Events keep their ids, keys, times and order of receipt. A copy that
was interrupted goes on where it was. The source is not changed.

A store is a SQLite file, or the URL of a PostgreSQL database without its password. That
comes from PGPASSWORD, from ~/.pgpass, or from the file that ?passfile= names in the
URL.
"""

_EPILOG: Final = """\
examples:
  outlay store copy outlay.db postgresql://outlay@db.internal/outlay
  outlay store copy postgresql://outlay@db.internal/outlay outlay.db
"""

_DAY: Final = 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    copy = add_subcommand(actions, "copy", _copy, "copy all data, and compare")
    copy.description = _COPY
    copy.epilog = _EPILOG
    copy.add_argument("source", metavar="FROM", help="the store that is read")
    copy.add_argument("target", metavar="TO", help="an empty store, or a new file")
    copy.add_argument(
        "--dedupe-window",
        type=float,
        default=_DAY,
        metavar="SECONDS",
        help="the servers' own setting: how long a key is remembered (default: 86400)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    arguments.action(arguments)
    return ExitCode.DONE


def _copy(arguments: argparse.Namespace) -> None:
    if arguments.source == arguments.target:
        raise UsageError("the source and the target are the same; name another target")
    for name in (arguments.source, arguments.target):
        if is_postgres_url(name) and has_password(name):
            raise UsageError(
                "other users can read the arguments of a program; leave the password "
                "out of the URL, and set PGPASSWORD, or keep it in ~/.pgpass"
            )
    window = timedelta(seconds=arguments.dedupe_window)
    now = time.time_ns() // 1000
    with (
        closing(open_copied(arguments.source, window, must_exist=True)) as source,
        closing(open_copied(arguments.target, window)) as target,
        ProgressBar() as bar,
    ):
        result = copy_store(source, target, now, bar.show)
    _print(result)


def _print(result: CopyResult) -> None:
    print(f"copied {pluralize(result.events, 'event')}; each is equal")
    for kind, count in result.records.items():
        if count:
            print(f"  {kind.replace('_', ' '):<18} {count:>9,}")
    print(f"compared {pluralize(result.totals, 'total')}; all are equal, to the digit")
