"""``outlay retention``: how long a server keeps the events of an organization."""

from __future__ import annotations

import argparse
from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from outlay._cli.exit_codes import ExitCode
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    connection_settings,
)
from outlay._cli.output import pluralize, print_data
from outlay._cli.server_api import ServerApi

_DESCRIPTION: Final = """\
Show or set how long the server keeps the events of the key's organization. It deletes
older ones in the background. Totals over full hours stay as they are.
"""

_EPILOG: Final = """\
examples:
  outlay retention
  outlay retention --keep-events 400
  outlay retention --keep-events forever
"""

_PATH: Final = "/v0/retention"
_FOREVER: Final = "forever"


class _Retention(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    event_days: int | None = None
    deleted_before: str | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and examples."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "--keep-events",
        type=_days,
        metavar="DAYS",
        help="days for which events are kept, 2 or more, or 'forever'",
    )
    add_format_options(parser)
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Set the rule if one is given, and show it."""
    with _RetentionApi(connection_settings(arguments)) as api:
        if arguments.keep_events is not None:
            rule = api.change(arguments.keep_events or None)
        else:
            rule = api.read()
    if arguments.format:
        shown = rule.model_dump(by_alias=True)
        print_data(arguments.format, shown, [shown])
    else:
        _show(rule)
    return ExitCode.DONE


class _RetentionApi(ServerApi):
    """The retention of a server."""

    def read(self) -> _Retention:
        """Return the rule."""
        return self._get(_PATH, _Retention)

    def change(self, event_days: int | None) -> _Retention:
        """Keep events for so many days, or without a limit, and return the rule."""
        return self._put(_PATH, _Retention, {"eventDays": event_days})


def _show(rule: _Retention) -> None:
    if rule.event_days is None:
        print("events are kept without a limit")
    else:
        print(f"events are kept for {pluralize(rule.event_days, 'day')}")
    if rule.deleted_before is not None:
        print(
            f"events before {rule.deleted_before} may be gone; totals by hour are not"
        )


def _days(text: str) -> int:
    """Return the days, or 0 for ``forever``."""
    if text == _FOREVER:
        return 0
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days; pass 400")
    return int(text)
