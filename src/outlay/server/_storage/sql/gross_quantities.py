"""Add up the events of a period from rollups and single events, alike in both engines.

Rollups stand for whole hours. The events themselves stand for the rest of the period,
and for what the rollups do not hold yet.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, TypeVarTuple

from outlay.server._records import MICROSECONDS_PER_HOUR
from outlay.server._storage.buckets import (
    BucketRange,
    Grain,
    buckets_of,
    ranges_between,
    signed_ranges_between,
    start_of,
)
from outlay.server._storage.cubes import WITH_THIRDS, cube_for
from outlay.server._storage.event_filter import contribution_matcher
from outlay.server._storage.net_quantities import negated
from outlay.server._storage.netting import netted
from outlay.server._storage.sql.deleted_events import deleted_before
from outlay.server._storage.store import NO_FILTER
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import FIRST_INSTANT, LAST_INSTANT

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from outlay.server._metering.metric import CompiledMetric, Contribution
    from outlay.server._storage.sql.connection import Connection

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LONGEST_MONTH: Final = 31 * 24 * MICROSECONDS_PER_HOUR


class RollupQuestion(NamedTuple):
    """What the rollups of a metric are asked.

    Attributes:
        cube: The cube to read.
        first_hour: The first hour of the period, in hours since 1970.
        last_hour: The first hour after the period, in the same unit.
        ranges: The buckets that add up to the period. Only those of a metric that can
            subtract have a negative sign.
        start: The time of contributions without a window, in microseconds since 1970.
        names: The dimensions that each contribution needs.
        where: The allowed values of dimensions, by name.
        window: The windows of which each contribution lies in one.
    """

    cube: int
    first_hour: int
    last_hour: int
    ranges: Sequence[BucketRange]
    start: int
    names: Collection[str]
    where: Mapping[str, frozenset[str]]
    window: Window | None


class SqlQuantityReader:
    """Reads what events add up to, before corrections. Both engines complete it."""

    _connection: Connection
    _remembered: dict[Hashable, Any]

    def _from_events(
        self, metric: CompiledMetric, start: int, end: int
    ) -> Iterator[Contribution]:
        """Yield the contribution of each event of ``start <= at < end``."""
        raise NotImplementedError

    def _not_rolled_up(
        self, metric: CompiledMetric, start: int, end: int
    ) -> Iterable[Contribution]:
        """Return the contributions of a period that no rollup holds."""
        raise NotImplementedError

    def _from_rollups(
        self, metric: CompiledMetric, question: RollupQuestion
    ) -> Iterable[Contribution]:
        """Return the response of the rollups. Others than wanted may be among it."""
        raise NotImplementedError

    def _is_empty(self, metric: CompiledMetric, start: int, end: int) -> bool:
        """Return whether a metric has no event in ``start <= at < end``.

        It may say False if the way to find out is long.
        """
        raise NotImplementedError

    def _gross_contributions(
        self,
        metric: CompiledMetric,
        start: int,
        end: int,
        *,
        names: Collection[str] = (),
        where: Mapping[str, frozenset[str]] = NO_FILTER,
        window: Window | None = None,
    ) -> Iterator[Contribution]:
        """Yield the contributions of the events in ``start <= at < end``, unordered."""
        start = max(start, FIRST_INSTANT)  # a prior period may start before time does
        can_take_off = (
            window is None and metric.can_subtract and self._is_whole(metric, end)
        )
        # Events of a part of an hour are taken off from the whole, if they are fewer.
        slack = MICROSECONDS_PER_HOUR // 2 if can_take_off else 0
        first_hour = -((slack - start) // MICROSECONDS_PER_HOUR)
        last_hour = (end + slack) // MICROSECONDS_PER_HOUR
        is_wanted = contribution_matcher(metric, where)
        if window is Window.MINUTE or not metric.can_roll_up or first_hour >= last_hour:
            events = self._from_events(metric, start, end)
            yield from filter(is_wanted, events) if where else events
            return
        if window is None:
            end = self._end_of_month_if_quiet(metric, end)
            last_hour = (end + slack) // MICROSECONDS_PER_HOUR
        whole_start = first_hour * MICROSECONDS_PER_HOUR
        whole_end = last_hour * MICROSECONDS_PER_HOUR
        cube = cube_for(metric, {*names, *where})
        ranges = (
            signed_ranges_between(first_hour, last_hour, has_thirds=cube in WITH_THIRDS)
            if can_take_off
            else ranges_between(first_hour, last_hour, window)
        )
        question = RollupQuestion(
            cube, first_hour, last_hour, ranges, start, names, where, window
        )
        contributions: Iterable[Contribution] = chain(
            self._from_events(metric, start, whole_start),
            self._from_events(metric, whole_end, end),
            self._not_rolled_up(metric, whole_start, whole_end),
            self._from_rollups(metric, question),
        )
        if whole_start < start or end < whole_end:
            taken = chain(
                self._from_events(metric, whole_start, start),
                self._from_events(metric, end, whole_end),
            )
            contributions = chain(contributions, map(negated, taken))
        if where:
            contributions = filter(is_wanted, contributions)
        if whole_start < start or end < whole_end:
            contributions = netted(metric, names, start, contributions)
        yield from contributions

    def _is_whole(self, metric: CompiledMetric, end: int) -> bool:
        """Return whether small rollups may be taken off from larger ones.

        While an id is replaced, some rollups have the old id, and some the new one. The
        last month of all time has no next month.
        """
        is_renaming = self._once(_is_renaming, metric.cost.namespace)
        return not is_renaming and end < LAST_INSTANT - _LONGEST_MONTH

    def _end_of_month_if_quiet(self, metric: CompiledMetric, end: int) -> int:
        """Return the end of the month of ``end``, if no later event of it exists.

        The result is the same, and one rollup of the month is read instead of all of
        its days and hours. This is the case for a month that is not over.
        """
        if end > LAST_INSTANT - _LONGEST_MONTH:
            return end
        last_hour = (end - 1) // MICROSECONDS_PER_HOUR
        month_end = start_of(Grain.MONTH, buckets_of(last_hour).month + 1)
        cost = metric.cost
        deleted = self._once(deleted_before, cost.namespace, cost.event_type)
        if deleted is not None and deleted[0] > end:
            return end  # Only the rollups still have the later events.
        return month_end if self._is_empty(metric, end, month_end) else end

    def _once(self, read: Callable[[Connection, *Ts], T], *parameters: *Ts) -> T:
        """Return what ``read`` reads. It reads once in a view, which does not change.

        A page asks for many short periods, and each needs the same facts.
        """
        key = (read, parameters)
        if key not in self._remembered:
            self._remembered[key] = read(self._connection, *parameters)
        found: T = self._remembered[key]
        return found


def _is_renaming(connection: Connection, namespace: str) -> bool:
    """Return whether a customer's id is being replaced."""
    (found,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM erasures WHERE namespace = ?)", (namespace,)
    ).fetchone()
    return bool(found)
