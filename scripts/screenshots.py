"""Take pictures of the dashboard for ``docs/screenshots/``.

Run it from the repository's root, with Chromium and the font Inter installed
(``scripts/install_programs.sh``)::

    python -m scripts.screenshots

The costs, the names and the clock are the same in every run.
"""

from __future__ import annotations

import io
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx
from PIL import Image
from playwright.sync_api import FilePayload, sync_playwright

from tests.support.showcase import (
    API_KEY,
    openai_bill,
    send_budgets,
    send_events,
    send_odd_events,
    send_revenue,
    showcase_server,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDER: Final = Path(__file__).parent.parent / "docs" / "screenshots"
COLORS: Final = 192
MAX_BYTES: Final = 150_000
MONTH: Final = "month=2026-10"
A_DAY: Final = 60
"""The number of events of a working day."""


class Picture(NamedTuple):
    """One picture: the page, the theme, and the size of the window in pixels.

    With ``bill``, it shows the result of a bill that was chosen on the page.
    """

    name: str
    path: str
    theme: str = "light"
    width: int = 1200
    height: int = 1060
    bill: bool = False


PICTURES: Final = (
    Picture("overview", f"/?{MONTH}"),
    Picture("overview-dark", f"/?{MONTH}", theme="dark"),
    Picture("overview-phone", f"/?{MONTH}", width=360, height=1300),
    Picture("customers", f"/customers?{MONTH}&sort=worst", height=900),
    Picture("customer", f"/customer?{MONTH}&id=cus_acme", height=1460),
    Picture("customer-dark", f"/customer?{MONTH}&id=cus_acme", theme="dark"),
    Picture("customers-phone", f"/customers?{MONTH}", width=360, height=900),
    Picture("events", f"/events?{MONTH}&id=cus_acme", height=760),
    Picture("revenue", f"/revenue?{MONTH}", height=1000),
    Picture("budgets", "/budgets", height=640),
    Picture("budgets-phone", "/budgets", width=360, height=800),
    Picture("metrics", f"/cost-metrics?{MONTH}", height=700),
    Picture("metric-form", f"/cost-metrics?{MONTH}&new=", height=760),
    Picture("health", f"/data-health?{MONTH}", height=900),
    Picture("keys", "/api-keys", height=640),
    Picture("reconciliation-form", "/reconciliation", height=640),
    Picture("reconciliation", "/reconciliation", height=1000, bill=True),
    Picture("sign-in", "/sign-in", height=560),
)


def main() -> int:
    """Take all pictures, and say how large each is."""
    browser_path = shutil.which("chromium")
    if browser_path is None:
        print("there is no chromium; run: sh scripts/install_programs.sh")
        return 1
    FOLDER.mkdir(exist_ok=True)
    too_large = []
    with (
        showcase_server() as server,
        httpx.Client(
            base_url=server.url,
            headers={"authorization": f"Bearer {API_KEY}"},
            trust_env=False,
            timeout=60,
        ) as client,
        sync_playwright() as playwright,
    ):
        send_events(client, a_day=A_DAY)
        send_revenue(client)
        send_odd_events(client)
        send_budgets(client, acme="1100", everything="8000")
        wait_for_thresholds(client)
        server.create_key("billing-worker", {"events:create"})
        server.create_key("finance", {"costs:read", "events:read", "revenue:read"})
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"]
        )
        for picture in PICTURES:
            size = take(browser, server.url, picture)
            print(f"{size:>8} {picture.name}")
            if size > MAX_BYTES:
                too_large.append(picture.name)
        browser.close()
    if too_large:
        print(f"larger than {MAX_BYTES} bytes: {', '.join(too_large)}")
    return 1 if too_large else 0


def wait_for_thresholds(client: httpx.Client) -> None:
    """Wait until the server has evaluated both budgets in the background."""
    ends = time.monotonic() + 60
    while not all(
        client.get(f"/v0/budgets/{one}").json()["state"]["passed"]
        for one in ("acme", "all")
    ):
        assert time.monotonic() < ends, "no threshold was passed"


def take(browser: Browser, url: str, picture: Picture) -> int:
    """Take a picture, and return its size in bytes."""
    context = browser.new_context(
        base_url=url,
        viewport={"width": picture.width, "height": picture.height},
        color_scheme="dark" if picture.theme == "dark" else "light",
    )
    page = context.new_page()
    if picture.path != "/sign-in":
        page.goto("/sign-in")
        page.get_by_label("API key").fill(API_KEY)
        page.get_by_role("button", name="Sign in").click()
    page.goto(picture.path)
    if picture.bill:
        bill = FilePayload(
            name="costs.csv", mimeType="text/csv", buffer=openai_bill(A_DAY).encode()
        )
        page.get_by_label("Bill or cost report").set_input_files(bill)
        page.get_by_role("button", name="Reconcile").click()
        page.get_by_role("heading", name="Every cent").wait_for()
    page.mouse.move(0, 0)
    body = page.screenshot(animations="disabled")
    context.close()
    # A page has few colours, so that a palette halves the file and loses nothing.
    file = FOLDER / f"{picture.name}.png"
    image = Image.open(io.BytesIO(body)).convert("RGB")
    image.quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)
    return file.stat().st_size


if __name__ == "__main__":
    sys.exit(main())
