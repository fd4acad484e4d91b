"""Tell how far old days are moved to another database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily

from outlay.server._wire.response_models import MovingResponse, format_instant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from outlay.server._storage.store import Moving

_MICROSECONDS: Final = 1_000_000


def moving_metrics(moving: Moving) -> Iterator[Metric]:
    """Yield the gauges of moving days."""
    for name, text, value in (
        (
            "outlay_history_moved_until_timestamp_seconds",
            "The first instant of receipt that is not in ClickHouse.",
            (moving.moved_until or 0) / _MICROSECONDS,
        ),
        (
            "outlay_history_waiting_days",
            "The days that could be in ClickHouse, and are not.",
            moving.waiting_days,
        ),
        (
            "outlay_history_failing",
            "Whether the last attempt to move days failed.",
            int(moving.problem is not None),
        ),
    ):
        yield GaugeMetricFamily(name, text, value=value)


def moving_response(moving: Moving) -> MovingResponse:
    """Return what anyone may know, which is no name of a database."""
    return MovingResponse(
        moving.waiting_days,
        moving.problem is not None,
        None if moving.moved_until is None else format_instant(moving.moved_until),
    )
