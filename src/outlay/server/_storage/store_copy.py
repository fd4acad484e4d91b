"""Copy a store to an empty one, of the same kind or of another, and compare both."""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from outlay.server._errors import DatabaseError
from outlay.server._metering.metric import compile_metric
from outlay.server._records import (
    MICROSECONDS_PER_HOUR,
    Aggregation,
    BillableFields,
    CostMetric,
)
from outlay.server._storage.copy_store import RECORDS, CopyReader, CopyWriter
from outlay.server._storage.store import CUSTOMER_NAME, Reader, Store
from outlay.server._wire.response_models import FIRST_INSTANT, LAST_INSTANT

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from decimal import Decimal

    from outlay.server._metering.metric import Accumulator, CompiledMetric
    from outlay.server._storage.copy_store import Row

_BATCH: Final = 5000  # events of one step
_END: Final = LAST_INSTANT // MICROSECONDS_PER_HOUR * MICROSECONDS_PER_HOUR
"""The start of the last hour that a calendar has. It ends no period."""


class CopiedReader(Reader, CopyReader, Protocol):
    """A view of a store that can be copied."""


class CopiedStore(CopyWriter, Store, Protocol):
    """A store that can be copied to."""

    def reading(self) -> AbstractContextManager[CopiedReader]:
        """Open a consistent view."""
        ...


Progress: TypeAlias = "Callable[[str, int, int], None]"
"""A function that gets the work, the number of done items, and of all items."""


class CopyError(DatabaseError):
    """The copy cannot be made, or is not equal. The message says what to do."""


class CopyResult(NamedTuple):
    """The numbers of what was copied and compared.

    Attributes:
        records: The number of records by kind, as `RECORDS` has them.
        totals: The number of equal totals: of each metric, and of each of its
            customers.
    """

    events: int
    records: dict[str, int]
    totals: int


def copy_store(
    source: CopiedStore, target: CopiedStore, now: int, progress: Progress
) -> CopyResult:
    """Copy everything, and compare both stores.

    A copy that was interrupted goes on where it was. No server may use a store.

    Args:
        source: The store that is read.
        target: An empty store, or one with a part of a copy.
        now: The time, in microseconds since 1970.
        progress: The function that shows how far the copy is.

    Raises:
        CopyError: The source cannot be copied, the target has other data, or the two
            differ at the end.
        StoreUnavailableError: A store fails. The copy can be started again.
    """
    with source.reading() as view:
        obstacle = view.obstacle()
        if obstacle is not None:
            raise CopyError(f"the store cannot be copied: {obstacle}")
        _check_target(view, target)
        _copy_events(view, target, now, progress)
        _copy_records(view, target)
        _finish_work(target, now, progress)
        with target.reading() as copy:
            return _compare(view, copy, progress)


def _check_target(view: CopyReader, target: CopiedStore) -> None:
    """Check that the target is empty, or has the beginning of this copy."""
    with target.reading() as copy:
        last, stored = copy.last_received(), copy.count_received()
        if last is not None and view.count_received(last) != stored:
            raise _other_data("its events are no beginning of the source's")
        if any(_has(copy, kind) for kind in RECORDS) and not _same_records(view, copy):
            raise _other_data("its metrics, keys or other records are not the source's")


def _other_data(reason: str) -> CopyError:
    return CopyError(f"the target has other data: {reason}; name an empty one")


def _has(view: CopyReader, kind: str) -> bool:
    return next(iter(view.records(kind)), None) is not None


def _same_records(left: CopyReader, right: CopyReader) -> bool:
    return all(
        one == other
        for kind in RECORDS
        for one, other in zip_longest(left.records(kind), right.records(kind))
    )


def _copy_events(
    view: CopyReader, target: CopiedStore, now: int, progress: Progress
) -> None:
    total = view.count_received()
    with target.reading() as copy:
        last, done = copy.last_received(), copy.count_received()
    progress("events", done, total)
    while batch := view.received(last, _BATCH):
        target.import_events(batch, now)
        while target.do_background_work(now):
            pass
        last, done = batch[-1].event.id, done + len(batch)
        progress("events", done, total)


def _copy_records(view: CopyReader, target: CopiedStore) -> None:
    with target.reading() as copy:
        if any(_has(copy, kind) for kind in RECORDS):
            return  # A copy before this one came as far.
    target.import_records((kind, row) for kind in RECORDS for row in view.records(kind))


def _finish_work(target: CopiedStore, now: int, progress: Progress) -> None:
    """Let the target fold all events, so that its server starts quickly."""
    steps = 0
    while target.do_background_work(now):
        steps += 1
        progress("totals", steps, 0)


def _compare(
    source: CopiedReader, copy: CopiedReader, progress: Progress
) -> CopyResult:
    """Compare all events, records and totals.

    Raises:
        CopyError: They differ.
    """
    events = _compare_events(source, copy, progress)
    counts: dict[str, int] = {}
    for kind in RECORDS:
        pairs = zip_longest(source.records(kind), copy.records(kind))
        counts[kind] = 0
        for one, other in pairs:
            counts[kind] += 1
            if one != other:
                raise _differs(f"number {counts[kind]} of {kind}")
    metrics = [metric for row in source.records("costs") if (metric := _metric(row))]
    totals = 0
    for number, metric in enumerate(metrics, 1):
        totals += _compare_totals(source, copy, metric)
        progress("metrics", number, len(metrics))
    return CopyResult(events, counts, totals)


def _compare_events(source: CopyReader, copy: CopyReader, progress: Progress) -> int:
    total, done = source.count_received(), 0
    last: str | None = None
    while True:
        left, right = source.received(last, _BATCH), copy.received(last, _BATCH)
        if left != right:
            place = next(
                number
                for number, (one, other) in enumerate(zip_longest(left, right), 1)
                if one != other
            )
            raise _differs(f"event {done + place} in the order of receipt")
        if not left:
            return done
        last, done = left[-1].event.id, done + len(left)
        progress("verified", done, total)


def _compare_totals(source: Reader, copy: Reader, metric: CompiledMetric) -> int:
    """Compare a metric's quantities, to the last digit, and return their number."""
    compared = 0
    for gross in (False, True):
        left, right = (_totals(one, metric, gross=gross) for one in (source, copy))
        if left != right:
            customer = next(
                name
                for name in sorted(left.keys() | right.keys())
                if left.get(name) != right.get(name)
            )
            of = f"customer {customer!r} of " if customer else ""
            raise _differs(f"the total of {of}metric {metric.cost.id}")
        compared += len(left)
    return compared


class _Total(NamedTuple):
    quantity: Decimal | None
    events: int
    skipped: int
    other_currency: int


def _totals(
    reader: Reader, metric: CompiledMetric, *, gross: bool
) -> dict[str, _Total]:
    """Return a metric's totals of all time by customer."""
    found: defaultdict[str, Accumulator] = defaultdict(metric.new_accumulator)
    for one in reader.contributions(
        metric, FIRST_INSTANT, _END, names=(CUSTOMER_NAME,), gross=gross
    ):
        found[one.customer].add(one)
    return {
        customer: _Total(one.result(), one.events, one.skipped, one.other_currency)
        for customer, one in found.items()
        if one.events or one.result()
    }


def _metric(row: Row) -> CompiledMetric | None:
    """Return the compiled metric of a row of costs, unless it is deleted."""
    fields = dict(zip(RECORDS["costs"], row, strict=True))
    if fields.pop("deleted_at") is not None or fields["aggregation"] is None:
        return None
    billable = fields.pop("billable")
    decoded = msgspec.json.decode(str(fields["group_by"]), type=dict[str, str])
    return compile_metric(
        msgspec.convert(
            {
                **fields,
                "aggregation": Aggregation(str(fields["aggregation"])),
                "group_by": decoded,
                "billable": billable
                and msgspec.json.decode(str(billable), type=BillableFields),
            },
            CostMetric,
        )
    )


def _differs(what: str) -> CopyError:
    return CopyError(
        f"the copy differs in {what}; keep the source, copy to a new and empty store, "
        "and report it with this message if it happens again"
    )
