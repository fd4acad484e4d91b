"""Save reconciliations with invoices, for requests."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from outlay.server._metering.decimals import format_plain
from outlay.server._records import SavedReconciliation
from outlay.server._storage.page import ALL
from outlay.server._storage.reconciliation_store import ReconciledTotals
from outlay.server._wire.problems import HttpProblem, not_found
from outlay.server._wire.reconciliation_models import (
    ReconciliationList,
    ReconciliationResponse,
    ReconciliationTotals,
)
from outlay.server._wire.response_models import Pagination, format_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from outlay.server._records import ApiKey
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store
    from outlay.server._wire.reconciliation_models import (
        MatchesBody,
        ReconciliationBody,
    )
    from outlay.server._wire.request_models import ListQuery

_ID_BYTES: Final = 12


class ReconciliationService:
    """Saves and lists reconciliations. Thread safety: the event loop's thread."""

    def __init__(
        self, store: Store, commits: CommitThread, now: Callable[[], int]
    ) -> None:
        self._store = store
        self._commits = commits
        self._now = now

    async def begin(self, key: ApiKey, body: ReconciliationBody) -> SavedReconciliation:
        """Begin a reconciliation, which counts after `add` has its totals.

        All events that were received up to its ``as_of`` are stored.
        """
        new = SavedReconciliation(
            "rec_" + secrets.token_hex(_ID_BYTES),
            key.namespace,
            body.invoice_id,
            body.provider,
            body.currency,
            body.timezone,
            body.period,
            body.first,
            body.last,
            self._now(),
            key.name,
        )
        await self._commits.run(lambda: self._store.begin_reconciliation(new))
        return new

    async def add(
        self,
        key: ApiKey,
        reconciliation_id: str,
        digests: Collection[bytes],
        totals: ReconciledTotals | None,
    ) -> SavedReconciliation:
        """Add matches to a reconciliation, and its totals with the last ones.

        Raises:
            HttpProblem: 404, or 409 because it has other totals.
        """
        found = await self._commits.run(
            lambda: self._store.add_matches(
                key.namespace, reconciliation_id, digests, self._now(), totals
            )
        )
        if found is None:
            raise not_found("reconciliation", reconciliation_id)
        if found.saved_at is not None and _totals(found) != totals:
            raise HttpProblem(
                409,
                f"reconciliation {reconciliation_id} is complete; begin another one, "
                "which counts instead",
                code="RECONCILIATION_COMPLETE",
            )
        return found

    async def respond_begin(
        self, key: ApiKey, body: ReconciliationBody
    ) -> ReconciliationResponse:
        """Begin a reconciliation, and return it."""
        return _response(await self.begin(key, body))

    async def respond_add(
        self, key: ApiKey, reconciliation_id: str, body: MatchesBody
    ) -> ReconciliationResponse:
        """Add matches of a request.

        Raises:
            HttpProblem: 404, or 409 because it has other totals.
        """
        sums = body.totals
        found = await self.add(
            key,
            reconciliation_id,
            [bytes.fromhex(one) for one in body.matches],
            None
            if sums is None
            else ReconciledTotals(sums.bill, sums.tracked, sums.reconciled),
        )
        if found.saved_at is None:
            return _response(found)
        return _response(found, self.replaced_by(found))

    def saved(self, namespace: str) -> list[SavedReconciliation]:
        """Return the reconciliations that count. The last saved is the first."""
        with self._store.reading() as reader:
            return reader.reconciliations(namespace, ALL)[0]

    def replaced_by(self, new: SavedReconciliation) -> list[SavedReconciliation]:
        """Return the earlier ones with days that a reconciliation covers."""
        return replaced(new, self.saved(new.namespace))

    def list(self, key: ApiKey, query: ListQuery) -> ReconciliationList:
        """Return a page of the reconciliations that count."""
        found = self.saved(key.namespace)
        page = found[query.offset : query.offset + query.limit]
        return ReconciliationList(
            [_response(one, replaced(one, found)) for one in page],
            Pagination(query.limit, query.offset, len(found)),
        )


def replaced(
    new: SavedReconciliation, newest_first: Iterable[SavedReconciliation]
) -> list[SavedReconciliation]:
    """Return the ones before ``new`` that have days in common with it.

    They have the same provider and currency.
    """
    is_earlier = False
    found = []
    for one in newest_first:
        if is_earlier and (
            (one.provider, one.currency) == (new.provider, new.currency)
            and one.first <= new.last
            and new.first <= one.last
        ):
            found.append(one)
        is_earlier = is_earlier or one.id == new.id
    return found


def _totals(one: SavedReconciliation) -> ReconciledTotals:
    return ReconciledTotals(one.bill, one.tracked, one.reconciled)


def _response(
    one: SavedReconciliation, replaces: Iterable[SavedReconciliation] = ()
) -> ReconciliationResponse:
    totals = None
    if one.saved_at is not None:
        totals = ReconciliationTotals(*map(format_plain, _totals(one)))
    return ReconciliationResponse(
        one.id,
        one.invoice_id,
        one.provider,
        one.currency,
        one.zone,
        one.period,
        one.first,
        one.last,
        format_instant(one.as_of),
        one.saved_by,
        None if one.saved_at is None else format_instant(one.saved_at),
        totals,
        [each.id for each in replaces],
    )
