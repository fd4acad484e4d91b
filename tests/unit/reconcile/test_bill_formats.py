"""Every known format is read from a sample in its vendor's form."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from outlay._reconcile.bill_formats import known_formats, read_mapping
from outlay._reconcile.reading import BillOptions, open_bill
from outlay._reconcile.values import BillError
from outlay._tables.csv_table import TableError
from tests.support.bills import (
    ANTHROPIC_CSV,
    AWS_CSV,
    FOCUS_CSV,
    OPENAI_CSV,
    anthropic_costs,
    anthropic_usage,
    bill_of,
    openai_costs,
)

if TYPE_CHECKING:
    from outlay._reconcile.reading import Bill
    from outlay._reconcile.values import Charge

DAY = "2026-10-12"
OPENAI_USAGE = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": 1791763200,
            "end_time": 1791849600,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 1000,
                    "output_tokens": 500,
                    "input_cached_tokens": 800,
                    "num_model_requests": 5,
                    "project_id": None,
                    "model": "gpt-5",
                    "batch": None,
                }
            ],
        }
    ],
    "has_more": False,
    "next_page": None,
}
OPENAI_USAGE_CSV = """\
start_time,end_time,num_model_requests,model,input_tokens,output_tokens,input_cached_tokens
1791763200,1791849600,5,gpt-5,1000,500,800
"""
ANTHROPIC_USAGE_CSV = """\
usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens
2026-10-12,claude-haiku-4-5-20251001,key,Default,message,200k,7,1,2,3,4
"""
CUR2_CSV = AWS_CSV.replace("lineItem/", "line_item_")
for old, new in (
    ("LineItemType", "line_item_type"),
    ("UsageStartDate", "usage_start_date"),
    ("UsageEndDate", "usage_end_date"),
    ("ProductCode", "product_code"),
    ("UsageType", "usage_type"),
    ("UsageAmount", "usage_amount"),
    ("CurrencyCode", "currency_code"),
    ("UnblendedCost", "unblended_cost"),
):
    CUR2_CSV = CUR2_CSV.replace(f"line_item_{old}", f"line_item_{new}")


def charges(bill: Bill) -> list[Charge]:
    """Return the charges of a bill."""
    return [one.charge for one in bill.charges()]


def parts(bill: Bill) -> list[tuple[str, str, str, Decimal]]:
    """Return the fields that charges are joined by, and their amounts."""
    return [(one.day, one.model, one.unit, one.amount) for one in charges(bill)]


SAMPLES: dict[str, tuple[Any, list[tuple[str, str, str, str]]]] = {
    "OpenAI costs (JSON)": (
        openai_costs(
            (DAY, "gpt-5, cached input", "1e-05", 3), ("2026-10-13", "gpt-5", "2", None)
        ),
        [
            (DAY, "gpt-5", "cache_read_tokens", "0.00001"),
            ("2026-10-13", "gpt-5", "", "2"),
        ],
    ),
    "OpenAI costs (CSV)": (
        OPENAI_CSV,
        [
            (DAY, "gpt-4o-2024-08-06", "input_tokens", "2.5"),
            (DAY, "gpt-4o-2024-08-06", "output_tokens", "1"),
        ],
    ),
    "OpenAI usage of completions (JSON)": (OPENAI_USAGE, [(DAY, "gpt-5", "", "0")]),
    "OpenAI usage of completions (CSV)": (
        OPENAI_USAGE_CSV,
        [(DAY, "gpt-5", "", "0")],
    ),
    "Anthropic cost report (JSON)": (
        anthropic_costs(
            (DAY, "claude-haiku-4-5", "uncached_input_tokens", "123.45"),
            (DAY, "claude-haiku-4-5", "cache_creation.ephemeral_5m_input_tokens", "1"),
        ),
        [
            (DAY, "claude-haiku-4-5", "input_tokens", "1.2345"),
            (DAY, "claude-haiku-4-5", "cache_write_tokens", "0.01"),
        ],
    ),
    "Anthropic usage report of messages (JSON)": (
        anthropic_usage(DAY, "claude-haiku-4-5", input=7, read=3, written=3, output=4),
        [(DAY, "claude-haiku-4-5", "", "0")],
    ),
    "Anthropic costs (CSV of the Console)": (
        ANTHROPIC_CSV,
        [
            (DAY, "Claude Haiku 4.5", "input_tokens", "1"),
            (DAY, "Claude Haiku 4.5", "output_tokens", "0.51"),
        ],
    ),
    "Anthropic usage (CSV of the Console)": (
        ANTHROPIC_USAGE_CSV,
        [(DAY, "claude-haiku-4-5-20251001", "", "0")],
    ),
    "AWS Cost and Usage Report": (
        AWS_CSV,
        [
            (DAY, "AmazonTextract", "", "1.5"),
            (DAY, "AmazonBedrock", "input_tokens", "0.00012"),
            (DAY, "AmazonEC2", "", "0.115"),
        ],
    ),
    "AWS Cost and Usage Report 2.0": (
        CUR2_CSV,
        [
            (DAY, "AmazonTextract", "", "1.5"),
            (DAY, "AmazonBedrock", "input_tokens", "0.00012"),
            (DAY, "AmazonEC2", "", "0.115"),
        ],
    ),
    "FOCUS": (
        FOCUS_CSV,
        [(DAY, "Amazon Textract", "", "1.5"), (DAY, "Amazon S3", "", "-0.5")],
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_of_each_vendor_is_read(name: str) -> None:
    """The format is found by the columns, and every charge has its exact amount."""
    content, expected = SAMPLES[name]

    bill = bill_of(content)

    assert bill.format.name == name
    assert parts(bill) == [
        (day, model, unit, Decimal(amount)) for day, model, unit, amount in expected
    ]


def test_every_format_has_a_sample_and_a_source() -> None:
    """A format that rests on nothing, or that no test reads, is not offered."""
    assert [one.name for one in known_formats()] == [*SAMPLES]
    assert all("https://" in one.source for one in known_formats())


@pytest.mark.parametrize(
    ("name", "quantities"),
    [
        (
            "OpenAI usage of completions (JSON)",
            {"input_tokens": 200, "cache_read_tokens": 800, "output_tokens": 500},
        ),
        (
            "Anthropic usage report of messages (JSON)",
            {
                "input_tokens": 7,
                "cache_read_tokens": 3,
                "cache_write_tokens": 3,
                "output_tokens": 4,
            },
        ),
        (
            "Anthropic usage (CSV of the Console)",
            {
                "input_tokens": 7,
                "cache_read_tokens": 3,
                "cache_write_tokens": 3,
                "output_tokens": 4,
            },
        ),
    ],
)
def test_usage_counts_each_token_once(name: str, quantities: dict[str, int]) -> None:
    """OpenAI counts cached tokens as input, and Anthropic does not."""
    [charge] = charges(bill_of(SAMPLES[name][0]))

    assert charge.quantities == quantities


def test_pages_one_after_the_other_are_one_bill() -> None:
    """An API sends pages, and people append them to a file."""
    first, second = (
        openai_costs((day, "gpt-5", "1", None)) for day in (DAY, "2026-10-13")
    )

    for content in (
        json.dumps(first) + "\n" + json.dumps(second) + "\n",
        json.dumps([first, second]),
        "\ufeff" + json.dumps(first) + json.dumps(second),
    ):
        assert [one.day for one in charges(bill_of(content))] == [DAY, "2026-10-13"]


MAPPING = """
provider = "acme"
timezone = "America/Los_Angeles"
[columns]
time = "When"
amount = "Cost"
currency = "Currency"
model = { column = "Item", after = ": " }
"""


def read(
    content: str | bytes, mapping: str = MAPPING, period: str | None = None
) -> list[Charge]:
    """Return the charges of a bill with a mapping."""
    options = BillOptions(period=period)
    bill = bill_of(content, options, read_mapping(mapping, "m.toml"))
    return charges(bill)


@pytest.mark.parametrize(
    ("content", "amount"),
    [
        ("\ufeffWhen,Item,Cost,Currency\n2026-10-12,x: y,1.5,usd\n", "1.5"),
        ("When;Item;Cost;Currency\r\n2026-10-12;x: y;1.234,50;USD\r\n", "1234.5"),
        ('When,Item,Cost,Currency\n2026-10-12,x: y,"1,234.50",USD\n\n,,,\n', "1234.5"),
        ("When\tItem\tCost\tCurrency\n2026-10-12\tx: y\t(1.50)\tUSD\n", "-1.5"),
        ("When,Item,Cost,Currency\n2026-10-12,x: y,1.5e-05,USD\n", "0.000015"),
    ],
    ids=["mark", "decimal comma", "thousands", "parentheses", "exponent"],
)
def test_files_are_read_as_they_really_are(content: str, amount: str) -> None:
    """Sheets and programs write numbers in many ways."""
    [charge] = read(content)

    assert (charge.model, charge.amount) == ("y", Decimal(amount))


@pytest.mark.parametrize(
    ("when", "day"),
    [
        ("2026-10-12", "2026-10-12"),
        ("2026-10-12T23:59:59", "2026-10-12"),
        ("2026-10-12T23:59:59Z", "2026-10-12"),
        ("2026-10-13T03:00:00Z", "2026-10-12"),
        ("2026-10-13 03:00:00 UTC", "2026-10-12"),
        ("1791860400", "2026-10-12"),
        ("2026-11-01T08:30:00Z", "2026-11-01"),
    ],
)
def test_a_time_is_on_the_day_of_the_bills_time_zone(when: str, day: str) -> None:
    """A time without an offset is in that zone, and a date is a day of it."""
    [charge] = read(f"When,Item,Cost,Currency\n{when},x,1.5,USD\n")

    assert charge.day == day


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("When,Cost\n2026-10-12,1\n", "has no column 'Currency', 'Item'; its columns"),
        ("When,Item,Cost,Currency\n2026-10-12,x,1.5\n", "line 2: it has 3 columns"),
        ("When,Item,Cost,Currency\n2026-10-12,x,1.234,USD\n", "pass --decimal . or"),
        ("When,Item,Cost,Currency\n12.10.2026,x,1.5,USD\n", "time_format ="),
        ("When,Item,Cost,Currency\n2026-10-12,x,free,USD\n", "'free' is no amount"),
        (
            "When,Item,Cost,Currency\n2026-10-12,x,1.5,\n",
            "no currency; pass --currency",
        ),
        ("When,Item,Cost,Currency\n2026-10-12,x,1.5,$\n", "'$' is no currency"),
        (b"When,Item,Cost,Currency\n2026-10-12,\xe9,1.5,USD\n", "is not UTF-8"),
    ],
)
def test_a_wrong_line_is_named_with_a_remedy(
    content: str | bytes, message: str
) -> None:
    """A reader of the message can correct the file or the mapping."""
    with pytest.raises((BillError, TableError)) as refused:
        read(content)

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("[columns", "is no TOML file"),
        ("[columns]\namount = 'x'", "required field `time`"),
        ("colour = 1\n[columns]\ntime = 'x'", "unknown field `colour`"),
        ("[columns]\ntime = 'x'", "names no column for amount"),
        ("timezone = 'Mars'\n[columns]\ntime = 'x'\namount = 'y'", "is no time zone"),
        ("encoding = 'zip'\n[columns]\ntime = 'x'\namount = 'y'", "no encoding of"),
        ("period = 'year'\n[columns]\ntime = 'x'\namount = 'y'", "'year'"),
    ],
)
def test_a_wrong_mapping_is_named(mapping: str, message: str) -> None:
    """A typo in a mapping must not be a silent default."""
    with pytest.raises(BillError) as refused:
        read_mapping(mapping, "m.toml")

    assert message in str(refused.value)


def test_a_bill_of_months_is_not_taken_for_days() -> None:
    """Otherwise a whole month would be compared with its first day."""
    content = "When,Until,Item,Cost,Currency\n2026-10-01,2026-11-01,x: gpt-5,31.5,USD\n"
    mapping = MAPPING.replace("[columns]", "[columns]\nend = 'Until'")

    with pytest.raises(BillError, match="covers 31 days; pass --period month"):
        read(content, mapping)
    [charge] = read(content, mapping, period="month")
    assert charge.day == "2026-10"


def test_json_is_told_from_csv_by_its_first_character() -> None:
    """The name of a file says nothing."""
    with pytest.raises(BillError, match="list 'data', which reports of OpenAI"):
        bill_of('[{"object": "list"}]', name="costs.csv")
    with pytest.raises(BillError, match=r"cannot read .*No such file"):
        open_bill("gone", lambda: open("/nonexistent/bill", "rb"), BillOptions())  # noqa: PTH123, SIM115
