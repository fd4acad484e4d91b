"""The reading of pages itself: a reader that finds nothing would prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.blocks import blocks, commands, shows

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """\
# Title

```python
print(1)
```

```text
1
```

Words.

```python no-run
fragment
```

```console
$ outlay one  # why
first
second
$ outlay two
```

1. In a list:

   ```console
   $ outlay three \\
         --option
   ```
"""


def test_blocks_carry_language_output_and_line(tmp_path: Path) -> None:
    """A block that is not found is not run, unseen."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)

    python, text, fragment, console, listed = blocks(page)

    assert (python.name, python.language, python.text, python.output) == (
        "page.md:3",
        "python",
        "print(1)\n",
        "1\n",
    )
    assert listed.text == "$ outlay three \\\n      --option\n"
    assert [block.runs for block in (python, fragment)] == [True, False]
    assert (text.language, console.output) == ("text", None)


def test_commands_are_told_from_their_output(tmp_path: Path) -> None:
    """Output that were taken for a command would fail, or worse, run."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    *_, console, _ = blocks(page)

    assert [*commands(console)] == [
        ("outlay one", "first\nsecond\n"),
        ("outlay two", ""),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        pytest.param("a\nb\n", "\na  \nb\n\n", True, id="blank ends"),
        pytest.param("id cst_…!", "id cst_42!", True, id="wildcard"),
        pytest.param("a…c", "a\nc", False, id="wildcard ends with its line"),
        pytest.param("1.5", "1x5", False, id="no pattern but the wildcard"),
        pytest.param("a", "a\nb", False, id="more than shown"),
    ],
)
def test_shown_output_must_be_the_printed_output(
    expected: str, printed: str, *, same: bool
) -> None:
    """A comparison that forgives more than blanks would let a page go stale."""
    assert shows(expected, printed) is same
