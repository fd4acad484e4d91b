"""The seam between the services and the storage of single events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outlay.server._records import ReceivedEvent

_ANY: Final[Mapping[str, frozenset[str]]] = {}


class EventFilter(NamedTuple):
    """The events that are wanted. None means that every value is.

    Attributes:
        types: The event types.
        customers: The customers; see `Event.customer`.
        start: The first instant that counts, in microseconds since 1970.
        end: The first instant that no longer counts, in the same unit.
        key: The idempotency key.
        external_id: The caller's own id of the event.
        external_subject: The caller's own id of the customer.
        as_of: The last instant of receipt that counts, in microseconds since 1970.
        values: The allowed texts of values in the data, by JSONPath.
    """

    types: frozenset[str] | None = None
    customers: frozenset[str] | None = None
    start: int | None = None
    end: int | None = None
    key: str | None = None
    external_id: str | None = None
    external_subject: str | None = None
    as_of: int | None = None
    values: Mapping[str, frozenset[str]] = _ANY


class EventPage(NamedTuple):
    """Some of the wanted events.

    Attributes:
        events: The events, the newest first. There may be none, although more follow.
        cursor: The place after which the next page starts. None after the last event.
    """

    events: list[ReceivedEvent]
    cursor: str | None


class CursorError(ValueError):
    """The text is no cursor of this store."""


class EventReader(Protocol):
    """Reads single events from one consistent view."""

    def event(self, namespace: str, event_id: str) -> ReceivedEvent | None:
        """Return the event with this id."""
        ...

    def event_of_key(self, namespace: str, key: str) -> ReceivedEvent | None:
        """Return the event that an idempotency key stands for within its window.

        A store may forget a key when the dedupe window of its event has ended. `events`
        still finds the event.
        """
        ...

    def count_events(self, namespace: str, where: EventFilter) -> int:
        """Return the number of wanted events. The filter must name no values."""
        ...

    def events(
        self, namespace: str, where: EventFilter, limit: int, cursor: str | None
    ) -> EventPage:
        """Return a page of events, the newest first, by the time of the cost.

        The work for a page is bounded: a page may have fewer than ``limit`` events, or
        none, and still have a cursor. All pages together have each event once.

        Args:
            namespace: The organization.
            where: The wanted events.
            limit: The largest number of events, 1 or more.
            cursor: The cursor of the page before. None for the first page.

        Raises:
            CursorError: The cursor is not one of this store.
        """
        ...
