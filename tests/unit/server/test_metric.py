"""Meters: what a cost reads from an event, whatever the event holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.server._metering.metric import CompiledMetric
from outlay.server._records import Aggregation, CostMetric

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.decimals(),
    st.text(),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def make_meter(aggregation: Aggregation = Aggregation.SUM) -> CompiledMetric:
    """Return a meter with a plain, a nested and a quoted path."""
    cost = CostMetric(
        id="cst_1",
        namespace="org_a",
        name="AI",
        unit_cost=Decimal(1),
        currency="USD",
        product_id="prod_1",
        event_type="cost.ai",
        aggregation=aggregation,
        value_property="$.amount",
        group_by={"b": "$.b.c", "a": "$.a", "c": "$['c'][0]"},
        unit=None,
        created_at=0,
        updated_at=0,
    )
    return CompiledMetric(cost, aggregation)


@given(
    aggregation=st.sampled_from(Aggregation),
    fields=st.dictionaries(st.sampled_from(["amount", "a", "b", "c"]), values),
)
def test_no_data_can_break_a_meter(
    aggregation: Aggregation, fields: dict[str, Any]
) -> None:
    """It would fail everybody's events of the same group commit, again and again."""
    meter = make_meter(aggregation)
    tally = meter.new_accumulator()

    one = meter.contribution(1, 0, "cus_1", fields)
    tally.add(one)

    assert all(isinstance(text, str) for text in one.dimensions)
    assert one.skipped == (one.value is None)
    assert (tally.events, tally.skipped) == (1, one.skipped)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("eu", "eu", id="text"),
        pytest.param(None, "", id="null"),
        pytest.param(True, "true", id="boolean"),
        pytest.param(42, "42", id="integer"),
        pytest.param(2**70, "1180591620717411303424", id="beyond-64-bits"),
        pytest.param(Decimal("1.50"), "1.50", id="decimal"),
        pytest.param(["a", 1], '["a",1]', id="array"),
        pytest.param({"ключ": None}, '{"ключ":null}', id="object"),
    ],
)
def test_dimension_values_are_always_text(value: object, text: str) -> None:
    """Strict clients refuse null and numbers there."""
    one = make_meter().contribution(1, 0, "cus_1", {"a": value})

    assert one.dimensions == (text, "", "")


def test_dimensions_are_ordered_by_name() -> None:
    """Rollups keep values without names, so the order must not depend on the caller."""
    fields = {"a": "1", "b": {"c": "2"}, "c": ["3"]}

    assert make_meter().names == ("a", "b", "c")
    assert make_meter().contribution(1, 0, "c", fields).dimensions == ("1", "2", "3")
