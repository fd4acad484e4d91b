"""The code on the pages of AI frameworks runs, and counts each call once.

The usual environment does not have their packages, so the blocks are marked there.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from outlay.testing import recording
from tests.docs.blocks import Block, blocks
from tests.frameworks.fake_providers import gpt_4o

_PAGES: Final = Path(__file__).parents[2] / "docs" / "integrations"
_TOTALS: Final = {
    "langchain": gpt_4o(1),
    "mcp": Decimal("0.0015"),
    "openai-agents": gpt_4o(1),
    "pydantic-ai": gpt_4o(1),
}


@pytest.mark.parametrize(
    ("block", "total"),
    [
        pytest.param(block, total, id=block.name)
        for name, total in _TOTALS.items()
        for block in blocks(_PAGES / f"{name}.md")
        if block.language == "python"
    ],
)
@pytest.mark.usefixtures("providers")
def test_the_code_on_a_page_runs(block: Block, total: Decimal) -> None:
    """Readers copy what they see."""
    with recording() as costs:
        exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})  # noqa: S102 - the page is in this repository

    costs.assert_total(total, customer="cus_123")
    assert not costs.unpriced
