"""``outlay costs`` and ``outlay metrics``: totals as a finance lead reads them."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from starlette.responses import Response

from outlay import Client, Settings
from outlay._cli.exit_codes import ExitCode
from outlay._cli.output import aligned, plain
from outlay._model.money import exact_sum
from outlay.api import Api
from tests.docs.blocks import shows
from tests.support import command_line
from tests.support.command_line import KEY, Ran, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from outlay.server import BackgroundServer

OCTOBER: Final = ("--from", "2026-10-01", "--to", "2026-11-01")


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """A server of one's own."""
    with command_line.serving() as server:
        yield server


@pytest.fixture
def client(server: BackgroundServer, tmp_path: Path) -> Iterator[Client]:
    """A client that delivers to it."""
    with Client(base_url=server.url, api_key=KEY, journal_dir=tmp_path) as client:
        yield client


@pytest.fixture
def october(server: BackgroundServer, client: Client) -> BackgroundServer:
    """A server with two cost metrics, of which one knows regions."""
    metrics(server, "create", "ai", "--event-type", "cost.ai", "--by", "region")
    metrics(server, "create", "ocr", "--event-type", "cost.ocr")
    for number, (event_type, amount, customer, region, day) in enumerate(
        [
            ("cost.ai", "0.10", "cus_1", "eu", 1),
            ("cost.ai", "0.000000000000000000000000000000000001", "cus_1", "us", 2),
            ("cost.ai", "12", "cus_2", "eu", 2),
            ("cost.ocr", "3.5", "cus_2", "eu", 31),
        ]
    ):
        client.track_cost(
            event_type,
            amount,
            customer_id=customer,
            operation_id=number,
            region=region,
            timestamp=datetime(2026, 10, day, 23, 59, tzinfo=UTC),
        )
    assert client.flush(20).complete
    return server


def costs(server: BackgroundServer, *words: str) -> Ran:
    """Run ``outlay costs``."""
    return command_line.call("costs", *words, *reaching(server))


def metrics(server: BackgroundServer, *words: str) -> Ran:
    """Run ``outlay metrics``."""
    return command_line.call("metrics", *words, *reaching(server))


def table(ran: Ran) -> str:
    """Return what a successful command printed."""
    assert (ran.code, ran.err) == (ExitCode.DONE, "")
    return ran.out


def document(ran: Ran) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON that a successful command printed."""
    return json.loads(table(ran))


# Costs.


def test_totals_by_cost_are_exact_and_their_points_in_line(
    october: BackgroundServer,
) -> None:
    """38 digits: more than a float has, and more than Decimal's usual context."""
    shown = """\
2026-10, UTC

 cost                                     total
 ────────────────────────────────────────────────────
 ai     12.100000000000000000000000000000000001   USD
 ocr     3.5                                      USD

 all    15.600000000000000000000000000000000001   USD
"""

    assert shows(shown, table(costs(october, *OCTOBER)))


def test_totals_by_customer_go_across_cost_metrics(october: BackgroundServer) -> None:
    """What a customer costs is everything that they cost."""
    shown = """\
2026-10, UTC
 customer total
 cus_1     0.100000000000000000000000000000000001 USD
 cus_2    15.5                                    USD
 all      15.600000000000000000000000000000000001 USD
"""
    ran = costs(october, *OCTOBER, "--by", "customer")

    assert shows(squeezed(shown), squeezed(table(ran)))


def test_a_metric_without_the_dimension_still_counts(october: BackgroundServer) -> None:
    """Rows that do not add up to the total would be worse than a dash."""
    shown = """\
2026-10, UTC
 region cost total
 -      ocr   3.5                                    USD
 eu     ai   12.1                                    USD
 us     ai    0.000000000000000000000000000000000001 USD
 all         15.600000000000000000000000000000000001 USD
"""
    ran = costs(october, *OCTOBER, "--by", "region,cost")

    assert shows(squeezed(shown), squeezed(table(ran)))


def test_totals_by_day(october: BackgroundServer) -> None:
    """Days are UTC, whatever the reader's time zone."""
    shown = """\
2026-10, UTC
 from       total
 2026-10-01  0.1                                    USD
 2026-10-02 12.000000000000000000000000000000000001 USD
 2026-10-31  3.5                                    USD
 all        15.600000000000000000000000000000000001 USD
"""
    ran = costs(october, *OCTOBER, "--window", "day")

    assert shows(squeezed(shown), squeezed(table(ran)))


def test_totals_by_day_and_dimension(october: BackgroundServer) -> None:
    """Who caused the peak of which day is one question."""
    shown = """\
2026-10, UTC
 from customer total
 2026-10-01 cus_1  0.1                                    USD
 2026-10-02 cus_1  0.000000000000000000000000000000000001 USD
 2026-10-02 cus_2 12                                      USD
 2026-10-31 cus_2  3.5                                    USD
 all              15.600000000000000000000000000000000001 USD
"""
    ran = costs(october, "--month", "2026-10", "--by", "customer", "--window", "day")

    assert shows(squeezed(shown), squeezed(table(ran)))


def test_windows_are_cut_to_the_period_for_dimensions_too(
    october: BackgroundServer,
) -> None:
    """The rows add up to the total, also where the period begins within a month."""
    words = ("--from", "2026-10-02", "--to", "2026-10-31", "--window", "month")

    found = document(costs(october, *words, "--by", "customer", "--json"))

    (window,) = found["costs"][0]["windows"]
    assert window["total"] == "12.000000000000000000000000000000000001"
    assert [group["total"] for group in window["groups"]] == [
        "0.000000000000000000000000000000000001",
        "12",
    ]


def test_the_largest_are_shown_and_the_others_are_one_row(
    october: BackgroundServer,
) -> None:
    """The rows still add up to the total."""
    shown = """\
2026-10, UTC
 customer cost total
 cus_2    ai   12                                      USD
 (other) (other) 3.600000000000000000000000000000000001 USD
 all           15.600000000000000000000000000000000001 USD
"""
    words = ("--month", "2026-10", "--by", "customer,cost", "--top", "1")
    ran = costs(october, *words)

    assert shows(squeezed(shown), squeezed(table(ran)))


def test_csv_has_a_row_for_each_total(october: BackgroundServer) -> None:
    """For a spreadsheet: all digits, and the currency in a column of its own."""
    words = ("--month", "2026-10-15", "--by", "customer", "--csv")

    assert table(costs(october, *words)) == (
        "customer,total,currency\n"
        "cus_1,0.100000000000000000000000000000000001,USD\n"
        "cus_2,15.5,USD\n"
    )


def test_metrics_that_count_the_same_events_are_named_in_each_row(
    october: BackgroundServer,
) -> None:
    """A sum that has an event twice must say so."""
    metrics(october, "create", "again", "--event-type", "cost.ocr")

    shown = table(costs(october, *OCTOBER, "--by", "customer"))
    found = document(costs(october, *OCTOBER, "--json"))

    assert "cus_2 again 3.5" in squeezed(shown)
    assert "cus_2 ocr 3.5" in squeezed(shown)
    assert "ocr and again count the same events, cost.ocr, and 'all' adds" in shown
    assert found["overlaps"] == {"cost.ocr": ["ocr", "again"]}


@pytest.fixture
def september(october: BackgroundServer, client: Client) -> BackgroundServer:
    """The same server, with costs of the month before."""
    for customer, amount in (("cus_2", "12.4"), ("cus_3", "7")):
        client.track_cost(
            "cost.ai",
            amount,
            customer_id=customer,
            operation_id=f"september-{customer}",
            timestamp=datetime(2026, 9, 30, 23, 59, tzinfo=UTC),
        )
    assert client.flush(20).complete
    return october


def test_a_month_stands_beside_the_month_before(september: BackgroundServer) -> None:
    """A customer who cost nothing in one of the two has a row as well."""
    shown = """\
2026-10, beside 2026-09, UTC
 customer total before change
 cus_1 0.100000000000000000000000000000000001 - - USD
 cus_2 15.5 12.4 +25.00 % USD
 cus_3 - 7 -100.00 % USD
 all 15.600000000000000000000000000000000001 19.4 -19.59 % USD
"""
    words = ("--month", "2026-10", "--by", "customer", "--compare")

    assert shows(squeezed(shown), squeezed(table(costs(september, *words))))
    assert table(costs(september, *words, "--csv")) == (
        "customer,total,before,currency\n"
        "cus_1,0.100000000000000000000000000000000001,,USD\n"
        "cus_2,15.5,12.4,USD\n"
        "cus_3,,7,USD\n"
    )
    assert document(costs(september, *words, "--json"))["before"]["totals"] == {
        "USD": "19.4"
    }


def test_the_others_of_both_periods_are_compared(september: BackgroundServer) -> None:
    """Who is not among the largest now may have been before."""
    words = ("--month", "2026-10", "--by", "customer", "--top", "1", "--compare")

    shown = squeezed(table(costs(september, *words)))

    assert "\ncus_2 15.5 12.4 +25.00 % USD\n" in shown
    assert "\n(other) 0.100000000000000000000000000000000001 7 -98.57 % USD" in shown


def test_each_window_stands_beside_its_like(
    september: BackgroundServer, client: Client
) -> None:
    """The first day beside the first, and so on. No amount is left out."""
    client.track_cost(
        "cost.ai",
        "0.5",
        customer_id="cus_2",
        operation_id="august",
        timestamp=datetime(2026, 8, 31, 12, tzinfo=UTC),
    )
    assert client.flush(20).complete
    words = ("--by", "customer,region", "--window", "day", "--compare", "--csv")

    october = table(costs(september, *words, "--month", "2026-10", "--top", "10"))
    others = table(costs(september, *words, "--month", "2026-10", "--top", "1"))
    shorter = table(costs(september, *words, "--month", "2026-09"))

    header = "from,customer,region,total,before,currency\n"
    assert october == (
        f"{header}"
        "2026-10-01,cus_1,eu,0.1,,USD\n"
        "2026-10-02,cus_2,eu,12,,USD\n"
        "2026-10-02,cus_1,us,0.000000000000000000000000000000000001,,USD\n"
        "2026-10-30,cus_2,-,,12.4,USD\n"
        "2026-10-30,cus_3,-,,7,USD\n"
        "2026-10-31,cus_2,-,3.5,,USD\n"
    )
    assert "2026-10-30,(other),(other),,19.4,USD\n" in others
    assert shorter == (
        f"{header}"
        "2026-09-30,cus_2,-,12.4,,USD\n"
        "2026-09-30,cus_3,-,7,,USD\n"
        "-,cus_2,-,,0.5,USD\n"
    ), "September has no 31st day"


def test_no_period_is_before_the_calendar(october: BackgroundServer) -> None:
    """It is an error of the arguments, and no failure of the command."""
    ran = costs(october, "--compare", "--month", "0001-01")
    assert ran.code == ExitCode.USAGE
    assert "the calendar has no such period before" in ran.err


@pytest.mark.parametrize("window", ["MINUTE", "HOUR", "MONTH"])
def test_windows_of_each_length_are_compared(
    september: BackgroundServer, window: str
) -> None:
    """The windows of both periods add up to the totals of both."""
    words = ("--month", "2026-10", "--compare", "--window", window, "--csv")
    rows = [*csv.DictReader(table(costs(september, *words)).splitlines())]

    def total(column: str) -> Decimal:
        return exact_sum([Decimal(row[column] or 0) for row in rows])

    assert total("total") == Decimal("15.600000000000000000000000000000000001")
    assert total("before") == Decimal("19.4")
    assert len(rows) == {"MINUTE": 4, "HOUR": 4, "MONTH": 1}[window]


def squeezed(text: str) -> str:
    """Return ``text`` with single blanks, where the layout is not the point."""
    lines = (" ".join(line.split()) for line in text.splitlines() if "─" not in line)
    return "\n".join(filter(None, lines))


def test_json_has_every_digit_as_text(october: BackgroundServer) -> None:
    """JSON numbers would be rounded by most of those who read them."""
    found = document(costs(october, *OCTOBER, "--json", "--by", "customer,region"))

    assert found["from"] == "2026-10-01T00:00:00+00:00"
    assert found["totals"] == {"USD": "15.600000000000000000000000000000000001"}
    ai, ocr = found["costs"]
    assert (ai["name"], ai["events"], ai["excluded"]) == ("ai", 3, 0)
    assert ai["groups"] == [
        {"dimensions": {"customer": "cus_1", "region": "eu"}, "total": "0.1"},
        {
            "dimensions": {"customer": "cus_1", "region": "us"},
            "total": "0.000000000000000000000000000000000001",
        },
        {"dimensions": {"customer": "cus_2", "region": "eu"}, "total": "12"},
    ]
    assert ocr["groups"] == [{"dimensions": {"customer": "cus_2"}, "total": "3.5"}]


def test_json_of_windows(october: BackgroundServer) -> None:
    """The bounds are instants, so that the length need not be guessed."""
    found = document(
        costs(october, *OCTOBER, "--json", "--window", "MONTH", "--cost", "ocr")
    )

    assert [cost["windows"] for cost in found["costs"]] == [
        [
            {
                "from": "2026-10-01T00:00:00+00:00",
                "to": "2026-11-01T00:00:00+00:00",
                "total": "3.5",
            }
        ]
    ]


@pytest.mark.parametrize(
    ("words", "total"),
    [
        (["--where", "customer=cus_1"], "0.100000000000000000000000000000000001"),
        (["--where", "customer=cus_1", "--where", "region=eu"], "0.1"),
        (["--where", "region=eu"], "12.1"),
        (["--where", "region=eu", "--where", "region=us", "--cost", "ai"], "12.1…01"),
        (["--cost", "ocr"], "3.5"),
        (["--cost", "ocr", "--where", "customer=nobody"], "0"),
        (["--from", "2026-10-02", "--to", "2026-10-03", "--where", "region=eu"], "12"),
        (["--from", "2026-10-02T23:59:00Z", "--cost", "ai"], "12.0…01"),
        (["--to", "2026-10-02T23:59:00+00:00"], "0.1"),
        (["--from", "2026-10-03T00:59:00+01:00", "--to", "2026-10-31"], "12.0…01"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_filters_and_periods(
    october: BackgroundServer, words: list[str], total: str
) -> None:
    """A period begins with its first instant and ends before its last."""
    period = () if {"--from", "--to"} & set(words) else OCTOBER

    found = document(costs(october, *words, *period, "--json"))

    assert shows(total, found["totals"]["USD"])


def test_without_a_period_it_is_the_current_month(
    server: BackgroundServer, client: Client
) -> None:
    """What it comes to so far is the question asked most."""
    metrics(server, "create", "ai", "--event-type", "cost.ai")
    now = datetime.now(UTC)
    client.track_cost("cost.ai", 1, customer_id="c", operation_id=1, timestamp=now)
    client.track_cost(
        "cost.ai",
        2,
        customer_id="c",
        operation_id=2,
        timestamp=now - timedelta(days=32),
    )
    client.flush(20)

    assert document(costs(server, "--json"))["totals"] == {"USD": "1"}


def test_amounts_80_digits_apart_add_up_exactly(
    server: BackgroundServer, client: Client
) -> None:
    """The largest and the smallest amount there can be, in one sum."""
    metrics(server, "create", "ai", "--event-type", "cost.ai")
    for number, amount in enumerate(["1e40", "1e-40"]):
        client.track_cost("cost.ai", amount, customer_id="c", operation_id=number)
    client.flush(20)

    total = document(costs(server, "--json"))["totals"]["USD"]

    assert total == "1" + "0" * 40 + "." + "0" * 39 + "1"


def test_amounts_that_come_as_numbers_only_keep_their_digits() -> None:
    """Not every service repeats its numbers as text, as the reference server does."""
    digits = "0.1234567890123456789012345678901234567890"
    metric = {"id": "cst_1", "name": "ai", "currency": "USD", "unitCost": "1"}
    listed = {"object": "list", "data": [metric], "pagination": {"total": 1}}
    group = f'{{"dimensions": {{"subject": "c"}}, "quantity": 1, "cost": {digits}}}'
    summary = f'{{"totalCost": {digits}, "groups": [{group}]}}'

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        body = json.dumps(listed) if scope["path"] == "/v0/costs" else summary
        await Response(body, media_type="application/json")(scope, receive, send)

    with command_line.serving(respond) as server:
        found = document(costs(server, "--json", "--by", "customer"))

    assert found["totals"] == {"USD": digits.rstrip("0")}
    assert found["costs"][0]["groups"][0]["total"] == digits.rstrip("0")


def test_currencies_do_not_mix(server: BackgroundServer, client: Client) -> None:
    """A sum of dollars and euros means nothing."""
    metrics(server, "create", "us", "--event-type", "cost.us")
    metrics(server, "create", "eu", "--event-type", "cost.eu", "--currency", "EUR")
    for event_type, amount in (("cost.us", 1), ("cost.eu", 2)):
        client.track_cost(event_type, amount, customer_id="c", operation_id=1)
    client.flush(20)

    found = document(costs(server, "--json"))

    assert found["totals"] == {"EUR": "2", "USD": "1"}
    assert "c 2 EUR c 1 USD all 2 EUR all 1 USD" in " ".join(
        table(costs(server, "--by", "customer")).split()
    )


def test_events_that_could_not_be_counted_are_mentioned(
    server: BackgroundServer, client: Client
) -> None:
    """A total that leaves something out says so."""
    metrics(server, "create", "pages", "--event-type", "cost.ai", "--value", "$.pages")
    client.track_cost("cost.ai", 1, customer_id="c", operation_id=1)
    client.flush(20)

    assert "pages: 1 event without a usable value, in no total" in table(costs(server))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--by", "planet"], "no dimension 'planet'; there are: customer, region"),
        (["--where", "planet=x"], "no dimension 'planet'"),
        (["--where", "cost=ai"], "no dimension 'cost'"),
        (["--where", "region"], "'region' is not DIMENSION=VALUE"),
        (["--cost", "nope"], "no cost metric 'nope'; there are: ai, ocr"),
        (["--window", "WEEK"], "choose from"),
        (["--month", "2026-10", "--to", "2026-11"], "pass --month, or --from and --to"),
        (["--top", "0"], "'0' is no count"),
        (["--from", "soon"], "'soon' is no time; pass 2026-11, 2026-11-01"),
        (["--month", "2026-13"], "'2026-13' is no time"),
        (["--from", "2026-10-02", "--to", "2026-10-02"], "is not before"),
        (["--from", "9999-12-31"], "pass both --from and --to"),
        (["--to", "0001-01-01"], "pass both --from and --to"),
        (["--from", "0001-01-01T00:00:00+01:00"], "is no time"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_question_is_two(
    october: BackgroundServer, words: list[str], says: str
) -> None:
    """The message tells what could have been asked."""
    ran = costs(october, *words)

    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    assert says in ran.err


def test_new_server_has_nothing_to_show_and_says_what_to_do(
    server: BackgroundServer,
) -> None:
    """The first thing that a newcomer types."""
    assert "outlay metrics create" in table(costs(server))
    assert "outlay metrics create" in table(metrics(server, "list"))
    assert document(costs(server, "--json"))["costs"] == []
    assert document(metrics(server, "list", "--json")) == []


def test_costs_as_a_process(october: BackgroundServer) -> None:
    """The shell's view: address and key from the environment, nothing on stderr."""
    ran = command_line.run(
        *("costs", "--json", *OCTOBER),
        OUTLAY_BASE_URL=october.url,
        OUTLAY_API_KEY=KEY,
    )

    assert document(ran)["totals"] == {"USD": "15.600000000000000000000000000000000001"}


# Metrics.


def test_created_metric_is_listed_with_all_it_was_given(
    server: BackgroundServer,
) -> None:
    """The price of a unit is exact, too."""
    created = document(
        metrics(
            server,
            *("create", "pages", "--event-type", "cost.ocr", "--value", "$.quantity"),
            *("--by", "provider=$.provider", "--by", "model", "--currency", "EUR"),
            *("--unit-cost", "0.00150000000000000000000000000001", "--unit", "page"),
            *("--aggregation", "sum", "--product", "prod_docs", "--json"),
        )
    )

    assert created.pop("id").startswith("cst_")
    assert created == {
        "name": "pages",
        "currency": "EUR",
        "unitCost": "0.00150000000000000000000000000001",
        "eventType": "cost.ocr",
        "aggregation": "SUM",
        "valueProperty": "$.quantity",
        "unit": "page",
        "groupBy": {"provider": "$.provider", "model": "$.model"},
        "productId": "prod_docs",
    }
    listed = table(metrics(server, "list"))
    row = "pages cost.ocr SUM $.quantity provider, model 0.0015000000000000"
    assert row in squeezed(listed)


def test_price_times_quantity_is_exact(
    server: BackgroundServer, client: Client
) -> None:
    """Where the provider charges by unit, the metric knows the price."""
    words = ("--event-type", "cost.ocr", "--value", "$.quantity")
    metrics(server, "create", "pages", *words, "--unit-cost", "0.0015")
    client.track_cost(
        "cost.ocr", 0, customer_id="c", operation_id=1, quantity="3.33", unit="page"
    )
    client.flush(20)

    assert document(costs(server, "--json"))["totals"] == {"USD": "0.004995"}


def test_lists_longer_than_a_page_are_whole(server: BackgroundServer) -> None:
    """The hundred-and-first metric costs money, too."""
    settings = Settings.resolve({"base_url": server.url, "api_key": KEY}, environ={})
    with Api(settings) as api:
        for number in range(101):
            api.create_metric(f"m{number}", f"cost.ai{number}")

    assert len(document(metrics(server, "list", "--json"))) == 101


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--value", "amount"], ExitCode.REFUSED, "valueProperty"),
        (["--aggregation", "MODE"], ExitCode.REFUSED, "aggregation"),
        (["--currency", "dollars"], ExitCode.USAGE, "'dollars' is no currency"),
        (["--unit-cost", "-1"], ExitCode.REFUSED, "unitCost"),
        (["--unit-cost", "much"], ExitCode.USAGE, "'much' is not a number"),
        (["--unit-cost", "inf"], ExitCode.USAGE, "'inf' is not a number"),
        (["--by", "=x"], ExitCode.USAGE, "'=x' is not NAME or NAME=PATH"),
        (["--by", "x="], ExitCode.USAGE, "'x=' is not NAME or NAME=PATH"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_metric_that_makes_no_sense_is_not_created(
    server: BackgroundServer, words: list[str], code: ExitCode, says: str
) -> None:
    """What the server checks, it explains; the rest is caught before."""
    ran = metrics(server, "create", "x", "--event-type", "cost.x", *words)

    assert ran.code == code
    assert says in ran.err
    assert document(metrics(server, "list", "--json")) == []


@pytest.fixture
def defaults(server: BackgroundServer) -> BackgroundServer:
    """A server with the default metrics."""
    assert "created cost metric inference, which" in table(
        metrics(server, "create", "--defaults")
    )
    return server


def listed(server: BackgroundServer, event_type: str) -> list[str]:
    """Return the names of the metrics that count a type."""
    found = document(metrics(server, "list", "--json"))
    return [each["name"] for each in found if each["eventType"] == event_type]


def test_default_metrics_are_created_once(defaults: BackgroundServer) -> None:
    """Run twice, an event would be in two totals."""
    again = table(metrics(defaults, "create", "--defaults"))

    assert "nothing to create" in again
    assert listed(defaults, "cost.ai.inference") == ["inference"]


def test_metrics_without_events_hide_no_others(
    defaults: BackgroundServer, client: Client
) -> None:
    """Thirteen default metrics, of which one counts something."""
    client.track_cost("cost.ai.inference", 2, customer_id="c", operation_id=1)
    client.flush(20)

    shown = squeezed(table(costs(defaults)))

    assert shown.splitlines()[2:] == ["inference 2 USD", "all 2 USD"]
    assert len(document(costs(defaults, "--json"))["costs"]) == 13


def test_a_metric_of_ones_own_replaces_the_untouched_default(
    defaults: BackgroundServer,
) -> None:
    """On the first day nothing is counted in two totals."""
    words = ("create", "tokens", "--event-type", "cost.ai.inference")
    first = table(metrics(defaults, *words, "--by", "team"))
    second = metrics(defaults, "create", "more", *words[2:])

    assert "replaces the default metric inference" in first
    assert "replaces" not in second.out
    assert "also counted by tokens" in second.err
    assert listed(defaults, "cost.ai.inference") == ["tokens", "more"]


def test_a_metric_that_exists_stays_as_it_is(server: BackgroundServer) -> None:
    """A second one would count every event twice."""
    words = ("create", "pages", "--event-type", "cost.ocr", "--unit", "page")
    metrics(server, *words)

    again = table(metrics(server, *words))
    other = metrics(server, *words, "--unit-cost", "2")

    assert "exists, and stays as it is" in again
    assert other.code == ExitCode.REFUSED
    assert "another unit_cost" in other.err
    assert listed(server, "cost.ocr") == ["pages"]


def test_a_metric_is_changed_by_name_or_id(server: BackgroundServer) -> None:
    """A new price needs no new metric."""
    words = ("--event-type", "cost.ocr", "--unit", "page", "--by", "provider")
    made = document(metrics(server, "create", "pages", *words, "--json"))

    changed = document(
        metrics(
            server,
            *("update", "pages", "--unit-cost", "0.002", "--by", "model", "--json"),
            *("--clear", "unit", "--name", "sheets", "--event-type", "cost.scan"),
        )
    )
    text = table(metrics(server, "update", made["id"], "--currency", "EUR"))

    assert changed == {
        **{name: value for name, value in made.items() if name != "unit"},
        "name": "sheets",
        "eventType": "cost.scan",
        "unitCost": "0.002",
        "groupBy": {"model": "$.model"},
    }
    assert text == f"changed cost metric sheets ({made['id']})\n"


def test_a_metric_is_deleted_and_counts_nothing_more(server: BackgroundServer) -> None:
    """Its name is enough."""
    metrics(server, "create", "pages", "--event-type", "cost.ocr")

    assert "its events stay" in table(metrics(server, "delete", "pages"))
    assert listed(server, "cost.ocr") == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["update", "pages"], "name a field to change"),
        (["update", "other", "--unit", "x"], "no cost metric 'other'; there are:"),
        (["delete", "other"], "no cost metric 'other'; there are:"),
        (["delete", "twice"], "several cost metrics are named 'twice'; pass an id:"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_metric_to_change_must_be_clear(
    server: BackgroundServer, words: list[str], says: str
) -> None:
    """Nothing is changed by guess."""
    with Api(base_url=server.url, api_key=KEY) as api:
        for name in ("pages", "twice", "twice"):
            api.create_metric(name, "cost.ocr")

    ran = metrics(server, *words)

    assert ran.code == ExitCode.USAGE
    assert says in ran.err
    assert len(listed(server, "cost.ocr")) == 3


def test_a_metric_needs_a_name_and_a_type(server: BackgroundServer) -> None:
    """Unless it is about the defaults, which have theirs."""
    ran = metrics(server, "create", "x")

    assert ran.code == ExitCode.USAGE
    assert "pass NAME and --event-type, or --defaults" in ran.err


def test_init_writes_settings_and_creates_metrics(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """Two things that every new project needs."""
    path = tmp_path / ".env"
    words = ("init", "--output", str(path), *reaching(server))
    first, text = command_line.call(*words), path.read_text()
    second = command_line.call(*words)

    assert (first.code, second.code) == (ExitCode.DONE, ExitCode.DONE)
    assert f"\nOUTLAY_BASE_URL={server.url}\n" in text
    assert f"\nOUTLAY_API_KEY={KEY}\n" in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert listed(server, "cost.ai.inference") == ["inference"]
    assert f"{path} exists, and stays as it is" in second.out
    assert path.read_text() == text


# Amounts.


def test_sums_beyond_decimals_own_precision_are_exact() -> None:
    """Decimal's ``+`` rounds to 28 digits without a word."""
    amounts = [Decimal("1e40"), Decimal("1e-40"), Decimal("-1e40")]

    assert exact_sum(amounts) == Decimal("1e-40")
    assert sum(amounts) != Decimal("1e-40")


def test_amounts_are_written_out() -> None:
    """No exponent, and no zeros that mean nothing."""
    amounts = [Decimal("1E+3"), Decimal("0.10"), Decimal("1E-7"), Decimal(0), None]

    assert list(map(plain, amounts)) == ["1000", "0.1", "0.0000001", "0", "-"]


def test_aligned_amounts_have_their_points_in_one_column() -> None:
    """So that a column can be read at a glance, and copied as it is."""
    assert aligned([Decimal("12.5"), Decimal("0.125"), Decimal(3), None]) == [
        "12.5  ",
        " 0.125",
        " 3    ",
        " -    ",
    ]
    assert aligned([]) == []
