"""Find single events: pages of them, and one with everything about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from outlay.server._metering.decimals import format_plain, multiply
from outlay.server._metering.metric import compile_metric
from outlay.server._records import Aggregation
from outlay.server._services.breakdown import unknown_dimension
from outlay.server._services.correcting import correction_response
from outlay.server._services.costs import get_cost
from outlay.server._storage.event_store import CursorError, EventFilter
from outlay.server._storage.page import Page
from outlay.server._wire.event_models import (
    EventDetail,
    EventPageResponse,
    EventReceipt,
    EventRecord,
    EventUse,
)
from outlay.server._wire.problems import FieldError, invalid_fields, not_found
from outlay.server._wire.request_models import CUSTOMER_DIMENSION, MAX_LIST
from outlay.server._wire.response_models import (
    decode_data,
    format_instant,
    json_number,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from outlay.server._metering.metric import CompiledMetric
    from outlay.server._records import (
        ApiKey,
        Correction,
        CostMetric,
        Event,
        ReceivedEvent,
    )
    from outlay.server._storage.store import Reader, Views
    from outlay.server._wire.event_models import EventQuery

_ADDITIVE: Final = {Aggregation.SUM, Aggregation.COUNT}
_NO_TYPE: Final[frozenset[str]] = frozenset()
_PROVENANCE_PATH: Final = "$.provenance"


class EventService:
    """Finds events. Thread safety: any thread. A page may take a tenth of a second.

    Args:
        store: The store of events, for reading.
        dedupe_window: The time for which a key is remembered, in microseconds.
    """

    def __init__(self, store: Views, dedupe_window: int) -> None:
        self._store = store
        self.dedupe_window = dedupe_window

    def list(self, key: ApiKey, query: EventQuery) -> EventPageResponse:
        """Return a page of events, the newest first.

        Raises:
            HttpProblem: A cost, a dimension or the cursor does not exist.
        """
        with self._store.reading() as reader:
            where = _filter(reader, key, query)
            # A key is found faster on its own, but is forgotten some day.
            if where.key is not None and query.cursor is None:
                found = reader.event_of_key(key.namespace, where.key)
                if found is not None and where == EventFilter(key=where.key):
                    return EventPageResponse([_record(found)])
            try:
                events, cursor = reader.events(
                    key.namespace, where, query.limit, query.cursor
                )
            except CursorError as error:
                raise invalid_fields(
                    [FieldError("cursor", str(error), "INVALID_CURSOR")]
                ) from None
        return EventPageResponse([_record(event) for event in events], cursor)

    def get(self, key: ApiKey, event_id: str) -> EventDetail:
        """Return an event, its receipt, and what it counts for.

        Raises:
            HttpProblem: 404, because the event does not exist.
        """
        with self._store.reading() as reader:
            found = reader.event(key.namespace, event_id)
            if found is None:
                raise not_found("event", event_id)
            costs = reader.costs_of_type(key.namespace, found.event.type)
            corrections, _ = reader.corrections(
                key.namespace, Page(MAX_LIST, 0), event_id=event_id
            )
        return self._detail(found, costs, corrections)

    def _detail(
        self,
        found: ReceivedEvent,
        costs: Iterable[CostMetric],
        corrections: Iterable[Correction],
    ) -> EventDetail:
        event, record = found.event, _record(found)
        fields = decode_data(event.data)
        metrics = filter(None, map(compile_metric, costs))
        price = fields.get("price")
        return EventDetail(
            record,
            EventReceipt(
                event.key,
                record.received_at,
                format_instant(found.received_at + self.dedupe_window),
            ),
            [_use(metric, event, fields) for metric in metrics],
            [correction_response(one) for one in corrections],
            record.provenance,
            _decode_origin(event.data).price if isinstance(price, dict) else None,
        )


def _filter(reader: Reader, key: ApiKey, query: EventQuery) -> EventFilter:
    """Return the filter of a query."""
    types = frozenset(query.type) or None
    paths: Mapping[str, str] | None = None
    if query.cost_id is not None:
        cost = get_cost(reader, key, query.cost_id)
        only = _NO_TYPE if cost.event_type is None else frozenset([cost.event_type])
        types = only if types is None else types & only
        paths = cost.group_by
    customers = frozenset([query.subject]) if query.subject is not None else None
    values: dict[str, frozenset[str]] = {}
    for name, texts in query.filter_group_by.items():
        if name == CUSTOMER_DIMENSION and (paths is None or name not in paths):
            customers = texts if customers is None else customers & texts
        elif paths is None:
            _add(values, f"$[{json.dumps(name)}]", texts)
        elif name in paths:
            _add(values, paths[name], texts)
        else:
            raise unknown_dimension("filterGroupBy", name, sorted(paths))
    if query.provenance:
        _add(values, _PROVENANCE_PATH, frozenset(query.provenance))
    return EventFilter(
        types,
        customers,
        query.start,
        query.end,
        query.idempotency_key,
        as_of=query.as_of,
        values=values,
    )


def _add(values: dict[str, frozenset[str]], path: str, texts: frozenset[str]) -> None:
    values[path] = values.get(path, texts) & texts


def _record(found: ReceivedEvent) -> EventRecord:
    event = found.event
    provenance = _decode_origin(event.data).provenance
    return EventRecord(
        event.id,
        event.type,
        event.source,
        event.namespace,
        format_instant(event.at),
        event.key,
        msgspec.Raw(event.data.encode()),
        format_instant(found.received_at),
        event.subject,
        event.external_subject,
        event.external_id,
        provenance if isinstance(provenance, str) else None,
    )


class _Origin(msgspec.Struct):
    """The members of an event's data that say where its amount is from."""

    provenance: object = None
    price: msgspec.Raw = msgspec.Raw(b"null")


_decode_origin: Final = msgspec.json.Decoder(_Origin).decode


def _use(metric: CompiledMetric, event: Event, fields: dict[str, Any]) -> EventUse:
    """Return the part of a cost that an event is."""
    cost = metric.cost
    contribution = metric.contribution(0, event.at, event.customer, fields)
    if contribution.skipped:
        is_other = bool(contribution.other_currency)
        reason = "other_currency" if is_other else "no_value"
        return EventUse(cost.id, cost.name, cost.currency, reason)
    accumulator = metric.new_accumulator()
    accumulator.add(contribution)
    quantity = accumulator.result()
    if quantity is None or metric.aggregation not in _ADDITIVE:
        # The average, extreme or latest of many events is not a sum of theirs.
        return EventUse(cost.id, cost.name, cost.currency)
    amount = multiply(quantity, cost.unit_cost)
    return EventUse(
        cost.id,
        cost.name,
        cost.currency,
        None,
        json_number(quantity),
        json_number(amount),
        format_plain(amount),
    )
