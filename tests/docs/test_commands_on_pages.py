"""The commands of how-to pages run as they stand, in their order, on a real server."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import outlay
from outlay.server import BackgroundServer, ServerSettings
from tests.docs.blocks import blocks, commands
from tests.support import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS: Final = Path(__file__).parents[2] / "docs"
KEY: Final = "sk_test_docs_pages"
RUNS: Final = {
    "how-to/month-end.md": 11,
    "exports.md": 3,
    "how-to/backup.md": 1,
    "how-to/deploy.md": 1,
    "margins.md": 4,
    "budgets.md": 4,
    "corrections.md": 3,
    "how-to/bad-days.md": 8,
    "how-to/personal-data.md": 2,
    "how-to/unpriced.md": 4,
    "how-to/keys-and-tls.md": 4,
    "operating.md": 3,
}
"""The pages, and the least number of commands that each has to run."""

_PLACEHOLDER: Final = re.compile(r"\b(evt|cor|key|ok1)_\w{6,}|example\.com|<|…")
"""Marks a command that names a thing of the reader's own."""

_ELSEWHERE: Final = ("serve", "agent", "restore", "store copy", "journal move")
"""Commands that run without end, or need a stopped server or a journal of before."""

_DIFFERS: Final = {"reconcile": 4}
"""Exit codes of commands that find what they look for, other than 0."""

FILES: Final = {
    "costs.csv": """\
start_time,end_time,amount_value,amount_currency,line_item
1791763200,1791849600,1.25,usd,"gpt-5, input"
""",
    "october.csv": "customer,amount\ncus_1,1200.50\ncus_2,300\n",
    "stripe.csv": "id,Customer,Total,Date (UTC),Currency,Status\n"
    "in_1,cus_1,1200.50,2026-10-02 09:30,usd,paid\n",
    "lago.csv": "customer_external_id,invoice_number,total_amount_cents,currency,"
    "issuing_date,status\ncus_1,LAG-1,120050,USD,2026-10-02,finalized\n",
    "prices.toml": """\
[[price]]
provider = "acme"
from = 2026-01-01
call = 0.05
""",
}


@pytest.fixture
def month(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server with costs of October, and a folder with the files that pages name."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTLAY_JOURNAL_DIR", str(tmp_path / "journal"))
    database = tmp_path / "costs.db"
    settings = ServerSettings(
        port=0, database=database, api_key=KEY, default_metrics=True
    )
    with BackgroundServer(settings) as server:
        monkeypatch.setenv("OUTLAY_BASE_URL", server.url)
        monkeypatch.setenv("OUTLAY_API_KEY", KEY)
        with outlay.Client() as client:
            for number in (1, 2):
                client.track_cost(
                    "cost.ai.inference",
                    "1.25",
                    customer_id=f"cus_{number}",
                    operation_id=f"response-{number}",
                    provider="openai",
                    timestamp=datetime(2026, 10, 12, 9, tzinfo=UTC),
                    data={"model": "gpt-5"},
                )
        yield


@pytest.mark.usefixtures("month")
@pytest.mark.parametrize("page", RUNS)
def test_commands_of_a_page_run(page: str) -> None:
    """Readers type what they see, from top to bottom."""
    done = 0
    for words in shown(DOCS / page):
        ran = command_line.call(*words)
        expected = _DIFFERS.get(words[0], 0)
        assert ran.code == expected, f"{page}: outlay {shlex.join(words)}\n{ran.err}"
        done += 1

    assert done >= RUNS[page]


def shown(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command of a page that can run here."""
    for block in blocks(page):
        if block.language != "console":
            continue
        joined = block._replace(text=block.text.replace("\\\n", " "))
        for command in commands(joined):
            to_file = r" --output \1" if " export " in command.words else ""
            line = re.sub(r" > (\S+)$", to_file, command.words)
            program, *words = shlex.split(line)
            if program != "outlay" or _PLACEHOLDER.search(line):
                continue
            if not shlex.join(words).startswith(_ELSEWHERE):
                yield words
