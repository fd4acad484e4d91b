"""``outlay export``: files that have each row once, also after an outage."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pyarrow.parquet as pq
import pytest

from outlay._cli.exit_codes import ExitCode
from outlay._cli.money_api import MoneyApi
from outlay._model.settings import Settings
from tests.support import command_line
from tests.support.command_line import KEY, Ran, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from outlay.server import BackgroundServer

OCTOBER = ("--month", "2026-10")
TINY = "0.000000000000000000000000000000000001"


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server with the metric ``ai`` and seven events in October."""
    with command_line.serving() as server:
        words = ("metrics", "create", "ai", "--event-type", "cost.ai", "--by", "model")
        assert command_line.call(*words, *reaching(server)).code == ExitCode.DONE
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
            for day in range(1, 8):
                body = {
                    "type": "cost.ai",
                    "source": "tests",
                    "subject": f"cus_{day % 2}",
                    "timestamp": f"2026-10-0{day}T00:00:00Z",
                    "data": {"amount": TINY, "model": "m"},
                }
                assert http.post("/v0/events", json=body).status_code == 202
        yield server


def export(server: BackgroundServer, *words: str) -> Ran:
    """Run ``outlay export``."""
    return command_line.call("export", *words, *OCTOBER, *reaching(server))


@pytest.mark.parametrize("is_file", [False, True], ids=["terminal", "file"])
def test_rows_on_a_terminal_have_no_bar_among_them(
    server: BackgroundServer, tmp_path: Path, *, is_file: bool
) -> None:
    """Both would be on the same lines of the screen. A file's rows have a bar."""
    screen, terminal = os.openpty()
    output = ("--output", str(tmp_path / "totals.csv")) if is_file else ()
    words = ("export", "totals", "--customer", "cus_0", *OCTOBER, *output)
    ran = subprocess.run(
        [sys.executable, "-m", "outlay", *words, *reaching(server)],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
        check=False,
    )
    shown = os.read(screen, 65_536).decode()
    os.close(terminal)
    os.close(screen)
    assert ran.returncode == ExitCode.DONE, shown
    assert (TINY in shown) is not is_file
    assert ("\x1b" in shown) is is_file  # a bar moves the cursor


@pytest.mark.parametrize("dataset", ["events", "totals", "focus"])
def test_the_three_formats_have_the_same_rows(
    server: BackgroundServer, tmp_path: Path, dataset: str
) -> None:
    """Each value is a text, in Parquet as well, so that no digit is lost."""
    files = {name: tmp_path / f"rows.{name}" for name in ("csv", "jsonl", "parquet")}
    for name, file in files.items():
        ran = export(server, dataset, "--format", name, "--output", str(file))
        assert ran.code == ExitCode.DONE, ran.err
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    text = files["csv"].read_text("utf-8")
    rows = [*csv.DictReader(io.StringIO(text))]
    jsonl = files["jsonl"].read_text("utf-8")
    lines = [json.loads(line) for line in jsonl.splitlines()]
    assert len(rows) == 7
    assert [{k: v or "" for k, v in line.items()} for line in lines] == rows
    assert pq.read_table(files["parquet"]).to_pylist() == rows
    assert text.count(TINY) >= 7


def test_an_empty_export_has_the_names_of_columns(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """A pipeline must not fail in a month without costs."""
    file = tmp_path / "rows.parquet"
    words = ("totals", "--customer", "nobody", "--format", "parquet")
    ran = export(server, *words, "--output", str(file))

    assert ran.code == ExitCode.DONE, ran.err
    assert pq.read_table(file).num_rows == 0
    assert "costId" in pq.read_schema(file).names


def test_an_export_is_continued_from_its_cursor(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """Both parts together are the whole file."""
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    export(server, "events", "--output", str(whole))
    settings = Settings.resolve({"base_url": server.url, "api_key": KEY})
    query = {
        "from": "2026-10-01T00:00:00Z",
        "to": "2026-11-01T00:00:00Z",
        "dataset": "events",
        "format": "csv",
        "limit": "3",
    }
    with MoneyApi(settings) as api:
        first = next(iter(api.export(query, None)))
    parts.write_bytes(first.body)
    ran = export(
        server, "events", "--output", str(parts), "--resume", first.cursor or ""
    )

    assert ran.code == ExitCode.DONE, ran.err
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("events", "--format", "parquet"), "Parquet needs --output"),
        (("events", "--output", "no/such/folder.csv"), "cannot write"),
        (("events", "--resume", "x", "--output", "/dev/null"), "of the page before"),
        (("everything",), "invalid choice"),
    ],
)
def test_a_wrong_call_says_what_to_do(
    server: BackgroundServer, words: tuple[str, ...], message: str
) -> None:
    """Instead of an empty file."""
    ran = export(server, *words)

    assert ran.code != ExitCode.DONE
    assert message in ran.err


def test_rows_go_to_the_standard_output(server: BackgroundServer) -> None:
    """So that a pipe can take them."""
    started = command_line.run(
        "export",
        "totals",
        *OCTOBER,
        OUTLAY_BASE_URL=server.url,
        OUTLAY_API_KEY=KEY,
    )

    assert started.code == ExitCode.DONE, started.err
    assert len([*csv.DictReader(io.StringIO(started.out))]) == 7
