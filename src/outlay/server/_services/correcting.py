"""Correct events, one or many, and close periods, for requests."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from outlay.server._metering.decimals import format_plain
from outlay.server._records import CorrectionKind
from outlay.server._services.corrections import (
    Order,
    check_metric,
    decide,
    decide_closing,
)
from outlay.server._services.costs import get_cost
from outlay.server._services.margin_responses import period
from outlay.server._storage.correction_store import Decision
from outlay.server._storage.event_store import CursorError, EventFilter
from outlay.server._storage.page import Page
from outlay.server._wire.correction_models import (
    MAX_EVENTS,
    CorrectionList,
    CorrectionResponse,
    CorrectionsResponse,
    PeriodList,
    PeriodResponse,
)
from outlay.server._wire.problems import FieldError, invalid_fields, not_found
from outlay.server._wire.response_models import Pagination, format_instant
from outlay.server._wire.revenue_models import month_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from outlay.server._records import ApiKey, ClosedPeriod, Correction, CostMetric
    from outlay.server._storage.commit_thread import CommitThread
    from outlay.server._storage.correction_store import EventHistory
    from outlay.server._storage.event_store import EventPage
    from outlay.server._storage.store import Store
    from outlay.server._wire.correction_models import (
        AdjustBody,
        CorrectionListQuery,
        CorrectionsBody,
        VoidBody,
    )


class CorrectionService:
    """Corrects events and closes periods. Thread safety: the event loop's thread.

    Args:
        store: The store.
        commits: The thread that writes.
        now: The source of the time, in microseconds since 1970.
        on_change: A function that is called with the organization of each change.
    """

    def __init__(
        self,
        store: Store,
        commits: CommitThread,
        now: Callable[[], int],
        *,
        on_change: Callable[[str], None],
    ) -> None:
        self._store = store
        self._commits = commits
        self._now = now
        self._on_change = on_change

    async def void(
        self, key: ApiKey, event_id: str, body: VoidBody
    ) -> CorrectionResponse:
        """Let an event count nothing.

        Raises:
            HttpProblem: 404, or 409 because the event is void.
        """
        order = self._order(key, CorrectionKind.VOID, body)
        return await self._correct(key, event_id, order)

    async def adjust(
        self, key: ApiKey, event_id: str, body: AdjustBody
    ) -> CorrectionResponse:
        """Add an amount to what an event counts in one metric.

        Raises:
            HttpProblem: 404, 400 for the metric, or 409 because the event is void.
        """
        cost = await asyncio.to_thread(self._metric_of_event, key, event_id, body)
        order = self._order(key, CorrectionKind.ADJUST, body)
        order = order._replace(cost=cost, delta=body.delta)
        return await self._correct(key, event_id, order)

    def _metric_of_event(
        self, key: ApiKey, event_id: str, body: AdjustBody
    ) -> CostMetric:
        """Return the metric of an adjustment. Reading an old event may take long."""
        with self._store.reading() as reader:
            cost = get_cost(reader, key, body.cost_id)
            received = reader.event(key.namespace, event_id)
        if received is None:
            raise not_found("event", event_id)
        check_metric(cost, received.event.type)
        return cost

    async def revert(
        self, key: ApiKey, correction_id: str, body: VoidBody
    ) -> CorrectionResponse:
        """Take a correction back.

        Raises:
            HttpProblem: 404, or 409 because it was reverted.
        """
        with self._store.reading() as reader:
            correction = reader.correction(key.namespace, correction_id)
        if correction is None:
            raise not_found("correction", correction_id)
        order = self._order(key, CorrectionKind.REVERT, body)
        order = order._replace(reverts=correction_id)
        return await self._correct(key, correction.event_id, order)

    def _order(
        self, key: ApiKey, kind: CorrectionKind, body: VoidBody | AdjustBody
    ) -> Order:
        return Order(kind, body.reason, body.idempotency_key, key.name, self._now())

    async def _correct(
        self, key: ApiKey, event_id: str, order: Order
    ) -> CorrectionResponse:
        await self._prepare(key, [event_id])
        [correction] = await self._commits.run(
            lambda: self._store.correct(
                key.namespace, [event_id], partial(decide, order), order.now
            )
        )
        if correction is None:
            raise not_found("event", event_id)
        self._on_change(key.namespace)
        return correction_response(correction)

    async def _prepare(self, key: ApiKey, event_ids: Collection[str]) -> None:
        """Read old events in another thread, so that no post waits for them."""
        await asyncio.to_thread(
            self._store.prepare_correction, key.namespace, event_ids
        )

    async def correct_many(
        self, key: ApiKey, body: CorrectionsBody
    ) -> CorrectionsResponse:
        """Correct one page of the events that a filter finds, all or none.

        Raises:
            HttpProblem: 400, for the metric or the cursor.
        """
        cost = self._metric(key, body)
        page = await asyncio.to_thread(self._page, key, body)
        ids = [one.event.id for one in page.events]
        now = self._now()

        def decide_one(history: EventHistory) -> Decision | Correction | None:
            order = Order(
                CorrectionKind(body.kind),
                body.reason,
                f"{body.idempotency_key}:{history.event.id}",
                key.name,
                now,
                cost,
                body.delta,
                skips_voided=True,
            )
            decision = decide(order, history)
            # A step that another transaction made fail decides once more.
            is_fresh[history.event.id] = isinstance(decision, Decision)
            return None if body.dry_run and is_fresh[history.event.id] else decision

        is_fresh: dict[str, bool] = {}
        await self._prepare(key, ids)
        await self._commits.run(
            lambda: self._store.correct(key.namespace, ids, decide_one, now)
        )
        self._on_change(key.namespace)
        fresh = sum(is_fresh.values())
        return CorrectionsResponse(
            body.dry_run, len(ids), fresh, len(ids) - fresh, page.cursor
        )

    def _metric(self, key: ApiKey, body: CorrectionsBody) -> CostMetric | None:
        if body.cost_id is None:
            return None
        with self._store.reading() as reader:
            cost = get_cost(reader, key, body.cost_id)
        check_metric(cost, None)
        return cost

    def _page(self, key: ApiKey, body: CorrectionsBody) -> EventPage:
        types = frozenset(body.types) if body.types else None
        if body.cost_id is not None:
            with self._store.reading() as reader:
                only = get_cost(reader, key, body.cost_id).event_type
            own = frozenset([only or ""])
            types = own if types is None else types & own
        where = EventFilter(
            types,
            frozenset(body.customer_ids) if body.customer_ids else None,
            body.start,
            body.end,
            values=body.filter_by,
        )
        try:
            with self._store.reading() as reader:
                return reader.events(key.namespace, where, MAX_EVENTS, body.cursor)
        except CursorError as error:
            raise invalid_fields([FieldError("cursor", str(error))]) from None

    def get(self, key: ApiKey, correction_id: str) -> CorrectionResponse:
        """Return a correction."""
        with self._store.reading() as reader:
            correction = reader.correction(key.namespace, correction_id)
        if correction is None:
            raise not_found("correction", correction_id)
        return correction_response(correction)

    def list(self, key: ApiKey, query: CorrectionListQuery) -> CorrectionList:
        """Return a page of corrections, newest first."""
        with self._store.reading() as reader:
            found, total = reader.corrections(
                key.namespace,
                Page(query.limit, query.offset),
                event_id=query.event_id,
            )
        return CorrectionList(
            [correction_response(one) for one in found],
            Pagination(query.limit, query.offset, total),
        )

    async def close(self, key: ApiKey, month: str) -> PeriodResponse:
        """Close a month. Closing it again changes nothing.

        Raises:
            HttpProblem: 409, because the month has not ended.
        """
        start, end = month_bounds(month)
        now = self._now()
        await self._commits.run(
            lambda: self._store.close_period(
                key.namespace, partial(decide_closing, start, end, key.name, now)
            )
        )
        with self._store.reading() as reader:
            closed = reader.closed_periods(key.namespace)
        return _period_response(next(one for one in closed if one.start == start))

    def periods(self, key: ApiKey) -> PeriodList:
        """Return all closed periods."""
        with self._store.reading() as reader:
            closed = reader.closed_periods(key.namespace)
        return PeriodList([_period_response(one) for one in closed])


def correction_response(one: Correction) -> CorrectionResponse:
    """Return the response body of a correction."""
    return CorrectionResponse(
        one.id,
        one.kind,
        one.event_id,
        one.reason,
        one.key,
        format_instant(one.created_at),
        one.created_by,
        one.cost_id,
        None if one.delta is None else format_plain(one.delta),
        one.reverts,
    )


def _period_response(one: ClosedPeriod) -> PeriodResponse:
    return PeriodResponse(
        period(one.start, one.end), format_instant(one.closed_at), one.closed_by
    )
