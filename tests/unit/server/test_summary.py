"""Summaries are bounded: too many groups or windows are refused with advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from outlay.server._records import ApiKey
from outlay.server._services.report import ReportService
from outlay.server._services.summary import SummaryService
from outlay.server._wire.problems import HttpProblem
from outlay.server._wire.request_models import ReportQuery, SummaryQuery
from outlay.server._wire.response_models import format_instant
from tests.support.stores import HOUR, LANES, START, make_cost, make_event, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server._storage.store import Store

KEY = ApiKey(b"", "tests", "org_a", frozenset("*"), 0)
PERIOD = {"from": format_instant(START), "to": format_instant(START + 48 * HOUR)}


@pytest.fixture(params=LANES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return a store with four customers, in four hours."""
    with opened(request.param) as store:
        store.add_cost(make_cost())
        store.append(
            [
                make_event(f"k{n}", subject=f"cus_{n}", at=START + n * HOUR)
                for n in range(4)
            ],
            START,
        )
        yield store


def summarize(store: Store, most: int, **query: str) -> object:
    """Return a summary of at most ``most`` groups or windows."""
    asked = SummaryQuery.model_validate({**PERIOD, **query})
    return SummaryService(store, most).summarize(KEY, "cst_1", asked)


def report(store: Store, most: int, **query: Any) -> object:  # noqa: ANN401 - any parameter
    """Return a report of at most ``most`` groups."""
    asked = ReportQuery.model_validate({**PERIOD, "groupBy": "customer", **query})
    return ReportService(store, "USD", most).report(KEY, asked)


@pytest.mark.parametrize("query", [{"groupBy": "subject"}, {"window": "HOUR"}])
def test_a_summary_of_too_many_parts_is_refused(
    store: Store, query: dict[str, str]
) -> None:
    """A million groups would take a gigabyte, and no person reads them."""
    assert summarize(store, 4, **query)

    with pytest.raises(HttpProblem, match="ask for a shorter period") as raised:
        summarize(store, 3, **query)

    assert (raised.value.status, raised.value.body.code) == (400, "TOO_MANY_GROUPS")


@pytest.mark.parametrize("query", [{}, {"windowSize": "DAY"}, {"limit": 1}])
def test_a_report_of_too_many_groups_is_refused(
    store: Store, query: dict[str, Any]
) -> None:
    """A page of a few groups needs the ranking of all."""
    assert report(store, 8, **query)

    with pytest.raises(HttpProblem, match="over 3 groups"):
        report(store, 3, **query)
