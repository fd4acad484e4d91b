"""Each kind of difference is found for what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from outlay._reconcile.bill_formats import BillFormat, Columns
from outlay._reconcile.quantities import read_quantities
from outlay._reconcile.reading import BillOptions
from outlay._reconcile.values import BillError, plain
from tests.support.bills import (
    ANTHROPIC_CSV,
    AWS_CSV,
    FOCUS_CSV,
    anthropic_costs,
    anthropic_usage,
    bill_of,
    cost_of,
    openai_costs,
    reconcile,
)

if TYPE_CHECKING:
    from outlay._reconcile.values import Result

DAY = "2026-10-12"
DAYS = ("2026-10-12", "2026-10-13", "2026-10-14")


def rows(result: Result) -> list[tuple[str, str, str, str]]:
    """Return the category, the cause, the bill and the costs of each row."""
    return [
        (row.category.value, row.cause.value, plain(row.bill), plain(row.ours))
        for row in result.rows
    ]


def costs_by_day(*amounts: str, model: str = "gpt-5") -> Result:
    """Return the result of a bill of 1 a day, without quantities."""
    bill = openai_costs(*[(day, model, "1", None) for day in DAYS])
    return reconcile(
        bill_of(bill),
        [
            cost_of(day, amount, model=model)
            for day, amount in zip(DAYS, amounts, strict=True)
        ],
    )


def test_rounding_of_the_bill_is_told_apart() -> None:
    """The Console shows cents: 0.51 may be anything from 0.50 to 0.52."""
    model = "claude-haiku-4-5-20251001"
    usage = {"input_tokens": 1, "output_tokens": 1}
    costs = [
        cost_of(DAY, "1.0032", provider="anthropic", model=model, usage=usage),
        cost_of(DAY, "0.50543", provider="anthropic", model=model, usage=usage),
    ]

    result = reconcile(bill_of(ANTHROPIC_CSV), costs)

    assert rows(result) == [("rounding", "", "1.51", "1.50863")]
    assert result.unexplained == 0
    assert result.rows[0].model == model


def test_one_factor_on_all_days_is_a_price() -> None:
    """A discount is the same each day. There is no entry without quantities."""
    result = costs_by_day("1.25", "1.25", "1.25")

    assert {row.category.value for row in result.rows} == {"price"}
    [fix] = result.fixes
    assert (fix.entry, "0.8 times" in fix.note) == ("", True)


def test_a_difference_of_one_day_is_no_price_if_the_price_was_right_before() -> None:
    """Days that match to the last digit prove the price."""
    assert rows(costs_by_day("1", "1", "0.4")) == [
        ("matched", "", "1", "1"),
        ("matched", "", "1", "1"),
        ("matched", "", "0.4", "0.4"),
        ("bill_only", "not_captured", "0.6", "0"),
    ]


def test_without_any_proof_a_difference_is_unclear() -> None:
    """A guess would send a person into the wrong direction."""
    result = costs_by_day("0.9", "0.7", "1.3")

    causes = {row.cause.value for row in result.rows}
    assert causes == {"", "unclear"}
    assert all("usage report" in row.note for row in result.rows if row.cause)


def test_a_usage_report_decides_between_price_and_missing_calls() -> None:
    """Half of the tokens were tracked, at the bill's own rates."""
    model = "claude-haiku-4-5"
    bill = anthropic_costs(
        (DAY, model, "uncached_input_tokens", "200"),
        (DAY, model, "output_tokens", "100"),
    )
    usage = anthropic_usage(DAY, model, input=2_000_000, output=200_000)
    half = {"input_tokens": 1_000_000, "output_tokens": 100_000}
    cost = cost_of(DAY, "1.5", provider="anthropic", model=model, usage=half)
    dear = cost_of(
        DAY,
        "4",
        provider="anthropic",
        model=model,
        usage={name: 2 * count for name, count in half.items()},
    )

    missing = reconcile(bill_of(bill), [cost], [bill_of(usage)])
    price = reconcile(bill_of(bill), [dear], [bill_of(usage)])

    assert rows(missing) == [
        ("matched", "", "1.5", "1.5"),
        ("bill_only", "not_captured", "1.5", "0"),
    ]
    assert rows(price) == [("price", "", "3", "4")]
    assert "units = { input_tokens = 1, output_tokens = 5 }" in price.fixes[0].entry


def test_tokens_that_only_we_counted_are_ours_only() -> None:
    """Tracked, and on no bill: at the bill's own rate."""
    bill = openai_costs((DAY, "gpt-5, input", "1", 100))
    cost = cost_of(DAY, "1.5", model="gpt-5", usage={"input_tokens": 150})

    result = reconcile(bill_of(bill), [cost])

    assert rows(result) == [
        ("matched", "", "1", "1"),
        ("ours_only", "not_billed", "0", "0.5"),
    ]


def test_an_operation_that_was_tracked_twice_is_a_duplicate() -> None:
    """Two customers have the same response, and the provider billed it once."""
    bill = openai_costs((DAY, "gpt-5", "1", None))
    costs = [cost_of(DAY, "1", model="gpt-5", operationId="a") for _ in range(2)]

    result = reconcile(bill_of(bill), costs)

    assert rows(result) == [
        ("matched", "", "1", "1"),
        ("ours_only", "duplicate", "0", "1"),
    ]
    assert result.rows[1].operations == ("a", "a")


def test_a_refund_is_told_from_what_was_never_billed() -> None:
    """A charge and its refund leave nothing on the bill."""
    bill = openai_costs((DAY, "gpt-5", "1", None), (DAY, "gpt-5", "-1", None))

    result = reconcile(bill_of(bill), [cost_of(DAY, "1", model="gpt-5")])

    assert ("ours_only", "refund", "0", "1") in rows(result)


def test_costs_of_another_time_zone_are_found() -> None:
    """The bill counts days in California; nothing is missing, it is on another day."""
    bill = "day,cost,currency\n" + "".join(
        f"{day},{cost},USD\n"
        for day, cost in zip(DAYS, ("1.5", "2.5", "4.5"), strict=True)
    )
    mapping = BillFormat(
        columns=Columns(time="day", amount="cost", currency="currency"),
        provider="openai",
        decimal=".",
    )
    costs = [
        cost_of("2026-10-12T20:00:00", "1.5"),
        cost_of("2026-10-14T02:00:00", "2.5"),
        cost_of("2026-10-15T03:00:00", "4.5"),
    ]

    wrong = reconcile(bill_of(bill, mapping=mapping), costs)
    right = reconcile(
        bill_of(bill, BillOptions(timezone="America/Los_Angeles"), mapping), costs
    )

    assert {row.cause.value for row in wrong.rows} <= {
        "",
        "wrong_day",
        "not_captured",
        "not_billed",
    }
    assert "UTC-12:00 to UTC-04:00, the bill and the costs agree better" in str(
        wrong.hints
    )
    assert {row.category.value for row in right.rows} == {"matched"}
    assert right.hints == ()


def test_services_that_outlay_does_not_capture_are_named() -> None:
    """A report of AWS has everything, and a few services have events."""
    result = reconcile(
        bill_of(AWS_CSV),
        [
            cost_of(
                DAY,
                "1.5",
                provider="aws",
                event_type="cost.documents.ocr",
                model="DetectDocumentText",
                usage={"page": 1000},
            )
        ],
    )

    found = {row.model: row for row in result.rows}
    assert found["AmazonTextract"].category == "matched"
    assert "outlay captures no calls of AmazonEC2" in found["AmazonEC2"].note
    assert "guardrails" in found["AmazonBedrock"].note
    assert result.has_services


def test_focus_needs_a_provider_and_has_credits() -> None:
    """A FOCUS file does not say how events name the provider."""
    with pytest.raises(BillError, match="pass --provider"):
        reconcile(bill_of(FOCUS_CSV), []).provider  # noqa: B018
    result = reconcile(
        bill_of(FOCUS_CSV, BillOptions(provider="aws")),
        [cost_of(DAY, "1.5", provider="aws", event_type="cost.documents.ocr")],
    )

    assert rows(result) == [
        ("matched", "", "1.5", "1.5"),
        ("bill_only", "credit", "-0.5", "0"),
    ]


def test_days_of_the_period_that_the_bill_lacks_count() -> None:
    """A bill that ends early must not hide what was tracked later."""
    bill = openai_costs((DAY, "gpt-5", "1", None), ("2026-11-02", "gpt-5", "7", None))
    costs = [
        cost_of(DAY, "1", model="gpt-5"),
        cost_of("2026-10-31", "2", model="gpt-5"),
        cost_of("2026-11-01", "4", model="gpt-5"),
    ]

    result = reconcile(bill_of(bill), costs, span=("2026-10-01", "2026-10-31"))

    assert rows(result) == [
        ("matched", "", "1", "1"),
        ("ours_only", "not_billed", "0", "2"),
    ]
    assert result.left_out["outside of the period"].amount == 7


@pytest.mark.parametrize(
    ("data", "quantities"),
    [
        (
            {"prompt_tokens": 10, "completion_tokens": 2},
            {"input_tokens": 10, "output_tokens": 2},
        ),
        (
            {
                "input_tokens": 10,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens": 2,
                "output_tokens_details": {"reasoning_tokens": 1},
            },
            {"input_tokens": 6, "cache_read_tokens": 4, "output_tokens": 2},
        ),
        (
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 1,
                "output_tokens": 2,
            },
            {
                "input_tokens": 10,
                "cache_read_tokens": 4,
                "cache_write_tokens": 1,
                "output_tokens": 2,
            },
        ),
        (
            {"inputTokens": 3, "outputTokens": 1},
            {"input_tokens": 3, "output_tokens": 1},
        ),
        ({"page": 3}, {"page": 3}),
        ({"image": 2, "image/hd": 2}, {"image": 2}),
        ({"input_tokens": 1, "input_tokens_details": {"audio_tokens": 1}}, None),
        ({"promptTokenCount": 5}, None),
        ({"page": "many"}, None),
    ],
)
def test_usage_is_read_into_units_that_bills_have(
    data: dict[str, object], quantities: dict[str, int] | None
) -> None:
    """Each thing is in one unit only, or the quantities count as unknown."""
    found = read_quantities({"usage": data})

    assert found == quantities


def test_a_bill_that_is_not_grouped_is_compared_by_day() -> None:
    """Without line items, OpenAI's costs have neither models nor units."""
    bill = openai_costs((DAY, "", "3", None), ("2026-10-13", "", "1", None))
    costs = [
        cost_of(DAY, "1", model="gpt-5", usage={"input_tokens": 5}),
        cost_of(DAY, "2", model="o4", line="web_search", usage={"web_searches": 1}),
        cost_of("2026-10-13", "1", model="o4"),
    ]

    assert rows(reconcile(bill_of(bill), costs)) == [
        ("matched", "", "3", "3"),
        ("matched", "", "1", "1"),
    ]


def test_searches_are_compared_apart_from_tokens() -> None:
    """Each has a price of its own, so a missing search is no wrong price of tokens."""
    model = "claude-haiku-4-5"
    bill = anthropic_costs((DAY, model, "output_tokens", "100"))
    search = {"cost_type": "web_search", "token_type": None, "amount": "1"}
    results = bill["data"][0]["results"]
    results.append({**results[0], **search})
    tracked = cost_of(
        DAY, "1", provider="anthropic", model=model, usage={"output_tokens": 9}
    )

    found = {row.unit: row for row in reconcile(bill_of(bill), [tracked]).rows}

    assert found["tokens"].category == "matched"
    assert found["web_searches"].category == "bill_only"
    assert "Searches of /v1/messages" in found["web_searches"].note


@pytest.mark.parametrize(
    ("provenance", "entry", "note"),
    [
        ("reported", "override_reported = true", "price book"),
        ("priced", 'model = "gpt-5"', "price book"),
        ("manual", "", "passed to outlay.track_cost"),
    ],
)
def test_the_fix_fits_the_origin_of_the_amount(
    provenance: str, entry: str, note: str
) -> None:
    """A price book replaces reported amounts if it says so, and manual ones never."""
    bill = openai_costs((DAY, "gpt-5, input", "2", 1_000_000))
    usage = {"input_tokens": 1_000_000}
    cost = cost_of(DAY, "3", model="gpt-5", provenance=provenance, usage=usage)

    [fix] = reconcile(bill_of(bill), [cost]).fixes

    assert entry in fix.entry
    assert bool(entry) is bool(fix.entry)
    assert note in fix.note
    assert ("override_reported" in fix.entry) is (provenance == "reported")
