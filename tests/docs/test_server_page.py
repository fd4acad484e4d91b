"""The reference names every setting, request and default metric of the server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import httpx

from outlay._cli.default_metrics import DEFAULT_METRICS
from outlay.server import BackgroundServer, ServerSettings

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "reference"


def page(name: str) -> str:
    """Return the text of a page of the reference."""
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_every_setting_is_on_the_page_with_its_variable() -> None:
    """A setting without documentation might as well not exist."""
    text = page("server-settings.md")
    rows = dict(re.findall(r"^\| `(\w+)` \| `(OUTLAY_SERVER_\w+)` \|", text, re.M))

    assert rows == {
        name: f"OUTLAY_SERVER_{name.upper()}" for name in ServerSettings.model_fields
    }


def test_every_path_of_the_description_is_on_the_page() -> None:
    """The page is the human form of the OpenAPI document."""
    with BackgroundServer(ServerSettings(port=0, database=":memory:")) as server:
        paths = httpx.get(f"{server.url}/openapi.json", timeout=30).json()["paths"]

    text = page("http.md")
    roots = {"/".join(path.split("/")[:3]) for path in paths}
    assert roots
    assert [root for root in sorted(roots) if root not in text] == []


def test_every_default_metric_is_on_the_page() -> None:
    """A newcomer must know which events count from the first day."""
    text = page("event-types.md")
    rows = re.findall(r"^\| `([\w-]+)` \| `(cost\.[\w.]+)` \|", text, re.M)

    assert rows == [(name, event_type) for event_type, name in DEFAULT_METRICS.items()]
