"""``outlay journal``: list, ship, resend, export and delete events in the journal.

`show` reads and never locks. `replay` ships. `edit` resends, deletes and moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._cli.commands.journal import edit, replay, show
from outlay._cli.journal_options import (
    CURRENT_DESTINATION,
    JournalTarget,
    add_event_filter,
    add_journal_options,
    mapped_os_errors,
)
from outlay._cli.journal_totals import LETTER_STATES, STATES
from outlay._cli.options import add_format_options, add_subcommand

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
The journal keeps every event until the server has it. These commands list the events
while applications write, and ship what dead processes left. They also resend or delete
events that outlay may not send again by itself (quarantined), and events that the
server refused (dead).
"""

_EPILOG: Final = """\
examples:
  outlay journal status
  outlay journal list --state quarantined --older-than 7d
  outlay journal replay
"""

_ALL: Final = "all"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    for add in (
        _add_status,
        _add_list,
        _add_show,
        _add_replay,
        _add_resend,
        _add_export,
        _add_purge,
        _add_move,
    ):
        add(actions)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand.

    Raises:
        JournalError: The folder cannot be read or written.
    """
    with mapped_os_errors():
        return int(arguments.action(JournalTarget(arguments), arguments))


def _add_status(actions: Any) -> None:  # noqa: ANN401 - see add_subcommand
    parser = add_subcommand(
        actions, "status", show.status, "count the events of each destination"
    )
    parser.epilog = """\
Ages are those of the events' timestamps. The command only reads, and takes no lock.

example:
  outlay journal status --json
"""
    add_format_options(parser)
    add_journal_options(parser, destination=_ALL)


def _add_list(actions: Any) -> None:  # noqa: ANN401 - see add_subcommand
    parser = add_subcommand(
        actions, "list", show.list_events, "list the events in the journal"
    )
    parser.epilog = """\
example:
  outlay journal list --state dead --customer cus_123 --limit 10
"""
    parser.add_argument(
        "--limit",
        type=int,
        default=50,
        metavar="COUNT",
        help="show at most this many (default: 50; 0: all)",
    )
    add_format_options(parser)
    add_event_filter(parser, STATES)
    add_journal_options(parser, destination=_ALL)


def _add_show(actions: Any) -> None:  # noqa: ANN401 - see add_subcommand
    parser = add_subcommand(
        actions, "show", show.show_event, "show one event and its history"
    )
    parser.epilog = """\
example:
  outlay journal show ok1_8c2f4Jx0qk3vUe9S1mTzKb
"""
    parser.add_argument("key", metavar="KEY", help="the event's idempotency key")
    add_format_options(parser)
    add_journal_options(parser, destination=_ALL)


def _add_replay(actions: Any) -> None:  # noqa: ANN401 - see add_subcommand
    parser = add_subcommand(
        actions, "replay", replay.replay, "ship what dead processes left"
    )
    parser.epilog = """\
The command ships the events of dead processes to the server of the settings, parked
events included. Namespace and credential must be the same. Living processes ship
their own events.

example:
  outlay journal replay --timeout 120

exit codes:
  0  all delivered
  1  some were refused: parked, dead, quarantined, or the credential is wrong
  3  some got no response in time; they stay in the journal
"""
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="try for this long (default: 30)",
    )
    add_format_options(parser)
    add_journal_options(parser)


def _add_resend(actions: Any) -> None:  # noqa: ANN401 - see add_subcommand
    parser = add_subcommand(
        actions, "resend", edit.resend, "make dead letters pending again"
    )
    parser.epilog = """\
Without --state, the command resends quarantined events: they were sent, got no
response, and are so old that the server may count them a second time. The bytes stay
the same. The next process ships them, or 'outlay journal replay'.

examples:
  outlay journal resend --i-accept-double-counting
  outlay journal resend --state dead --type cost.ocr
"""
    parser.add_argument(
        "--i-accept-double-counting",
        action="store_true",
        help="required if one of the events may have been counted already",
    )
    add_format_options(parser)
    add_event_filter(parser, LETTER_STATES)
    add_journal_options(parser, destination=CURRENT_DESTINATION)


def _add_export(actions: Any) -> None:  # noqa: ANN401 - see add_subcommand
    parser = add_subcommand(
        actions, "export", show.export, "write the exact events as JSON lines"
    )
    parser.epilog = """\
Each line is the body of a request, byte for byte as it was tracked.

example:
  outlay journal export --state dead --output dead.jsonl
"""
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="a new file that only its owner can read (default: standard output)",
    )
    add_event_filter(parser, STATES)
    add_journal_options(parser, destination=_ALL)


def _add_purge(actions: Any) -> None:  # noqa: ANN401 - see add_subcommand
    parser = add_subcommand(
        actions, "purge", edit.purge, "delete dead letters and corrupt bytes"
    )
    parser.epilog = """\
Without --state, the command deletes all three. It never deletes pending or parked
events.

example:
  outlay journal purge --state dead --older-than 90d --yes
"""
    parser.add_argument(
        "--yes", action="store_true", help="delete; without it, only show"
    )
    add_format_options(parser)
    add_event_filter(parser, (*LETTER_STATES, edit.DAMAGED))
    add_journal_options(parser, destination=CURRENT_DESTINATION)


def _add_move(actions: Any) -> None:  # noqa: ANN401 - see add_subcommand
    parser = add_subcommand(
        actions, "move", edit.move, "move events to the current credential"
    )
    parser.epilog = """\
After a change of the API key, older events wait for a process that has the old key.
This command moves what dead processes left there to the credential of the settings.
Server and namespace must be the same. outlay cannot know whether both keys are of one
account. If they are not, costs go into the books of another company.

example:
  outlay journal move 4c61c48f --i-know-these-belong-to-this-account
"""
    parser.add_argument(
        "source",
        metavar="DESTINATION",
        help="the first characters of its name in 'outlay journal status'",
    )
    parser.add_argument(
        "--i-know-these-belong-to-this-account",
        dest="confirmed",
        action="store_true",
        help="required, because outlay cannot know",
    )
    add_format_options(parser)
    add_journal_options(parser)
