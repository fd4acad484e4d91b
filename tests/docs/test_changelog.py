"""Fragments become a section of the changelog, as ``changelog.d/README.md`` says."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
_RELEASE: Final = ("--version", "0.2.0", "--date", "2027-01-31")
_SECTION: Final = """\
## [0.2.0] - 2027-01-31

### Added

- `outlay costs` totals by week.

### Changed

- Two lines
  of one change.

### Fixed

- A wrong total. (#123)

### Removed

- An old option.


"""


@pytest.mark.skipif(
    importlib.util.find_spec("towncrier") is None, reason="towncrier is not installed"
)
def test_fragments_become_a_section_above_the_earlier_ones(tmp_path: Path) -> None:
    """A maintainer meets `make changelog` once a release, and must be able to trust it.

    The earlier sections stay byte for byte, and the fragments are gone.
    """
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    fragments = tmp_path / "changelog.d"
    fragments.mkdir()
    shutil.copy(ROOT / "changelog.d" / "README.md", fragments)
    for name, text in {
        "+weeks.added.md": "`outlay costs` totals by week.",
        "+lines.changed.md": "Two lines\nof one change.",
        "123.fixed.md": "A wrong total.",
        "+option.removed.md": "An old option.",
    }.items():
        (fragments / name).write_text(text + "\n", "utf-8")

    subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--yes", *_RELEASE],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    )

    before = (ROOT / "CHANGELOG.md").read_text("utf-8")
    first = before.index("## [0.1.0]")
    expected = before[:first] + _SECTION + before[first:]
    assert (tmp_path / "CHANGELOG.md").read_text("utf-8") == expected
    assert [each.name for each in fragments.iterdir()] == ["README.md"]
