"""Save, list and withdraw reconciliations with invoices, for requests."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay.server._metering.decimals import format_plain
from outlay.server._records import SavedReconciliation, Withdrawal
from outlay.server._storage.page import ALL
from outlay.server._storage.reconciliation_store import ReconciledTotals
from outlay.server._wire.problems import HttpProblem, not_found
from outlay.server._wire.reconciliation_models import (
    ReconciliationList,
    ReconciliationResponse,
    ReconciliationTotals,
    WithdrawalResponse,
)
from outlay.server._wire.response_models import Pagination, format_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from outlay.server._records import ApiKey
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.store import Store
    from outlay.server._wire.reconciliation_models import (
        MatchesBody,
        ReconciliationBody,
        TotalsBody,
        WithdrawBody,
    )
    from outlay.server._wire.request_models import ListQuery

_ID_BYTES: Final = 12


class ReconciliationService:
    """Saves, lists and withdraws reconciliations.

    Thread safety: coroutines belong to the event loop's thread.
    """

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
        digests = [bytes.fromhex(one) for one in body.matches]
        found = await self.add(
            key, reconciliation_id, digests, _totals_of_body(body.totals)
        )
        if found.saved_at is None:
            return _response(found)
        return _response(found, self.neighbors(found))

    async def withdraw(
        self, key: ApiKey, reconciliation_id: str, body: WithdrawBody
    ) -> SavedReconciliation:
        """Let a reconciliation count no more. Its first withdrawal stays.

        Raises:
            HttpProblem: 404.
        """
        found = await self._commits.run(
            lambda: self._store.withdraw_reconciliation(
                key.namespace,
                reconciliation_id,
                Withdrawal(self._now(), key.name, body.reason),
            )
        )
        if found is None:
            raise not_found("reconciliation", reconciliation_id)
        return found

    async def respond_withdraw(
        self, key: ApiKey, reconciliation_id: str, body: WithdrawBody
    ) -> ReconciliationResponse:
        """Let a reconciliation count no more, and return it.

        Raises:
            HttpProblem: 404.
        """
        found = await self.withdraw(key, reconciliation_id, body)
        return _response(found, self.neighbors(found))

    def get(self, namespace: str, reconciliation_id: str) -> SavedReconciliation:
        """Return a saved reconciliation.

        Raises:
            HttpProblem: 404.
        """
        with self._store.reading() as reader:
            found = reader.reconciliation(namespace, reconciliation_id)
        if found is None:
            raise not_found("reconciliation", reconciliation_id)
        return found

    def respond_get(
        self, key: ApiKey, reconciliation_id: str
    ) -> ReconciliationResponse:
        """Return a saved reconciliation.

        Raises:
            HttpProblem: 404.
        """
        found = self.get(key.namespace, reconciliation_id)
        return _response(found, self.neighbors(found))

    def saved(self, namespace: str) -> list[SavedReconciliation]:
        """Return the saved reconciliations. The last one is the first."""
        with self._store.reading() as reader:
            return reader.reconciliations(namespace, ALL)[0]

    def neighbors(self, one: SavedReconciliation) -> Neighbors:
        """Return the ones that count and have days in common with another one."""
        return neighbors(one, self.saved(one.namespace))

    def list(self, key: ApiKey, query: ListQuery) -> ReconciliationList:
        """Return a page of the saved reconciliations."""
        found = self.saved(key.namespace)
        page = found[query.offset : query.offset + query.limit]
        return ReconciliationList(
            [_response(one, neighbors(one, found)) for one in page],
            Pagination(query.limit, query.offset, len(found)),
        )


class Neighbors(NamedTuple):
    """The reconciliations that count and have days in common with another one.

    They have the same provider and currency. The last saved is the first.
    """

    earlier: Sequence[SavedReconciliation] = ()
    later: Sequence[SavedReconciliation] = ()


def neighbors(
    of: SavedReconciliation, newest_first: Iterable[SavedReconciliation]
) -> Neighbors:
    """Return the neighbors of a reconciliation among all that were saved."""
    earlier: list[SavedReconciliation] = []
    later: list[SavedReconciliation] = []
    side = later
    for one in newest_first:
        if one.id == of.id:
            side = earlier
        elif (
            one.counts()
            and (one.provider, one.currency) == (of.provider, of.currency)
            and one.first <= of.last
            and of.first <= one.last
        ):
            side.append(one)
    return Neighbors(earlier, later)


_ALONE: Final = Neighbors()


def _totals(one: SavedReconciliation) -> ReconciledTotals:
    return ReconciledTotals(
        one.bill, one.tracked, one.reconciled, one.charges, one.reconciled_charges
    )


def _totals_of_body(body: TotalsBody | None) -> ReconciledTotals | None:
    if body is None:
        return None
    return ReconciledTotals(
        body.bill, body.tracked, body.reconciled, body.charges, body.reconciled_charges
    )


def _response(
    one: SavedReconciliation, beside: Neighbors = _ALONE
) -> ReconciliationResponse:
    totals = withdrawal = None
    if one.saved_at is not None:
        totals = ReconciliationTotals(
            format_plain(one.bill),
            format_plain(one.tracked),
            format_plain(one.reconciled),
            one.charges,
            one.reconciled_charges,
        )
    if one.withdrawal is not None:
        withdrawal = WithdrawalResponse(
            format_instant(one.withdrawal.at), one.withdrawal.by, one.withdrawal.reason
        )
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
        [each.id for each in beside.earlier],
        [each.id for each in beside.later],
        withdrawal,
    )
