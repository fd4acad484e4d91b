"""Arguments that name a journal folder, its destinations and its events."""

from __future__ import annotations

import argparse
import enum
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._cli.exit_codes import UsageError
from outlay._cli.journal_totals import EventSummary
from outlay._cli.options import add_connection_options, parse_time
from outlay._journal.admin.inspect import (
    DestinationView,
    destinations,
    find_journal_dir,
)
from outlay._journal.folders import destination_name
from outlay._model.clock import SystemClock, format_rfc3339, to_ms
from outlay._model.settings import Settings
from outlay.errors import JournalError, OutlayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from outlay._journal.admin.inspect import StoredEvent

CURRENT_DESTINATION: Final = "the one of the settings"
"""The default of ``--destination``, for commands that change something."""

_UNITS: Final = {"d": 86_400, "h": 3600, "min": 60, "s": 1}  # seconds


class DestinationRelation(enum.Enum):
    """The difference between a destination and the destination of the settings."""

    CURRENT = "current"
    OTHER_CREDENTIAL = "other_credential"
    OTHER_ADDRESS = "other_address"  # Another address or another namespace.
    UNKNOWN = "unknown"  # Its meta.json cannot be read.


def add_journal_dir_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--journal-dir``."""
    parser.add_argument(
        "--journal-dir",
        metavar="DIR",
        help="folder of the journal (default: OUTLAY_JOURNAL_DIR, or the platform's "
        "state folder)",
    )


def add_journal_options(
    parser: argparse.ArgumentParser, *, destination: str | None = None
) -> None:
    """Add the arguments that name the folder, the destination and the server.

    Args:
        parser: The command's parser.
        destination: The default of ``--destination`` in words. If None, the command
            does not have this argument.
    """
    add_journal_dir_option(parser)
    if destination is not None:
        parser.add_argument(
            "--destination",
            metavar="NAME",
            help="the first characters of its name in 'outlay journal status' "
            f"(default: {destination})",
        )
    add_connection_options(parser)


def add_event_filter(parser: argparse.ArgumentParser, states: Sequence[str]) -> None:
    """Add the arguments that select events.

    Args:
        parser: The command's parser.
        states: The states that can be selected.
    """
    group = parser.add_argument_group("selection")
    group.add_argument(
        "--state",
        action="append",
        choices=states,
        help=f"{', '.join(states)}; may be repeated",
    )
    group.add_argument("--type", metavar="TYPE", help="only this event type")
    group.add_argument("--customer", metavar="ID", help="only this customer")
    group.add_argument(
        "--older-than",
        type=_latest_ms,
        metavar="AGE",
        help="only events of this age or older, such as 90min, 36h or 7d, or from "
        "before a date such as 2026-10-01",
    )


def _latest_ms(text: str) -> int:
    """Return the instant that is an age ago, or the instant of a date or time."""
    if found := re.fullmatch(r"(\d{1,5})(s|min|h|d)", text, re.ASCII):
        age_ms = int(found[1]) * _UNITS[found[2]] * 1000
        return SystemClock().now_ms() - age_ms
    try:
        return to_ms(parse_time(text))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no age; pass 90min or 7d, or a date such as 2026-10-01"
        ) from None


class JournalTarget:
    """The journal folder and the destinations that a command works on."""

    def __init__(self, arguments: argparse.Namespace, **overrides: object) -> None:
        """Resolve the settings and find the folder.

        Args:
            arguments: The arguments of `add_journal_options`.
            **overrides: More settings by name. None means not given.

        Raises:
            ConfigError: A setting is malformed. The message names it.
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
        self.current: Final = current_destination(self.settings)
        self._prefix: Final[str | None] = getattr(arguments, "destination", None)

    def views(self) -> list[DestinationView]:
        """Return the selected destinations, by default all. The current one is first.

        Raises:
            JournalError: The folder cannot be read.
            UsageError: No destination has the selected name.
        """
        try:
            found = destinations(self.journal_dir)
        except OSError as error:
            raise JournalError(f"cannot read {self.journal_dir}: {error}") from error
        found.sort(key=lambda view: view.digest != self.current.digest)
        if self._prefix is None:
            return found
        selected = [view for view in found if view.digest.startswith(self._prefix)]
        if not selected:
            known = ", ".join(view.digest for view in found) or "none"
            raise UsageError(f"no destination {self._prefix!r}; pass one of: {known}")
        return selected

    def selected_destination(self) -> DestinationView | None:
        """Return the one selected destination, by default the current one.

        Returns:
            The destination, or None if the current one never stored an event.

        Raises:
            UsageError: No destination has the selected name, or several have.
        """
        if self._prefix is None:
            return self.current if self.current.folder.exists else None
        first, *more = self.views()
        if more:
            raise UsageError(
                f"several destinations begin with {self._prefix!r}; type more"
            )
        return first

    def others(self) -> list[DestinationView]:
        """Return all destinations but the current one."""
        return [view for view in self.views() if view.digest != self.current.digest]

    def relation(self, view: DestinationView) -> DestinationRelation:
        """Return how a destination differs from the current one."""
        if view.digest == self.current.digest:
            return DestinationRelation.CURRENT
        meta = view.meta
        if meta is None:
            return DestinationRelation.UNKNOWN
        if (meta.base_url, meta.namespace) == (
            self.settings.base_url,
            self.settings.namespace,
        ):
            return DestinationRelation.OTHER_CREDENTIAL
        return DestinationRelation.OTHER_ADDRESS


def current_destination(settings: Settings) -> DestinationView:
    """Return the destination of the settings."""
    key = settings.api_key
    name = destination_name(
        settings.base_url, settings.namespace, key.get_secret_value() if key else ""
    )
    return DestinationView(find_journal_dir(settings.journal_dir) / name)


class EventFilter(NamedTuple):
    """Selects events of a journal.

    Attributes:
        states: The states of the selected events, see `STATES`.
        event_type: The event type. If None, all types.
        customer: The customer id. If None, all customers.
        before: Selects events with an earlier timestamp, RFC 3339, UTC. If None, all.
    """

    states: Sequence[str]
    event_type: str | None
    customer: str | None
    before: str | None

    @classmethod
    def from_arguments(
        cls, arguments: argparse.Namespace, default_states: Sequence[str]
    ) -> Self:
        """Return the filter of the arguments of `add_event_filter`."""
        before = None
        if arguments.older_than is not None:
            before = format_rfc3339(arguments.older_than)
        states = arguments.state or default_states
        return cls(states, arguments.type, arguments.customer, before)

    @property
    def filters_by_content(self) -> bool:
        """Whether the filter reads fields, which corrupt bytes do not have."""
        return (self.event_type, self.customer, self.before) != (None, None, None)

    def matches(self, event: StoredEvent) -> bool:
        """Return whether ``event`` is selected."""
        if event.state not in self.states:
            return False
        if not self.filters_by_content:
            return True
        summary = EventSummary.from_event(event)
        return (
            self.event_type in {None, summary.type}
            and self.customer in {None, summary.customer}
            # Both have the same format, so they sort as texts.
            and (self.before is None or summary.timestamp < self.before)
        )


@contextmanager
def mapped_os_errors() -> Iterator[None]:
    """Report errors of the operating system as errors of the journal folder.

    Raises:
        JournalError: The folder cannot be read or written.
    """
    try:
        yield
    except (OutlayError, BrokenPipeError):
        raise
    except OSError as error:
        raise JournalError(f"cannot use the journal folder: {error}") from error
