"""``outlay erase``: replace a customer's id on a server, while it serves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import add_connection_options, connection_settings
from outlay._cli.server_api import ServerApi

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
Replace a customer's id by a random pseudonym, in all events, totals and revenue of the
server, while it serves. Each total stays the same to the last digit. There is no way
back. The key needs the permission customers:erase.
"""

_EPILOG: Final = """\
examples:
  outlay erase --customer cus_123 --yes
"""

_PATH: Final = "/v0/erasures"
_POLL_SECONDS: Final = 0.2


class _Erasure(BaseModel):
    pseudonym: str


class _Running(BaseModel):
    data: tuple[_Erasure, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "--customer", required=True, metavar="ID", help="the customer's id"
    )
    parser.add_argument(
        "--yes", action="store_true", help="do it; there is no way back"
    )
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Begin the erasure, and wait for its end."""
    if not arguments.yes:
        raise UsageError(
            f"this replaces {arguments.customer} for good, in all events and totals; "
            "add --yes to do it"
        )
    with _Erasures(connection_settings(arguments)) as erasures:
        pseudonym = erasures.begin(arguments.customer)
        print(f"replacing {arguments.customer} by {pseudonym}", flush=True)
        while erasures.is_running(pseudonym):
            threading.Event().wait(_POLL_SECONDS)
    print("done; no total has changed. Backups from before still have the id.")
    return ExitCode.DONE


class _Erasures(ServerApi):
    """The erasures of a server."""

    def begin(self, customer: str) -> str:
        """Begin the erasure of a customer, and return the pseudonym."""
        return self._post(_PATH, _Erasure, {"customer": customer}).pseudonym

    def is_running(self, pseudonym: str) -> bool:
        """Return whether the erasure has not ended."""
        running = self._get(_PATH, _Running).data
        return any(one.pseudonym == pseudonym for one in running)
