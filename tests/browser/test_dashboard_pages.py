"""The dashboard in a real Chromium: what a person sees, clicks and types.

Every window must stay without errors, and without violations of the policy.
"""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

    from tests.browser.conftest import Visit

pytestmark = pytest.mark.serial  # one browser for all

MONTH: Final = "month=2026-10"
PAGES: Final = (
    f"/?{MONTH}",
    f"/?{MONTH}&by=customer&where.provider=openai",
    "/?from=2026-10-07&to=2026-10-07",
    f"/customers?{MONTH}&sort=worst",
    f"/customers?{MONTH}&where.provider=openai",
    f"/customer?{MONTH}&id=cus_acme",
    f"/events?{MONTH}",
    f"/cost-metrics?{MONTH}",
    "/cost-metrics?new=",
    "/budgets",
    "/budgets?new=",
    f"/data-health?{MONTH}",
    "/api-keys",
)
SEVENTH: Final = re.compile(r"^7 October 2026:")
PHONE: Final = {"width": 360, "height": 740}
DESK: Final = {"width": 1280, "height": 900}
MAX_PAGE_BYTES: Final = 40_000


def show(page: Page, path: str) -> None:
    """Open a page, and open all that is folded."""
    page.goto(path)
    page.evaluate("document.querySelectorAll('.twin').forEach(one => one.open = true)")


def overflow(page: Page) -> int:
    """Return the pixels by which a page is wider than the window."""
    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return int(width)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    ("theme", "size"), [("light", DESK), ("dark", PHONE)], ids=["light", "dark"]
)
def test_every_page_is_accessible_and_fits(
    visit: Visit, path: str, theme: str, size: dict[str, int]
) -> None:
    """axe-core finds nothing, in both themes, on a desk and on a phone."""
    with visit(color_scheme=theme, viewport=size) as page:
        show(page, path)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert overflow(page) <= 0


@pytest.mark.parametrize(
    "path",
    [
        f"/?{MONTH}",
        f"/customers?{MONTH}",
        f"/cost-metrics?{MONTH}",
        f"/data-health?{MONTH}",
        "/budgets",
        "/api-keys",
    ],
)
def test_nothing_scrolls_sideways_on_a_phone(visit: Visit, path: str) -> None:
    """Neither menus and choices, nor tables: their rows name what columns had.

    The table behind a chart has a column for each colour, and may scroll.
    """
    with visit(viewport=PHONE) as page:
        page.goto(path)
        too_wide = "[...document.querySelectorAll('.scroll, .seg, .nav')]"
        too_wide += ".filter(one => !one.closest('.twin'))"
        too_wide += ".filter(one => one.scrollWidth > one.clientWidth)"
        assert page.evaluate(f"{too_wide}.map(one => one.innerText)") == []


def test_a_budget_is_edited_on_a_phone(visit: Visit) -> None:
    """The amounts and the links are below the names."""
    with visit(viewport=PHONE) as page:
        page.goto("/budgets")
        row = page.get_by_role("row", name=re.compile("^Acme GmbH"))
        assert "of 45.50 USD" in row.inner_text()
        row.get_by_role("link", name="Edit Acme GmbH").click()
        page.get_by_role("heading", name="Edit Acme GmbH").wait_for()


def test_the_current_page_is_in_sight_in_the_menu_of_a_phone(visit: Visit) -> None:
    """The menu has several rows, and the last page is at its end."""
    with visit(viewport=PHONE) as page:
        page.goto("/api-keys")
        box = page.locator(".nav [aria-current]").bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= PHONE["width"] - box["width"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_sign_in_page_is_accessible(visit: Visit, theme: str) -> None:
    """It is the first page that anybody sees."""
    with visit(signed_in=False, color_scheme=theme, viewport=PHONE) as page:
        page.goto("/")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.get_by_label("API key").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_unknown_address_leads_to_the_overview(visit: Visit, theme: str) -> None:
    """As a page like all others, and not as JSON."""
    with visit(color_scheme=theme, viewport=PHONE, expected="status of 404") as page:
        page.goto("/kunden")
        page.get_by_role("heading", name="This page does not exist").wait_for()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert overflow(page) <= 0
        page.get_by_role("link", name="Overview").click()
        page.get_by_role("heading", name="October 2026").wait_for()


def test_themes_differ_and_keep_their_contrast(visit: Visit) -> None:
    """A dark page is dark."""
    colors = []
    for theme in ("light", "dark"):
        with visit(color_scheme=theme) as page:
            page.goto("/")
            colors.append(
                page.evaluate("getComputedStyle(document.body).backgroundColor")
            )
    assert colors == ["rgb(247, 247, 245)", "rgb(18, 19, 21)"]


def test_a_person_signs_in_looks_and_signs_out(visit: Visit) -> None:
    """From the form to the figures, and out again."""
    with visit(signed_in=False) as page:
        page.goto(f"/customers?{MONTH}")
        page.get_by_label("API key").fill("sk_test_showcase")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Customers").wait_for()
        assert page.url.endswith(f"/customers?{MONTH}")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", name="Sign in").wait_for()
        page.goto("/")
        page.get_by_role("heading", name="Sign in").wait_for()


def test_the_period_is_chosen_by_links_and_by_a_form(visit: Visit) -> None:
    """Month, week, earlier, and any days in any time zone."""
    with visit() as page:
        page.goto("/")
        page.get_by_role("link", name="Earlier: September 2026").click()
        page.get_by_role("heading", name="September 2026").wait_for()
        page.get_by_role("link", name="Week").click()
        page.get_by_role("heading", name="Week 40, 2026").wait_for()
        page.get_by_text("Dates", exact=True).click()
        page.get_by_label("First day").fill("2026-10-05")
        page.get_by_label("Last day").fill("2026-10-06")
        page.get_by_label("Time zone of the days").fill("Europe/Berlin")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("heading", name="5–6 October 2026").wait_for()
        assert "from=2026-10-05&to=2026-10-06&tz=Europe%2FBerlin" in page.url
        assert page.get_by_text("Europe/Berlin").first.is_visible()


def test_time_zones_are_suggested(visit: Visit) -> None:
    """The browser knows their names, so that no page carries them."""
    with visit() as page:
        page.goto("/")
        options = "[...document.querySelectorAll('#zones option')].map(o => o.value)"
        assert {"UTC", "Europe/Berlin"} <= set(page.evaluate(options))


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_drilling_down_needs_no_script(visit: Visit, script: bool) -> None:  # noqa: FBT001
    """From the month to a day, from a provider to its customers, to one of them."""
    with visit(java_script_enabled=script, viewport=DESK) as page:
        page.goto(f"/?{MONTH}&by=provider")
        page.get_by_role("link", name=SEVENTH).click()
        page.get_by_role("heading", name="7 October 2026").wait_for()
        page.go_back()
        page.get_by_role("link", name="openai").first.click()
        page.get_by_role("link", name="Remove the filter Provider openai").wait_for()
        page.get_by_role("link", name="Customer", exact=True).click()
        page.get_by_role("link", name="Acme GmbH").first.click()
        page.get_by_role("heading", name="Acme GmbH").wait_for()
        assert "where.provider=openai" in page.url
        page.get_by_role("link", name="Remove the filter Provider openai").click()
        page.get_by_text("Revenue").first.wait_for()


def test_the_keyboard_reaches_bars_and_opens_them(visit: Visit) -> None:
    """Tab moves from bar to bar, and Enter opens one."""
    with visit(viewport=DESK) as page:
        page.goto(f"/?{MONTH}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == (
            "Skip to the content"
        )
        names = []
        for _ in range(60):
            page.keyboard.press("Tab")
            label = page.evaluate("document.activeElement.getAttribute('aria-label')")
            if label and "October 2026:" in label:
                names.append(label)
                if len(names) == 3:
                    break
        assert [name.split(" ")[0] for name in names] == ["1", "2", "3"]
        assert page.locator(".hint").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator(".hint").is_visible()
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="3 October 2026").wait_for()


def test_a_hint_has_the_figures_of_the_table(visit: Visit) -> None:
    """Each group of the day, and the total, with all digits."""
    with visit(viewport=DESK) as page:
        show(page, f"/?{MONTH}&by=provider")
        page.get_by_role("link", name=SEVENTH).hover()
        hint = page.locator(".hint").inner_text()
        row = page.get_by_role("row", name=re.compile("^7 October 2026"))
        cells = row.locator("td").all_inner_texts()
        assert [cell for cell in cells if cell != "–"] == re.findall(
            r"[\d,]+\.\d+", hint
        )


def test_a_missing_day_has_no_bar_and_the_running_day_is_pale(visit: Visit) -> None:
    """A gap is no zero, and today is not over."""
    with visit(viewport=DESK) as page:
        page.goto(f"/?{MONTH}")
        bars = page.locator("a.col")
        assert bars.count() == 28
        assert page.get_by_role("link", name="12 October 2026").count() == 0
        pale = page.locator("a.col.pale")
        assert pale.count() == 1
        assert "29 October 2026" in (pale.get_attribute("aria-label") or "")
        assert "not over yet" in (pale.get_attribute("aria-label") or "")


def test_a_page_weighs_little(visit: Visit) -> None:
    """HTML, CSS and the script of each page, compressed, and nothing else."""
    with visit() as page:
        for path in PAGES:
            responses: list[Response] = []

            def note(response: Response, to: list[Response] = responses) -> None:
                to.append(response)

            page.on("response", note)
            page.goto(path)
            page.wait_for_load_state("networkidle")
            page.remove_listener("response", note)
            bodies = {
                urlsplit(one.url).path: len(gzip.compress(one.body(), 6))
                for one in responses
            }
            files = {name for name in bodies if name.startswith("/static/")}
            assert files <= {
                "/static/dashboard.css",
                "/static/dashboard.js",
                "/static/icon.svg",
            }
            assert sum(bodies.values()) <= MAX_PAGE_BYTES, bodies


def test_paper_has_the_figures_and_no_buttons(visit: Visit) -> None:
    """Print leaves out what cannot be pressed."""
    with visit() as page:
        page.goto(f"/customers?{MONTH}")
        page.emulate_media(media="print")
        assert not page.get_by_role("navigation", name="Pages", exact=True).is_visible()
        assert not page.get_by_role("button", name="Open").is_visible()
        assert page.get_by_role("link", name="Acme GmbH").is_visible()


def test_an_event_is_reached_from_its_customer(visit: Visit) -> None:
    """The last step of a drill-down, accessible as well."""
    with visit(viewport=PHONE, color_scheme="dark") as page:
        page.goto(f"/customer?{MONTH}&id=cus_acme")
        page.get_by_role("link", name="All events").click()
        page.get_by_role("heading", name="Events", exact=True).wait_for()
        page.get_by_role("link", name=re.compile("Oct 2026, ")).first.click()
        page.get_by_role("heading", name="Counts for").wait_for()
        assert page.get_by_text("Idempotency key").first.is_visible()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert overflow(page) <= 0


def test_a_metric_is_created_and_deleted_by_hand(visit: Visit) -> None:
    """With the keyboard alone, and a mistake that the page explains."""
    with visit(viewport=DESK, expected="status of 400") as page:
        page.goto("/cost-metrics?new=")
        page.get_by_label("Name").fill("Weather")
        page.get_by_label("Event type").fill("cost.weather")
        page.get_by_label("Currency").fill("dollars")
        page.get_by_label("Currency").press("Enter")
        page.get_by_text("Nothing was stored").wait_for()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        page.get_by_label("Currency").fill("USD")
        page.get_by_label("Currency").press("Enter")
        page.get_by_text("The metric was created").wait_for()
        page.get_by_role("link", name="Delete Weather").press("Enter")
        page.get_by_role("button", name="Delete the metric").press("Enter")
        page.get_by_text("The metric was deleted").wait_for()


def test_a_key_is_created_and_shown_once(visit: Visit) -> None:
    """It can be selected, and a new look does not show it."""
    with visit(viewport=DESK) as page:
        page.goto("/api-keys")
        page.get_by_label("Name").fill("reports")
        page.get_by_role("button", name="Create the key").click()
        key = page.get_by_role("region", name="The new key").inner_text()
        assert re.fullmatch("sk_test_[0-9a-f]{48}", key)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        page.goto("/api-keys")
        assert key not in page.content()
        assert page.get_by_role("row", name="reports").is_visible()
