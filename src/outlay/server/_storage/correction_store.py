"""The seam that stores corrections of events, and closed periods.

An event counts at its own time. Each correction adds *entries*: the event counts once
less, once more, or with another amount, at some time. A store adds entries to what the
events count, and decides nothing.

An event that arrives late, after its period was closed, gets two entries: it counts
once less in the closed period, and once more at its time of receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from outlay.server._records import ClosedPeriod, Correction, Entry, Event
    from outlay.server._storage.page import Page


class EventHistory(NamedTuple):
    """An event with all that was decided about it.

    Attributes:
        corrections: Its corrections, oldest first.
        entries: The entries of each correction, in the same order. The first element
            has those of a late arrival.
        closed: The closed periods of the organization.
    """

    event: Event
    corrections: Sequence[Correction]
    entries: Sequence[Sequence[Entry]]
    closed: Sequence[ClosedPeriod]


class Decision(NamedTuple):
    """A new correction with its entries."""

    correction: Correction
    entries: Sequence[Entry]


Decide: TypeAlias = Callable[[EventHistory], "Decision | Correction | None"]
"""A decision about an event.

It returns a new correction, an earlier one that says the same, or None for no
correction. It may raise to refuse all corrections of the step.
"""

DecideClosing: TypeAlias = Callable[[Sequence["ClosedPeriod"]], "ClosedPeriod | None"]
"""A decision about a new closed period, from the others. It may raise."""


class CorrectionReader(Protocol):
    """Reads corrections from one consistent view."""

    def correction(self, namespace: str, correction_id: str) -> Correction | None:
        """Return the correction with this id."""
        ...

    def corrections(
        self, namespace: str, page: Page, *, event_id: str | None = None
    ) -> tuple[list[Correction], int]:
        """Return a page of corrections, newest first, and their number."""
        ...

    def corrections_of(
        self, namespace: str, event_ids: Collection[str]
    ) -> list[Correction]:
        """Return all corrections of some events, in any order."""
        ...

    def closed_periods(self, namespace: str) -> list[ClosedPeriod]:
        """Return the closed periods, oldest first."""
        ...


class CorrectionWriter(Protocol):
    """Writes corrections. Each call is one step."""

    def prepare_correction(self, namespace: str, event_ids: Collection[str]) -> None:
        """Read what `correct` needs of some events, if that can take long.

        Any thread may call it, without an effect on any result. Appends wait for
        `correct`, and not for this.

        Args:
            namespace: The organization.
            event_ids: The ids of the events.

        Raises:
            StoreUnavailableError: The events cannot be read.
        """
        ...

    def correct(
        self, namespace: str, event_ids: Sequence[str], decide: Decide, now: int
    ) -> list[Correction | None]:
        """Decide about events, and store the new corrections, all or none.

        Args:
            namespace: The organization.
            event_ids: The ids of the events.
            decide: The decision about each event.
            now: The time, in microseconds since 1970.

        Returns:
            The correction of each event, or None. None also stands for an event that
            does not exist.
        """
        ...

    def close_period(self, namespace: str, decide: DecideClosing) -> None:
        """Close a period, from the next event and the next correction on."""
        ...
