"""Save, read and withdraw reconciliations with bills, for commands."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from pydantic import AwareDatetime

from outlay._cli.money_api import MoneyApi
from outlay._cli.output import plain
from outlay._cli.server_api import quoted
from outlay._cli.wire_models import Wire, WirePage
from outlay._reconcile.saving import beginning, label, parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay._reconcile.joining import Reconciliation
    from outlay._reconcile.saving import Totals
    from outlay._reconcile.values import Result

_PATH: Final = "/v0/reconciliations"


class SavedTotals(Wire):
    """The sums of a reconciliation, and its numbers of charges if they are known."""

    bill: Decimal
    tracked: Decimal
    reconciled: Decimal
    charges: int | None = None
    reconciled_charges: int | None = None


class Withdrawal(Wire):
    """The end of a reconciliation."""

    withdrawn_at: AwareDatetime
    withdrawn_by: str
    reason: str


class SavedReconciliation(Wire):
    """A reconciliation with an invoice.

    Attributes:
        as_of: The last instant of receipt whose events and corrections count.
        saved_at: The time from which it counts. None before.
        totals: The sums. None before.
        replaces: The ids of earlier ones with days that this one covers.
        replaced_by: The ids of later ones with days that this one covers.
        withdrawal: The end. None while it counts.
    """

    id: str
    invoice_id: str
    provider: str
    currency: str
    timezone: str
    period: str
    first: str
    last: str
    as_of: AwareDatetime
    saved_by: str
    saved_at: AwareDatetime | None = None
    totals: SavedTotals | None = None
    replaces: tuple[str, ...] = ()
    replaced_by: tuple[str, ...] = ()
    withdrawal: Withdrawal | None = None

    @property
    def label(self) -> str:
        """The id, the invoice and the days, for messages."""
        return label(self.id, self.invoice_id, self.first, self.last)


class SavedReconciliations(WirePage):
    """A page of reconciliations, the last saved first."""

    data: tuple[SavedReconciliation, ...]


class ReconciliationApi(MoneyApi):
    """Saves, reads and withdraws reconciliations. Use as a context manager."""

    def begin(
        self, reconciliation: Reconciliation, invoice: str
    ) -> SavedReconciliation:
        """Begin to save a reconciliation."""
        body = beginning(reconciliation, invoice)
        return self._post(_PATH, SavedReconciliation, body)

    def finish(
        self, begun: SavedReconciliation, reconciliation: Reconciliation, result: Result
    ) -> SavedReconciliation:
        """Send the matches and the totals. From then on it counts."""
        saved = begun
        for part, totals in parts(reconciliation, result):
            body: dict[str, Any] = {"matches": [one.hex() for one in part]}
            if totals is not None:
                body["totals"] = totals_json(totals)
            saved = self._put(f"{_PATH}/{quoted(begun.id)}", SavedReconciliation, body)
        return saved

    def saved(self, reconciliation_id: str) -> SavedReconciliation:
        """Return a saved reconciliation."""
        return self._get(f"{_PATH}/{quoted(reconciliation_id)}", SavedReconciliation)

    def last_saved(self, limit: int) -> SavedReconciliations:
        """Return the reconciliations that were saved last."""
        return self._get(_PATH, SavedReconciliations, {"limit": str(limit)})

    def all_saved(self) -> Iterator[SavedReconciliation]:
        """Yield the saved reconciliations, the last one first."""
        for page in self._pages(_PATH, SavedReconciliations):
            yield from page.data

    def labels(self, ids: tuple[str, ...]) -> list[str]:
        """Return the labels of saved reconciliations."""
        if not ids:
            return []
        return [one.label for one in self.all_saved() if one.id in ids]

    def withdraw(self, reconciliation_id: str, reason: str) -> SavedReconciliation:
        """Let a saved reconciliation count no more."""
        path = f"{_PATH}/{quoted(reconciliation_id)}/withdraw"
        return self._post(path, SavedReconciliation, {"reason": reason})


def totals_json(totals: Totals | SavedTotals) -> dict[str, Any]:
    """Return totals in the form of the API, with every digit."""
    return {
        "bill": plain(totals.bill),
        "tracked": plain(totals.tracked),
        "reconciled": plain(totals.reconciled),
        "charges": totals.charges,
        "reconciledCharges": totals.reconciled_charges,
    }
