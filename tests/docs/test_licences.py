"""The licences of all packages that an installation brings are known and permissive."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

PAGE: Final = Path(__file__).parents[2] / "docs" / "dependencies.md"
EXTRAS: Final = "outlay[cli,otel,pricing,server]"

PERMISSIVE: Final = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|CNRI|Mozilla Public License 2\.0|MPL-2\.0"
)
"""The licences that users of outlay can live with: none asks for their source."""


def test_every_package_and_its_licence_is_on_the_page() -> None:
    """A company checks the licences before it installs."""
    rows = dict(
        re.findall(
            r"^\| `([^`]+)` \| ([^|]+?) \|", PAGE.read_text("utf-8"), re.MULTILINE
        )
    )

    assert installed_licences().items() <= rows.items()
    assert all(PERMISSIVE.search(licence) for licence in rows.values())


def installed_licences() -> dict[str, str]:
    """Return the licence of each package that outlay needs, directly or not."""
    licences: dict[str, str] = {}
    seen = set()
    waiting = [Requirement(EXTRAS)]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        extras = frozenset(wanted.extras or {""})
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found = importlib.metadata.distribution(name)
        licences[name] = licence(found.metadata)
        for text in found.requires or ():
            needed = Requirement(text)
            if not needed.marker or any(
                needed.marker.evaluate({"extra": extra}) for extra in extras
            ):
                waiting.append(needed)
    del licences["outlay"]
    return licences


def licence(metadata: importlib.metadata.PackageMetadata) -> str:
    """Return a package's licence, as its metadata say it."""
    fields = metadata.json
    classified = [
        str(each).split(" :: ")[-1]
        for each in fields.get("classifier", ())
        if str(each).startswith("License")
    ]
    stated = fields.get("license_expression") or "; ".join(classified)
    return str(stated or fields.get("license", ""))
