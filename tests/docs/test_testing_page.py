"""docs/testing.md: its tests are run as tests."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.docs.blocks import Block, blocks

pytest_plugins = ["pytester"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "testing.md"
TESTS: Final = [block for block in blocks(PAGE) if block.is_tests]


@pytest.mark.parametrize("block", TESTS, ids=lambda block: block.name)
def test_tests_on_the_page_pass_or_fail_as_it_shows(
    block: Block, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defining them, which is all that running the page does, proves nothing."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(block.text)

    ran = pytester.runpytest_inprocess("-p", "pytest_outlay", "-W", "error")

    if block.output is None:
        ran.assert_outcomes(passed=block.text.count("def test_"))
    else:
        shown = [line.replace("*", "[*]") for line in block.output.splitlines()]
        ran.assert_outcomes(failed=1)
        ran.stdout.fnmatch_lines(shown, consecutive=True)


def test_the_page_has_tests_that_pass_and_one_that_fails() -> None:
    """A reader that finds none would prove nothing."""
    assert len(TESTS) == 4
    assert [block.output is not None for block in TESTS].count(True) == 1
