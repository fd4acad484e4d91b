"""The page of reconciliation in a real Chromium, from the file to the events."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Final

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

from tests.support.showcase import openai_bill

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Locator, Page

    from tests.browser.conftest import Visit

pytestmark = pytest.mark.serial  # one browser for all

PHONE: Final = {"width": 360, "height": 740}
DESK: Final = {"width": 1280, "height": 900}
MAX_PAGE_BYTES: Final = 40_000
BILL: Final = openai_bill(20)


def file(content: str, name: str = "costs.csv") -> FilePayload:
    """Return a file to be chosen."""
    return {"name": name, "mimeType": "text/csv", "buffer": content.encode()}


def send(page: Page, content: str = BILL) -> None:
    """Choose a bill, and send the form with the keyboard."""
    page.goto("/reconciliation")
    page.get_by_label("Bill or cost report").set_input_files(file(content))
    page.get_by_role("button", name="Reconcile").press("Enter")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize(
    ("theme", "size"), [("light", DESK), ("dark", PHONE)], ids=["light", "dark"]
)
def test_a_bill_is_reconciled(
    visit: Visit,
    theme: str,
    size: dict[str, int],
    script: bool,  # noqa: FBT001
) -> None:
    """From the form to the differences, to the events behind one of them."""
    with visit(color_scheme=theme, viewport=size, java_script_enabled=script) as page:
        send(page)
        page.get_by_role("heading", name="Reconciliation of costs.csv").wait_for()
        page.wait_for_load_state()  # the rows come after the heading
        table = page.get_by_role("region", name="Table of differences", exact=True)
        causes = texts_by_model(table)
        assert "price differs" in causes["gpt-5-mini"]
        assert "not captured" in causes["text-embedding-3-small"]
        assert "/v1/embeddings" in causes["text-embedding-3-small"]
        page.get_by_text("Every difference by day").click()
        day = page.get_by_role("link", name=re.compile("2026-10-07 events of gpt-5"))
        day.first.click()
        page.get_by_role("heading", name="Events", exact=True).wait_for()
        assert "where.provider=openai" in page.url
        assert "from=2026-10-07&to=2026-10-07" in page.url


@pytest.mark.parametrize(
    ("theme", "size"), [("light", DESK), ("dark", PHONE)], ids=["light", "dark"]
)
def test_form_and_result_are_accessible_and_fit(
    visit: Visit, theme: str, size: dict[str, int]
) -> None:
    """axe-core finds nothing, in both themes, on a desk and on a phone."""
    with visit(color_scheme=theme, viewport=size) as page:
        page.goto("/reconciliation")
        look(page)
        send(page)
        page.get_by_role("heading", name="Every cent").wait_for()
        page.wait_for_load_state()
        look(page)
        assert len(gzip.compress(page.content().encode(), 6)) <= MAX_PAGE_BYTES


def test_a_result_is_saved_with_an_invoice_and_withdrawn(visit: Visit) -> None:
    """The list below the form leads to its page, and that one to the events."""
    with visit(viewport=PHONE, color_scheme="dark") as page:
        page.goto("/reconciliation")
        page.get_by_label("Bill or cost report").set_input_files(file(BILL))
        page.get_by_label("Invoice").fill("INV-2026-10")
        page.get_by_role("button", name="Reconcile").press("Enter")
        page.get_by_text("is reconciled with the invoice").wait_for()
        page.goto("/reconciliation")
        look(page)
        saved = page.get_by_role("region", name="Table of saved reconciliations")
        saved.get_by_role("link", name="INV-2026-10").click()
        page.get_by_role("heading", name="INV-2026-10").wait_for()
        look(page)
        own = page.url
        page.get_by_role("link", name="2026-10-01 to 2026-10-14").click()
        page.get_by_role("heading", name="Events", exact=True).wait_for()
        assert "where.provider=openai" in page.url
        page.goto(own)
        page.get_by_label("Reason").fill("the wrong month")
        page.get_by_role("button", name="Withdraw the reconciliation").press("Enter")
        page.get_by_text("It is withdrawn.").wait_for()
        look(page)


def texts_by_model(table: Locator) -> dict[str, str]:
    """Return the text of each model. On a phone, the advice is a row of its own."""
    texts: dict[str, str] = {}
    model = ""
    for row in table.get_by_role("row").all()[1:]:
        names = row.get_by_role("rowheader").all_inner_texts()
        model = names[0].split("\n")[0] if names else model
        texts[model] = f"{texts.get(model, '')}\n{row.inner_text()}"
    return texts


def look(page: Page) -> None:
    """Open all that is folded, and look for findings."""
    page.evaluate("document.querySelectorAll('.twin').forEach(one => one.open = true)")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert int(width) <= 0


def test_a_wrong_file_is_explained_and_the_fields_stay(visit: Visit) -> None:
    """The form comes back with a message, and nothing has to be typed again."""
    with visit(expected="status of 400") as page:
        page.goto("/reconciliation")
        page.get_by_label("Provider").fill("openai")
        page.get_by_label("Month").fill("2026-10")
        page.get_by_label("Bill or cost report").set_input_files(
            file("day,cost\n2026-10-12,1\n", "mine.csv")
        )
        page.get_by_role("button", name="Reconcile").click()
        page.get_by_role("alert").wait_for()
        text = page.get_by_role("alert").inner_text()
        assert "mine.csv is no bill that outlay knows" in text
        assert "the file has day, cost" in text
        assert page.get_by_label("Month").input_value() == "2026-10"
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
