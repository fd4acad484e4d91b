"""Which part of a journal folder a command is about."""

from __future__ import annotations

import argparse
import enum
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._cli.exit_codes import UsageError
from outlay._cli.journal_totals import EventSummary
from outlay._cli.options import add_connection
from outlay._journal.admin.inspect import (
    DestinationView,
    destinations,
    find_journal_dir,
)
from outlay._journal.folders import destination_name
from outlay._model.clock import SystemClock, format_rfc3339
from outlay._model.settings import Settings
from outlay.errors import JournalError, OutlayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from outlay._journal.admin.inspect import StoredEvent


_UNITS: Final = {"d": 86_400, "h": 3600, "min": 60, "s": 1}  # seconds


class DestinationRelation(enum.Enum):
    """What a destination is to the one that the settings make."""

    CURRENT = "current"
    OTHER_CREDENTIAL = "other_credential"
    OTHER_ADDRESS = "elsewhere"  # another address or namespace
    UNKNOWN = "unknown"  # its meta.json cannot be read


def add_journal_options(
    parser: argparse.ArgumentParser, *, destination: str | None = None
) -> None:
    """Add the arguments that say which folder and destination.

    Args:
        parser: of the command.
        destination: what the command is about unless told; None: it cannot be told.
    """
    parser.add_argument(
        "--journal-dir",
        metavar="DIR",
        help="folder of the journal (default: OUTLAY_JOURNAL_DIR, or the platform's "
        "state folder)",
    )
    if destination is not None:
        parser.add_argument(
            "--destination",
            metavar="NAME",
            help="the first characters of its name in 'outlay journal status' "
            f"(default: {destination})",
        )
    add_connection(parser)


def add_selection(parser: argparse.ArgumentParser, states: Sequence[str]) -> None:
    """Add the arguments that select events.

    Args:
        parser: of the command.
        states: those that can be asked for.
    """
    group = parser.add_argument_group("selection")
    group.add_argument(
        "--state",
        action="append",
        choices=states,
        help=f"{', '.join(states)}; may be repeated",
    )
    group.add_argument("--type", metavar="TYPE", help="of this event type")
    group.add_argument("--customer", metavar="ID", help="of this customer")
    group.add_argument(
        "--older-than",
        type=_duration_ms,
        metavar="AGE",
        help="with a timestamp before then, such as 90min, 36h or 7d",
    )


def _duration_ms(text: str) -> int:
    found = re.fullmatch(r"(\d{1,5})(s|min|h|d)", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age such as 90min or 7d")
    return int(found[1]) * _UNITS[found[2]] * 1000


class JournalTarget:
    """The destinations that a command is about."""

    def __init__(self, arguments: argparse.Namespace, **overrides: object) -> None:
        """Resolve the settings and find the folder.

        Args:
            arguments: what was asked for.
            **overrides: further settings by name; None: not given.

        Raises:
            ConfigError: a setting is malformed; the message names it.
        """
        self.settings: Final = Settings.resolve(
            {
                "base_url": arguments.base_url,
                "api_key": arguments.api_key,
                "journal_dir": arguments.journal_dir,
                **overrides,
            }
        )
        self.journal_dir: Final = find_journal_dir(self.settings.journal_dir)
        key = self.settings.api_key
        digest = destination_name(
            self.settings.base_url,
            self.settings.namespace,
            key.get_secret_value() if key else "",
        )
        self.current: Final = DestinationView(self.journal_dir / digest)
        self._prefix: Final[str | None] = getattr(arguments, "destination", None)

    def views(self) -> list[DestinationView]:
        """Return the destinations asked for, by default all; the current one first.

        Raises:
            JournalError: the folder cannot be read.
            UsageError: there is none of the name asked for.
        """
        try:
            found = destinations(self.journal_dir)
        except OSError as error:
            raise JournalError(f"cannot read {self.journal_dir}: {error}") from error
        found.sort(key=lambda view: view.digest != self.current.digest)
        if self._prefix is None:
            return found
        chosen = [view for view in found if view.digest.startswith(self._prefix)]
        if not chosen:
            known = ", ".join(view.digest for view in found) or "none"
            raise UsageError(f"no destination {self._prefix!r}; there are: {known}")
        return chosen

    def selected_destination(self) -> DestinationView | None:
        """Return the one destination asked for, by default the current one.

        None: nothing was ever kept for it.

        Raises:
            UsageError: there is none, or more than one of that name.
        """
        if self._prefix is None:
            return self.current if self.current.folder.exists else None
        first, *more = self.views()
        if more:
            raise UsageError(f"several destinations begin with {self._prefix!r}")
        return first

    def others(self) -> list[DestinationView]:
        """Return all destinations but the current one."""
        return [view for view in self.views() if view.digest != self.current.digest]

    def relation(self, view: DestinationView) -> DestinationRelation:
        """Return what a destination is to the current settings."""
        if view.digest == self.current.digest:
            return DestinationRelation.CURRENT
        meta = view.meta
        if meta is None:
            return DestinationRelation.UNKNOWN
        ours = self.settings.base_url, self.settings.namespace
        same = (meta.base_url, meta.namespace) == ours
        return (
            DestinationRelation.OTHER_CREDENTIAL
            if same
            else DestinationRelation.OTHER_ADDRESS
        )


class EventFilter(NamedTuple):
    """Which events a command is about; None: no matter.

    Attributes:
        states: of `STATES`.
        event_type: exactly this one.
        customer: exactly this one.
        before: RFC 3339, UTC; events with an earlier timestamp.
    """

    states: Sequence[str]
    event_type: str | None
    customer: str | None
    before: str | None

    @classmethod
    def of(cls, arguments: argparse.Namespace, default: Sequence[str]) -> Self:
        """Return what the arguments select; without a state, ``default`` ones."""
        before = None
        if arguments.older_than is not None:
            before = format_rfc3339(SystemClock().now_ms() - arguments.older_than)
        states = arguments.state or default
        return cls(states, arguments.type, arguments.customer, before)

    @property
    def filters_by_content(self) -> bool:
        """Whether it asks for anything that damaged bytes cannot tell."""
        return (self.event_type, self.customer, self.before) != (None, None, None)

    def matches(self, event: StoredEvent) -> bool:
        """Return whether ``event`` is one of them."""
        if event.state not in self.states:
            return False
        if not self.filters_by_content:
            return True
        facts = EventSummary.of(event)
        return (
            self.event_type in {None, facts.type}
            and self.customer in {None, facts.customer}
            # Both are written alike, so they sort as texts.
            and (self.before is None or facts.timestamp < self.before)
        )


@contextmanager
def mapped_os_errors() -> Iterator[None]:
    """Tell what the operating system refuses in terms of the journal folder.

    Raises:
        JournalError: the folder cannot be read or written to.
    """
    try:
        yield
    except (OutlayError, BrokenPipeError):
        raise
    except OSError as error:
        raise JournalError(f"cannot use the journal folder: {error}") from error
