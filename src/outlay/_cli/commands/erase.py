"""``outlay erase``: replace a customer's id on a server, while it serves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ValidationError

from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import add_connection_options, connection_settings
from outlay._cli.requests import ServerRequests

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
    with ServerRequests(connection_settings(arguments)) as server:
        body: dict[str, object] = {"customer": arguments.customer}
        response = server.send("POST", _PATH, body)
        try:
            pseudonym = _Erasure.model_validate_json(response.content).pseudonym
        except ValidationError as error:
            raise server.unexpected(response) from error
        print(f"replacing {arguments.customer} by {pseudonym}", flush=True)
        while _is_running(server, pseudonym):
            threading.Event().wait(_POLL_SECONDS)
    print("done; no total has changed. Backups from before still have the id.")
    return ExitCode.DONE


def _is_running(server: ServerRequests, pseudonym: str) -> bool:
    response = server.send("GET", _PATH)
    try:
        running = _Running.model_validate_json(response.content).data
    except ValidationError as error:
        raise server.unexpected(response) from error
    return any(one.pseudonym == pseudonym for one in running)
