"""Corrections and closed periods in memory, in the most obvious way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from outlay.server._records import ClosedPeriod, Correction, Entry, Event
from outlay.server._storage.correction_store import Decision, EventHistory
from outlay.server._storage.net_quantities import (
    entry_contribution,
    late_entries,
    period_at,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._storage.correction_store import Decide, DecideClosing
    from outlay.server._storage.page import Page


class StoredEntry(NamedTuple):
    """An entry, and the time at which it was stored. ``correction`` is '' if late."""

    entry: Entry
    correction: str
    event_id: str
    at: int


@dataclass
class CorrectionTables:
    """The corrections, entries and closed periods of all organizations."""

    corrections: list[Correction] = field(default_factory=list)
    entries: list[StoredEntry] = field(default_factory=list)
    closed: list[tuple[str, ClosedPeriod]] = field(default_factory=list)

    def copy(self) -> CorrectionTables:
        """Return a view that later writes do not change."""
        return CorrectionTables([*self.corrections], [*self.entries], [*self.closed])

    def of(self, namespace: str) -> list[ClosedPeriod]:
        """Return the closed periods of an organization."""
        found = [one for owner, one in self.closed if owner == namespace]
        return sorted(found, key=lambda one: one.start)

    def add_late(self, event: Event, now: int) -> None:
        """Store the entries of a new event that belongs to a closed period."""
        closed = period_at(self.of(event.namespace), event.at)
        if closed is not None:
            self.entries += [
                StoredEntry(one, "", event.id, now)
                for one in late_entries(event.at, now, closed)
            ]

    def contributions(
        self,
        metric: CompiledMetric,
        seq: int,
        event: Event,
        *,
        gross: bool,
        as_of: int | None,
    ) -> Iterator[tuple[Entry | None, Contribution]]:
        """Yield everything that an event counts, at any time."""
        entries = [
            one.entry
            for one in self.entries
            if one.event_id == event.id
            and (as_of is None or one.at <= as_of)
            and (not gross or not one.correction)
            and one.entry.cost_id in {None, metric.cost.id}
        ]
        own = Entry(event.at, 1)
        if metric.can_subtract:
            for entry in [own, *entries]:
                yield (
                    None if entry is own else entry,
                    entry_contribution(metric, entry, seq, event.customer, event.data),
                )
            return
        for at in {entry.effective_at for entry in [own, *entries]}:
            present = [one.sign for one in [own, *entries] if one.effective_at == at]
            if sum(present) > 0:
                yield None, metric.contribution(seq, at, event.customer, event.fields)


class MemoryCorrectionReader:
    """Reads corrections from one view."""

    def _corrections(self) -> CorrectionTables:
        raise NotImplementedError

    def correction(self, namespace: str, correction_id: str) -> Correction | None:
        """Return the correction with this id."""
        for one in self._corrections().corrections:
            if (one.namespace, one.id) == (namespace, correction_id):
                return one
        return None

    def corrections(
        self, namespace: str, page: Page, *, event_id: str | None = None
    ) -> tuple[list[Correction], int]:
        """Return a page of corrections, newest first, and their number."""
        found = [
            one
            for one in reversed(self._corrections().corrections)
            if one.namespace == namespace and event_id in {None, one.event_id}
        ]
        return found[page.offset : page.offset + page.limit], len(found)

    def corrections_of(
        self, namespace: str, event_ids: Collection[str]
    ) -> list[Correction]:
        """Return all corrections of some events, in any order."""
        return [
            one
            for one in self._corrections().corrections
            if one.namespace == namespace and one.event_id in event_ids
        ]

    def closed_periods(self, namespace: str) -> list[ClosedPeriod]:
        """Return the closed periods, oldest first."""
        return self._corrections().of(namespace)


class MemoryCorrectionWriter:
    """Writes corrections to tables."""

    def _writing_corrections(
        self,
    ) -> AbstractContextManager[tuple[CorrectionTables, dict[str, Event]]]:
        raise NotImplementedError

    def prepare_correction(self, namespace: str, event_ids: Collection[str]) -> None:
        """Do nothing."""

    def correct(
        self, namespace: str, event_ids: Sequence[str], decide: Decide, now: int
    ) -> list[Correction | None]:
        """Decide about events, and store the new corrections, all or none."""
        results: list[Correction | None] = []
        with self._writing_corrections() as (tables, events):
            for event_id in event_ids:
                event = events.get(event_id)
                if event is None or event.namespace != namespace:
                    results.append(None)
                    continue
                decision = decide(_history(tables, event))
                if isinstance(decision, Decision):
                    one = decision.correction
                    tables.corrections.append(one)
                    tables.entries += [
                        StoredEntry(entry, one.id, event_id, now)
                        for entry in decision.entries
                    ]
                    results.append(one)
                else:
                    results.append(decision)
        return results

    def close_period(self, namespace: str, decide: DecideClosing) -> None:
        """Close a period."""
        with self._writing_corrections() as (tables, _):
            closed = decide(tables.of(namespace))
            if closed is not None:
                tables.closed.append((namespace, closed))


def _history(tables: CorrectionTables, event: Event) -> EventHistory:
    corrections = [one for one in tables.corrections if one.event_id == event.id]
    return EventHistory(
        event,
        corrections,
        [
            [
                one.entry
                for one in tables.entries
                if one.event_id == event.id and one.correction == correction_id
            ]
            for correction_id in ["", *(one.id for one in corrections)]
        ],
        tables.of(event.namespace),
    )
