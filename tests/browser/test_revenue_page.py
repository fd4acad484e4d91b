"""The page of revenue in a real Chromium, from the file to what it replaced."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Final

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Visit

pytestmark = pytest.mark.serial  # one browser for all

PAGE: Final = "/revenue?month=2026-07"  # no other test looks at this month
PHONE: Final = {"width": 360, "height": 740}
DESK: Final = {"width": 1280, "height": 900}
MAX_PAGE_BYTES: Final = 40_000


def send(page: Page, content: str) -> None:
    """Choose a file, and send the form with the keyboard."""
    page.goto(PAGE)
    page.get_by_label("CSV file").set_input_files(
        {"name": "july.csv", "mimeType": "text/csv", "buffer": content.encode()}
    )
    page.get_by_role("button", name="Import").press("Enter")


def look(page: Page) -> None:
    """Open all that is folded, and look for findings."""
    page.evaluate("document.querySelectorAll('.twin').forEach(one => one.open = true)")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert int(width) <= 0
    assert len(gzip.compress(page.content().encode(), 6)) <= MAX_PAGE_BYTES


@pytest.mark.parametrize(
    ("theme", "size", "thousands"),
    [("light", DESK, 1), ("dark", PHONE, 2)],
    ids=["light", "dark, no script"],
)
def test_a_file_is_imported_and_replaced(
    visit: Visit, theme: str, size: dict[str, int], thousands: int
) -> None:
    """The page says what it replaced, also without a script."""
    head = "\ufeffcustomer;period;amount;currency\n"
    has_script = theme == "light"
    with visit(
        color_scheme=theme, viewport=size, java_script_enabled=has_script
    ) as page:
        send(page, f"{head}cus_acme;2026-07;{thousands}.900,10;EUR\n")
        page.get_by_text("1 line of revenue").wait_for()
        send(page, f"{head}cus_acme;2026-07;{thousands}.950,10;EUR\n")
        page.get_by_text("0 new, 1 replaced, 0 unchanged").wait_for()
        page.wait_for_load_state()  # the tables come after the message
        table = page.get_by_role("region", name="Table of replaced lines").inner_text()
        assert f"{thousands},900.10" in table
        assert f"{thousands},950.10" in table
        history = page.get_by_role("region", name="Table of lines")
        assert "replaced" in history.inner_text()
    with visit(color_scheme=theme, viewport=size) as page:
        page.goto(PAGE)
        look(page)


def test_a_wrong_file_is_explained_and_the_fields_stay(visit: Visit) -> None:
    """The form comes back with a message, and nothing has to be typed again."""
    with visit(expected="status of 400", viewport=PHONE) as page:
        page.goto(PAGE)
        page.get_by_label("Source").fill("stripe")
        page.get_by_label("CSV file").set_input_files(
            {"name": "a.csv", "mimeType": "text/csv", "buffer": b"customer\nx\n"}
        )
        page.get_by_role("button", name="Import").click()
        text = page.get_by_role("alert").inner_text()
        assert "a.csv has no column for amount, currency, period" in text
        assert text.endswith("Nothing was imported.")
        assert page.get_by_label("Source").input_value() == "stripe"
        look(page)
