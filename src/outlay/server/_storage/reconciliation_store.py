"""The part of the seam that stores reconciliations with bills of providers.

A reconciliation has *matches*: the digest of each operation, or of each group of costs,
whose costs agree with the bill. It counts when all of them are stored, until it is
withdrawn. Nothing else of it changes. A later one of the same days counts instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection
    from decimal import Decimal

    from outlay.server._records import SavedReconciliation, Withdrawal
    from outlay.server._storage.page import Page


class ReconciledTotals(NamedTuple):
    """The sums of a finished reconciliation; see `SavedReconciliation`."""

    bill: Decimal
    tracked: Decimal
    reconciled: Decimal
    charges: int | None = None
    reconciled_charges: int | None = None


class ReconciliationReader(Protocol):
    """Reads reconciliations from one consistent view."""

    def reconciliations(
        self, namespace: str, page: Page
    ) -> tuple[list[SavedReconciliation], int]:
        """Return a page of the finished reconciliations, and their number.

        The one that was saved last is the first. Withdrawn ones are among them.
        """
        ...

    def reconciliation(
        self, namespace: str, reconciliation_id: str
    ) -> SavedReconciliation | None:
        """Return a finished reconciliation, or None."""
        ...

    def matches(
        self, namespace: str, reconciliation_id: str, digests: Collection[bytes]
    ) -> set[bytes]:
        """Return those of ``digests`` that are matches of a reconciliation."""
        ...


class ReconciliationWriter(Protocol):
    """Writes reconciliations. Each call is one step."""

    def begin_reconciliation(self, new: SavedReconciliation) -> None:
        """Store a reconciliation that does not count yet, and has no matches.

        Those that were begun a day or more before, and never finished, are deleted.
        """
        ...

    def add_matches(
        self,
        namespace: str,
        reconciliation_id: str,
        digests: Collection[bytes],
        now: int,
        totals: ReconciledTotals | None = None,
    ) -> SavedReconciliation | None:
        """Add matches. Digests that are stored already change nothing.

        Args:
            namespace: The organization.
            reconciliation_id: The id of the reconciliation.
            digests: The digests of 16 bytes.
            now: The time, in microseconds since 1970.
            totals: The totals, with the last matches. From then on it counts.

        Returns:
            The reconciliation. If it was finished before, nothing was stored. None, if
            there is no such reconciliation.
        """
        ...

    def withdraw_reconciliation(
        self, namespace: str, reconciliation_id: str, withdrawal: Withdrawal
    ) -> SavedReconciliation | None:
        """End a finished reconciliation. Its first withdrawal stays.

        Returns:
            The reconciliation, or None if there is no such finished one.
        """
        ...
