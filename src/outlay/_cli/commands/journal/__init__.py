"""``outlay journal``: what waits in the journal, and what a person can do about it.

The subcommands are in ``_spill_look`` (which read, and never lock), ``_spill_replay``
and ``_spill_change``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from outlay._cli.commands.journal import edit as _spill_change
from outlay._cli.commands.journal import replay as _spill_replay
from outlay._cli.commands.journal import show as _spill_look
from outlay._cli.journal_options import (
    JournalTarget,
    add_journal_options,
    add_selection,
    mapped_os_errors,
)
from outlay._cli.journal_totals import LETTER_STATES, STATES
from outlay._cli.options_actions import add_subcommand

if TYPE_CHECKING:
    import argparse

_DESCRIPTION: Final = """\
The journal holds every event until the server has it. Here one can look into it while
applications write to it, ship what is left, and decide about events that outlay may
not send again by itself (quarantined) or that the server refused (dead).
"""

_EPILOG: Final = """\
examples:
  outlay journal status
  outlay journal list --state quarantined --older-than 7d
  outlay journal replay
"""

_ALL: Final = "all"
_CURRENT: Final = "the one that the settings make"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for add in (
        _add_status,
        _add_list,
        _add_show,
        _add_replay,
        _add_resend,
        _add_export,
        _add_purge,
        _add_adopt,
    ):
        add(actions)


def run(arguments: argparse.Namespace) -> int:
    """Do what the subcommand says.

    Raises:
        JournalError: the folder cannot be read or written to.
    """
    with mapped_os_errors():
        return int(arguments.action(JournalTarget(arguments), arguments))


def _add_status(actions: Any) -> None:  # noqa: ANN401 - see add_action
    parser = add_subcommand(
        actions, "status", _spill_look.status, "what is kept, and for whom"
    )
    parser.epilog = """\
Ages are those of the events' timestamps. Locks, writers and events are only looked at.

example:
  outlay journal status --json
"""
    _add_json(parser)
    add_journal_options(parser, destination=_ALL)


def _add_list(actions: Any) -> None:  # noqa: ANN401 - see add_action
    parser = add_subcommand(
        actions, "list", _spill_look.list_events, "the events that are kept"
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
        help="show so many at most (default: 50; 0: all)",
    )
    _add_json(parser)
    add_selection(parser, STATES)
    add_journal_options(parser, destination=_ALL)


def _add_show(actions: Any) -> None:  # noqa: ANN401 - see add_action
    parser = add_subcommand(
        actions, "show", _spill_look.show, "one event and its history"
    )
    parser.epilog = """\
example:
  outlay journal show ok1_8c2f4Jx0qk3vUe9S1mTzKb
"""
    parser.add_argument("key", metavar="KEY", help="the event's idempotency key")
    _add_json(parser)
    add_journal_options(parser, destination=_ALL)


def _add_replay(actions: Any) -> None:  # noqa: ANN401 - see add_action
    parser = add_subcommand(
        actions, "replay", _spill_replay.replay, "ship what is left, now"
    )
    parser.epilog = """\
Takes over what dead processes left for the server, namespace and credential of the
settings, parked events included. Living processes ship their own.

example:
  outlay journal replay --timeout 120

exit codes:
  0  all delivered
  1  some were refused: parked, dead, quarantined, or the credential is wrong
  3  some are left, for want of an answer; they stay in the journal
"""
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long to try (default: 30)",
    )
    _add_json(parser)
    add_journal_options(parser)


def _add_resend(actions: Any) -> None:  # noqa: ANN401 - see add_action
    parser = add_subcommand(
        actions, "resend", _spill_change.resend, "make dead letters pending again"
    )
    parser.epilog = """\
Without --state, the quarantined ones: events that were sent without an answer, so long
ago that the server may count them a second time. They go back byte for byte, and are
shipped by the next process, or 'outlay journal replay'.

examples:
  outlay journal resend --i-accept-double-counting
  outlay journal resend --state dead --type cost.ocr
"""
    parser.add_argument(
        "--i-accept-double-counting",
        action="store_true",
        help="needed where one of the events may have been counted already",
    )
    _add_json(parser)
    add_selection(parser, LETTER_STATES)
    add_journal_options(parser, destination=_CURRENT)


def _add_export(actions: Any) -> None:  # noqa: ANN401 - see add_action
    parser = add_subcommand(
        actions, "export", _spill_look.export, "the exact events, as JSON lines"
    )
    parser.epilog = """\
Each line is a request body, byte for byte as it was tracked.

example:
  outlay journal export --state dead --output dead.jsonl
"""
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="a new file, readable by its owner only (default: standard output)",
    )
    add_selection(parser, STATES)
    add_journal_options(parser, destination=_ALL)


def _add_purge(actions: Any) -> None:  # noqa: ANN401 - see add_action
    parser = add_subcommand(
        actions, "purge", _spill_change.purge, "delete dead letters and damaged bytes"
    )
    parser.epilog = """\
Without --state, all three. Pending and parked events are never deleted.

example:
  outlay journal purge --state dead --older-than 90d --yes
"""
    parser.add_argument("--yes", action="store_true", help="delete, and not only show")
    _add_json(parser)
    add_selection(parser, (*LETTER_STATES, _spill_change.DAMAGED))
    add_journal_options(parser, destination=_CURRENT)


def _add_adopt(actions: Any) -> None:  # noqa: ANN401 - see add_action
    parser = add_subcommand(
        actions, "move", _spill_change.adopt, "ship with another credential"
    )
    parser.epilog = """\
After a change of the API key, events tracked under the old one wait for a process that
has it. This moves what dead processes left there to the credential of the settings.
Server and namespace must be the same. Whether both keys are of one account, outlay
cannot know: the wrong answer writes costs into somebody else's books.

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
        dest="sure",
        action="store_true",
        help="needed, for outlay cannot know",
    )
    _add_json(parser)
    add_journal_options(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print JSON; amounts are exact strings"
    )
