"""Decide whether an event is wanted. Every store decides alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay.server._metering.jsonpath import compile_path
from outlay.server._metering.metric import dimension_text
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._records import Event
    from outlay.server._storage.event_store import EventFilter


def event_matcher(where: EventFilter) -> Callable[[Event], bool]:
    """Return a function that tests an event, as far as its sender decided it.

    It tests neither the organization nor the time of receipt.
    """
    readers = [(compile_path(path), texts) for path, texts in where.values.items()]

    def matches(event: Event) -> bool:
        return (
            (where.types is None or event.type in where.types)
            and (where.customers is None or event.customer in where.customers)
            and (where.start is None or event.at >= where.start)
            and (where.end is None or event.at < where.end)
            and where.key in {None, event.key}
            and where.external_id in {None, event.external_id}
            and where.external_subject in {None, event.external_subject}
            and has_values(event)
        )

    def has_values(event: Event) -> bool:
        # Last, because an event that was read from a database must be decoded first.
        if not readers:
            return True
        fields = event.fields or decode_data(event.data)
        return all(dimension_text(read(fields)) in texts for read, texts in readers)

    return matches


def contribution_matcher(
    metric: CompiledMetric, where: Mapping[str, frozenset[str]]
) -> Callable[[Contribution], bool]:
    """Return a function that tests a contribution for the values of ``where``."""
    if not where:
        return lambda _: True
    customers = where.get(CUSTOMER_NAME)
    allowed = [
        (metric.names.index(name), values)
        for name, values in where.items()
        if name != CUSTOMER_NAME
    ]
    if customers is not None and not allowed:
        return lambda one: one.customer in customers
    return lambda one: (
        (customers is None or one.customer in customers)
        and all(one.dimensions[position] in values for position, values in allowed)
    )
