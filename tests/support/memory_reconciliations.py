"""Reconciliations in memory, in the most obvious way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractContextManager

    from outlay.server._records import SavedReconciliation, Withdrawal
    from outlay.server._storage.page import Page
    from outlay.server._storage.reconciliation_store import ReconciledTotals

_DAY: Final = 24 * 3_600_000_000  # microseconds


@dataclass
class ReconciliationTables:
    """The reconciliations of all organizations, and the matches of each, by id."""

    saved: dict[str, SavedReconciliation] = field(default_factory=dict)
    matches: dict[str, frozenset[bytes]] = field(default_factory=dict)

    def copy(self) -> ReconciliationTables:
        """Return a view that later writes do not change."""
        return ReconciliationTables({**self.saved}, {**self.matches})


class MemoryReconciliationReader:
    """Reads reconciliations from one view."""

    def _reconciliations(self) -> ReconciliationTables:
        raise NotImplementedError

    def reconciliations(
        self, namespace: str, page: Page
    ) -> tuple[list[SavedReconciliation], int]:
        """Return a page of the finished reconciliations, and their number."""
        found = [
            one
            for one in self._reconciliations().saved.values()
            if one.namespace == namespace and one.saved_at is not None
        ][::-1]
        found.sort(key=lambda one: one.saved_at or 0, reverse=True)
        return found[page.offset : page.offset + page.limit], len(found)

    def reconciliation(
        self, namespace: str, reconciliation_id: str
    ) -> SavedReconciliation | None:
        """Return a finished reconciliation, or None."""
        return _finished(self._reconciliations(), namespace, reconciliation_id)

    def matches(
        self, namespace: str, reconciliation_id: str, digests: Collection[bytes]
    ) -> set[bytes]:
        """Return those of ``digests`` that are matches of a reconciliation."""
        tables = self._reconciliations()
        one = tables.saved.get(reconciliation_id)
        if one is None or one.namespace != namespace:
            return set()
        return {*digests} & tables.matches[reconciliation_id]


class MemoryReconciliationWriter:
    """Writes reconciliations to tables."""

    def _writing_reconciliations(self) -> AbstractContextManager[ReconciliationTables]:
        raise NotImplementedError

    def begin_reconciliation(self, new: SavedReconciliation) -> None:
        """Store a reconciliation that does not count yet, and has no matches."""
        with self._writing_reconciliations() as tables:
            for one in [*tables.saved.values()]:
                if one.saved_at is None and one.as_of < new.as_of - _DAY:
                    del tables.saved[one.id]
            tables.saved[new.id] = new
            tables.matches[new.id] = frozenset()

    def add_matches(
        self,
        namespace: str,
        reconciliation_id: str,
        digests: Collection[bytes],
        now: int,
        totals: ReconciledTotals | None = None,
    ) -> SavedReconciliation | None:
        """Add matches. Digests that are stored already change nothing."""
        with self._writing_reconciliations() as tables:
            one = tables.saved.get(reconciliation_id)
            if one is None or one.namespace != namespace:
                return None
            if one.saved_at is None:
                tables.matches[one.id] |= frozenset(digests)
                if totals is not None:
                    one = msgspec.structs.replace(one, saved_at=now, **totals._asdict())
                    tables.saved[one.id] = one
            return one

    def withdraw_reconciliation(
        self, namespace: str, reconciliation_id: str, withdrawal: Withdrawal
    ) -> SavedReconciliation | None:
        """End a finished reconciliation. Its first withdrawal stays."""
        with self._writing_reconciliations() as tables:
            one = _finished(tables, namespace, reconciliation_id)
            if one is not None and one.withdrawal is None:
                one = msgspec.structs.replace(one, withdrawal=withdrawal)
                tables.saved[one.id] = one
            return one


def _finished(
    tables: ReconciliationTables, namespace: str, reconciliation_id: str
) -> SavedReconciliation | None:
    one = tables.saved.get(reconciliation_id)
    if one is None or one.namespace != namespace or one.saved_at is None:
        return None
    return one
