"""The steps that save a reconciliation with the invoice of its bill.

A command sends them to the server, and the server's page carries them out itself. Both
begin before they read costs, add the matches part by part, and finish with the totals.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._reconcile.values import plain, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    from outlay._reconcile.joining import Reconciliation
    from outlay._reconcile.values import Result

MATCHES_A_PART: Final = 5000
"""The matches of a part. The server stores events between two parts."""


class Totals(NamedTuple):
    """The sums of a finished reconciliation, and its numbers of charges."""

    bill: Decimal
    tracked: Decimal
    reconciled: Decimal
    charges: int
    reconciled_charges: int


def beginning(reconciliation: Reconciliation, invoice: str) -> dict[str, str]:
    """Return the invoice, and the days that it covers, in the form of the API."""
    first, last = reconciliation.span.whole_days()
    return {
        "invoiceId": invoice,
        "provider": reconciliation.provider,
        "currency": reconciliation.currency,
        "timezone": reconciliation.timezone,
        "period": reconciliation.period,
        "first": first,
        "last": last,
    }


def parts(
    reconciliation: Reconciliation, result: Result
) -> Iterator[tuple[list[bytes], Totals | None]]:
    """Yield the parts of the matches. The last one has the totals."""
    totals = Totals(
        result.bill_total,
        result.our_total,
        reconciliation.reconciled,
        result.charges,
        reconciliation.reconciled_charges,
    )
    remaining = reconciliation.matches()
    is_last = False
    while not is_last:
        part = [*islice(remaining, MATCHES_A_PART)]
        is_last = len(part) < MATCHES_A_PART
        yield part, totals if is_last else None


def sentences(
    reconciliation: Reconciliation,
    result: Result,
    saved: str,
    replaced: Sequence[str],
) -> list[str]:
    """Return sentences about the effect of a saved reconciliation.

    Args:
        reconciliation: The reconciliation.
        result: Its result.
        saved: Its id and invoice; see `label`.
        replaced: Those of the ones that it counts instead of.
    """
    reconciled = plain(reconciliation.reconciled)
    tracked = f"{plain(result.our_total)} {result.currency} tracked"
    found = [
        f"Saved as {saved}: of {tracked}, {reconciled} is reconciled with the invoice."
    ]
    matched = total(row.ours for row in result.rows if row.is_match)
    if matched != reconciliation.reconciled:
        found.append("The other matched costs share a day and model with differences.")
    if replaced:
        found.append(f"For its days, it counts instead of {', '.join(replaced)}.")
    return found


def label(identifier: str, invoice: str, first: str, last: str) -> str:
    """Return a saved reconciliation as messages name it."""
    return f"{identifier} (invoice {invoice}, {first} to {last})"
