"""Saved reconciliations over real HTTP: which costs have an invoice in exports."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from tests.support import command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.support.command_line import Ran

OCTOBER: Final = {"from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}
HEAD: Final = "start_time,end_time,amount_value,amount_currency,line_item\n"
TWELFTH: Final = "1791763200,1791849600"
_organizations = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server for all tests. Each test has an organization of its own."""
    with BackgroundServer(ServerSettings(port=0, database=":memory:")) as server:
        yield server


class Organization:
    """An organization with one metric of amounts."""

    def __init__(self, server: BackgroundServer, folder: Path) -> None:
        self._url = server.url
        self.key = server.create_key(
            "finance", ["*"], namespace=f"org_{next(_organizations)}"
        )
        self._folder = folder
        self.http = httpx.Client(
            base_url=server.url,
            headers={"authorization": f"Bearer {self.key}"},
            timeout=30,
        )
        self.metric = ""

    def add_metric(self) -> None:
        """Add the metric."""
        metric = {
            "name": "AI",
            "eventType": "cost.ai.inference",
            "valueProperty": "$.amount",
            "currency": "USD",
            "groupBy": {"provider": "$.provider", "model": "$.model"},
        }
        self.metric = self.post("/v0/costMetrics", **metric)["id"]

    def post(self, path: str, **body: object) -> Any:  # noqa: ANN401 - JSON
        """Post, and return the response."""
        response = self.http.post(path, json=body)
        assert response.status_code in {200, 201, 202}, response.text
        return response.json()

    def spend(self, amount: str, model: str = "gpt-5", **data: object) -> str:
        """Post an event of the twelfth of October, and return its id."""
        at = data.pop("at", "2026-10-12T09:00:00Z")
        data = {"amount": amount, "provider": "openai", "model": model, **data}
        body = {"type": "cost.ai.inference", "source": "tests", "subject": "cus_1"}
        event = self.post("/v0/events", **body, timestamp=at, data=data)
        return str(event["id"])

    def reconcile(self, bill: str, *words: str) -> Ran:
        """Run ``outlay reconcile``."""
        path = self._folder / "bill.csv"
        path.write_text(bill, encoding="utf-8")
        reach = ("--base-url", self._url, *command_line.with_key(self.key))
        return command_line.call("reconcile", str(path), *words, *reach)

    def saved(self, *words: str) -> Ran:
        """Run ``outlay reconciliations``."""
        reach = ("--base-url", self._url, *command_line.with_key(self.key))
        return command_line.call("reconciliations", *words, *reach)

    def focus(self, **query: str) -> list[dict[str, str]]:
        """Return the rows of the FOCUS export of October."""
        query = {**OCTOBER, "dataset": "focus", **query}
        found: list[dict[str, str]] = []
        text = ""
        while True:
            response = self.http.get("/v0/export", params=query)
            assert response.status_code == 200, response.text
            text += response.text
            cursor = response.headers.get("outlay-next-cursor")
            if cursor is None:
                found += csv.DictReader(io.StringIO(text))
                return found
            query["cursor"] = cursor

    def by_invoice(self, **query: str) -> dict[str, str]:
        """Return the sums of the export by invoice, as texts of all digits."""
        sums: defaultdict[str, Decimal] = defaultdict(Decimal)
        for row in self.focus(**query):
            assert (row["x_AmountStatus"] == "reconciled") == bool(row["InvoiceId"])
            sums[row["InvoiceId"]] += Decimal(row["BilledCost"])
        return {invoice: str(one.normalize()) for invoice, one in sums.items()}


@pytest.fixture
def org(server: BackgroundServer, tmp_path: Path) -> Iterator[Organization]:
    """Return an organization of one's own."""
    one = Organization(server, tmp_path)
    with one.http:
        one.add_metric()
        yield one


def bill(**amounts: str) -> str:
    """Return a bill of the twelfth, with an amount for each model."""
    lines = (
        f'{TWELFTH},{amount},usd,"{model.replace("_", "-")}, input"\n'
        for model, amount in amounts.items()
    )
    return HEAD + "".join(lines)


def test_matched_costs_are_exported_with_the_invoice(org: Organization) -> None:
    """Up to the rounding of the bill. A model that differs stays without one."""
    org.spend("1.2500000001", provenance="priced")
    org.spend("1.25", provenance="reported")
    org.spend("4", "gpt-4o")
    before = org.by_invoice()

    ran = org.reconcile(bill(gpt_5="2.50", gpt_4o="3"), "--invoice", "INV-1")

    said = " ".join(ran.out.split())
    assert "of 6.5000000001 USD tracked, 2.5000000001 is reconciled" in said
    assert before == {"": "6.5000000001"}
    assert org.by_invoice() == {"INV-1": "2.5000000001", "": "4"}
    found = [row for row in org.focus() if row["InvoiceId"]]
    assert {row["ConsumedQuantity"] for row in found} == {"1.0"}
    assert {row["ChargeCategory"] for row in found} == {"Usage"}


def test_without_an_invoice_nothing_is_saved(org: Organization) -> None:
    """A nightly comparison must not change exports."""
    org.spend("2.5")
    org.reconcile(bill(gpt_5="2.50"))

    assert org.by_invoice() == {"": "2.5"}
    assert org.http.get("/v0/reconciliations").json()["data"] == []


def _void(org: Organization, event: str) -> None:
    org.post(f"/v0/events/{event}/void", reason="test")


def _adjust(org: Organization, event: str) -> None:
    org.post(
        f"/v0/events/{event}/adjust", costId=org.metric, delta="-0.5", reason="test"
    )


def _add(org: Organization, _: str) -> None:
    org.spend("7")


@pytest.mark.parametrize(
    ("change", "after"),
    [
        # The usage of the other event is still reconciled.
        (_void, {"INV-1": "2", "": "0"}),
        (_adjust, {"INV-1": "2", "": "0.5"}),
        (_add, {"INV-1": "3", "": "7"}),
    ],
    ids=["void", "adjust", "late"],
)
def test_what_changes_afterwards_is_not_reconciled(
    org: Organization,
    change: Callable[[Organization, str], None],
    after: Mapping[str, str],
) -> None:
    """Nobody has compared it with the bill. A state of before is as it was."""
    event = org.spend("1")
    org.spend("2")
    org.reconcile(bill(gpt_5="3"), "--invoice", "INV-1")
    [saved] = org.http.get("/v0/reconciliations").json()["data"]

    change(org, event)

    assert org.by_invoice() == after
    assert org.by_invoice(asOf=saved["savedAt"]) == {"INV-1": "3"}
    assert org.by_invoice(asOf=saved["asOf"]) in ({"": "3"}, {"INV-1": "3"})


def test_a_correction_before_belongs_to_the_invoice(org: Organization) -> None:
    """Its rows add up to what was billed. A voided event has no part in it."""
    corrected = org.spend("1")
    org.spend("2")
    voided = org.spend("8")
    _adjust(org, corrected)
    _void(org, voided)

    ran = org.reconcile(bill(gpt_5="2.5"), "--invoice", "INV-1")

    assert ran.code == 0, ran.out
    rows = [
        (row["InvoiceId"], row["ChargeCategory"], row["BilledCost"])
        for row in org.focus()
    ]
    assert sorted(rows) == [
        ("", "Adjustment", "-8"),
        ("", "Usage", "8"),
        ("INV-1", "Adjustment", "-0.5"),
        ("INV-1", "Usage", "3"),
    ]


def test_a_later_one_counts_for_its_days_and_says_so(org: Organization) -> None:
    """The days that it does not cover stay as they were."""
    org.spend("1")
    org.spend("5", at="2026-10-13T00:00:00Z")
    both = bill(gpt_5="1") + '1791849600,1791936000,5,usd,"gpt-5, input"\n'
    org.reconcile(both, "--invoice", "INV-1")
    assert org.by_invoice() == {"INV-1": "6"}

    same = org.reconcile(bill(gpt_5="1"), "--invoice", "INV-2")
    assert "counts instead of rec_" in same.out
    assert "(invoice INV-1, 2026-10-12 to 2026-10-13)" in " ".join(same.out.split())
    assert org.by_invoice() == {"INV-2": "1", "INV-1": "5"}

    org.reconcile(bill(gpt_5="0.4"), "--invoice", "INV-3", "--json")
    assert org.by_invoice() == {"": "1", "INV-1": "5"}
    newest, second, _ = org.http.get("/v0/reconciliations").json()["data"]
    assert len(newest["replaces"]) == 2
    assert second["totals"] == {
        **dict.fromkeys(("bill", "tracked", "reconciled"), "1"),
        **dict.fromkeys(("charges", "reconciledCharges"), 1),
    }
    assert second["replacedBy"] == [newest["id"]]


def test_commands_list_show_and_withdraw_saved_ones(org: Organization) -> None:
    """With every figure, and the names of those that count again."""
    org.spend("1.2500000001")
    org.spend("4", "gpt-4o")
    for invoice in ("INV-1", "INV-2"):
        org.reconcile(bill(gpt_5="1.25", gpt_4o="3"), "--invoice", invoice)

    second, first = json.loads(org.saved("list", "--json").out)
    table = org.saved("list").out
    shown = org.saved("show", second["id"]).out
    gone = org.saved("withdraw", second["id"], "--reason", "the wrong month").out

    assert second["totals"] == {
        "bill": "4.25",
        "tracked": "5.2500000001",
        "reconciled": "1.2500000001",
        "charges": 2,
        "reconciledCharges": 1,
    }
    for text in ("INV-1", "openai", "2026-10-12 to 2026-10-12", "finance", "counts"):
        assert text in table, text
    assert f"replaced by {second['id']}" in table
    for text in ("INV-2", "1.2500000001 USD", "1 of 2 match", "instead of rec_"):
        assert text in shown, text
    assert f"withdrew {second['id']} (invoice INV-2, 2026-10-12" in gone
    assert f"these count again: {first['id']}" in " ".join(gone.split())
    assert org.by_invoice() == {"INV-1": "1.2500000001", "": "4"}
    shown = org.saved("show", second["id"]).out
    for text in ("withdrawn", "the wrong month", "by finance"):
        assert text in shown, text
    refused = org.saved("show", "rec_0")
    assert refused.code == 1
    assert "rec_0" in refused.err


def test_a_withdrawn_one_counts_no_more(org: Organization) -> None:
    """The one before counts again, and a state of before is as it was."""
    org.spend("1")
    for invoice in ("INV-1", "INV-2"):
        org.reconcile(bill(gpt_5="1"), "--invoice", invoice)
    second, first = org.http.get("/v0/reconciliations").json()["data"]

    gone = org.post(f"/v0/reconciliations/{second['id']}/withdraw", reason="wrong")

    assert gone["withdrawal"]["reason"] == "wrong"
    assert gone["replaces"] == [first["id"]]
    assert org.by_invoice() == {"INV-1": "1"}
    assert org.by_invoice(asOf=second["savedAt"]) == {"INV-2": "1"}
    org.post(f"/v0/reconciliations/{first['id']}/withdraw", reason="wrong, too")
    assert org.by_invoice() == {"": "1"}
    shown = org.http.get(f"/v0/reconciliations/{second['id']}").json()
    assert shown["replaces"] == shown["replacedBy"] == []
    # A new one replaces none of them.
    same = org.reconcile(bill(gpt_5="1"), "--invoice", "INV-3")
    assert "instead of" not in same.out


def test_operations_of_a_bill_are_reconciled_one_by_one(
    org: Organization, tmp_path: Path
) -> None:
    """A message whose price differs does not keep the others from it."""
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(
        'provider = "openai"\ntimezone = "America/Los_Angeles"\n[columns]\n'
        'operation = "Id"\ntime = "At"\namount = "Price"\ncurrency = "Currency"\n',
        encoding="utf-8",
    )
    for number, amount in enumerate(("1", "2", "4")):
        org.spend(amount, operationId=f"op-{number}", at="2026-10-12T03:00:00Z")
    lines = "Id,At,Price,Currency\nop-0,2026-10-11,1,USD\nop-1,2026-10-11,9,USD\n"

    ran = org.reconcile(lines, "--mapping", str(mapping), "--invoice", "INV-1")

    assert ran.code == 4, ran.err
    assert org.by_invoice() == {"INV-1": "1", "": "6"}
    # Whatever the size of the pages.
    assert org.by_invoice(limit="1") == {"INV-1": "1", "": "6"}


def test_a_closed_month_keeps_its_invoice(org: Organization) -> None:
    """What counts in the open month is in none, and no amount is there twice."""
    event = org.spend("1")
    org.spend("2")
    org.reconcile(bill(gpt_5="3"), "--invoice", "INV-1")
    org.post("/v0/closedPeriods", period="2026-10")
    org.spend("7")  # late

    assert org.by_invoice() == {"INV-1": "3"}
    # With the late event, the bill does not match any more.
    org.reconcile(bill(gpt_5="10"), "--invoice", "INV-2")
    assert org.by_invoice() == {"INV-2": "3"}
    _adjust(org, event)
    assert org.by_invoice() == {"INV-2": "2", "": "1"}
    org.reconcile(bill(gpt_5="9.5"), "--invoice", "INV-3")
    assert org.by_invoice() == {"INV-3": "3"}


def test_a_metric_of_other_quantities_has_no_invoice(org: Organization) -> None:
    """Its cost is not the amount that was compared with the bill."""
    metric = {
        "type": "metered",
        "name": "Tokens",
        "unitCost": "0.001",
        "currency": "USD",
        "productId": "prod_1",
        "eventType": "cost.ai.inference",
        "aggregation": "SUM",
        "valueProperty": "$.tokens",
    }
    org.post("/v0/costs", **metric)
    org.spend("1", tokens=1000)
    org.reconcile(bill(gpt_5="1"), "--invoice", "INV-1")

    found = {row["ServiceName"]: row["InvoiceId"] for row in org.focus()}
    assert found == {"AI": "INV-1", "Tokens": ""}


def test_a_command_without_the_permission_reads_no_costs(
    org: Organization, server: BackgroundServer
) -> None:
    """It fails before the long part, and saves nothing."""
    org.spend("1")
    org.key = server.create_key(
        "reader", ["events:read", "costs:read"], namespace="org_reader"
    )

    ran = org.reconcile(bill(gpt_5="1"), "--invoice", "INV-1")

    assert ran.code == 1
    assert "events:correct" in ran.err
