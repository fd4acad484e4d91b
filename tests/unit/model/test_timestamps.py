"""Times are instants in UTC to the millisecond; a time without a zone is none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from outlay._model.events import decode_event
from outlay.errors import InvalidEventError

if TYPE_CHECKING:
    from tests.support.clock import ManualClock

Compose = Callable[..., tuple[str, bytes]]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        pytest.param(
            datetime(2026, 3, 4, 5, 6, 7, 891234, tzinfo=UTC),
            "2026-03-04T05:06:07.891Z",
            id="microseconds-are-cut",
        ),
        pytest.param(
            datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
            "2026-03-04T05:06:07.000Z",
            id="whole-second",
        ),
        pytest.param(
            datetime(
                2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))
            ),
            "2025-12-31T18:45:00.000Z",
            id="offset-over-the-new-year",
        ),
        pytest.param(
            datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            "1969-12-31T23:59:59.999Z",
            id="before-1970-rounds-down-too",
        ),
        pytest.param(
            datetime.min.replace(tzinfo=UTC), "0001-01-01T00:00:00.000Z", id="first"
        ),
        pytest.param(
            datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999Z", id="last"
        ),
    ],
)
def test_a_time_is_sent_in_utc_to_the_millisecond(
    compose: Compose, moment: datetime, text: str
) -> None:
    """One notation for all clients; rounding up could move a cost into next month."""
    _, payload = compose(timestamp=moment)

    assert decode_event(payload).timestamp == text


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        pytest.param(
            datetime(2026, 1, 1),  # noqa: DTZ001 - what must be refused
            "is naive; pass one with a timezone, such as UTC",
            id="naive",
        ),
        pytest.param(date(2026, 1, 1), "pass an aware datetime", id="date"),
        pytest.param("2026-01-01T00:00:00Z", "pass an aware datetime", id="text"),
        pytest.param(1_767_225_600, "pass an aware datetime", id="number"),
        pytest.param(
            datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2))),
            "must be in the years 1 to 9999 in UTC",
            id="year-10000-in-utc",
        ),
        pytest.param(
            datetime(1, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            "must be in the years 1 to 9999 in UTC",
            id="year-0-in-utc",
        ),
    ],
)
def test_what_is_no_instant_is_refused(
    compose: Compose, given: object, remedy: str
) -> None:
    """Guessing a zone would attribute costs to the wrong day without a word."""
    with pytest.raises(InvalidEventError, match=r"^timestamp=") as caught:
        compose(timestamp=given)

    assert caught.value.remedy == remedy


def test_without_a_time_it_is_now(compose: Compose, clock: ManualClock) -> None:
    """The text of a millisecond is remembered, and must not outlive it."""
    texts = []
    for _ in range(3):
        texts += [decode_event(compose()[1]).timestamp for _ in range(2)]
        clock.advance(0.001)

    assert texts == [
        "2026-01-01T12:00:00.000Z",
        "2026-01-01T12:00:00.000Z",
        "2026-01-01T12:00:00.001Z",
        "2026-01-01T12:00:00.001Z",
        "2026-01-01T12:00:00.002Z",
        "2026-01-01T12:00:00.002Z",
    ]


def test_a_clock_that_steps_back_is_believed(
    compose: Compose, clock: ManualClock
) -> None:
    """The system's clock is the only one there is, and it may have been wrong."""
    texts = []
    for seconds in (0.0, 0.001, -0.001, -3600.0, 3600.0):
        clock.step(seconds)
        texts.append(decode_event(compose()[1]).timestamp[11:])

    assert texts == [
        "12:00:00.000Z",
        "12:00:00.001Z",
        "12:00:00.000Z",
        "11:00:00.000Z",
        "12:00:00.000Z",
    ]


def test_a_given_time_is_not_remembered_as_now(compose: Compose) -> None:
    """Backfilling old costs must not date the new ones."""
    before = compose()
    compose(timestamp=datetime(2020, 1, 1, tzinfo=UTC))

    assert compose() == before
