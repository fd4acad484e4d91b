"""Rows per second of CPU that an export of events or totals writes.

Each database has one metric, 1,000 customers, 10 providers and 90 days. The floor is a
bare SELECT of the same columns and `csv.writer`. Time of the CPU does not depend on
what else the machine does. Memory is the growth of the largest resident set after the
third page. The growth is the time of a row, in times of that of the first size.

Run it with ``python -m bench.export 100000 10000000``. With ``--keep FOLDER`` it keeps
each database, and shares it with ``bench.server_queries``.
"""

from __future__ import annotations

import csv
import io
import resource
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import query_database
from bench._sizes import size_options
from bench.query_database import DAYS, HOUR, START
from outlay._cli.parquet import ParquetFile
from outlay.server._services.export import ExportService
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._wire.export_models import (
    MAX_ROWS,
    ExportDataset,
    ExportFormat,
    ExportQuery,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_ROWS: Final = 300_000  # of one measurement
_END: Final = START + DAYS * 24 * HOUR
_SELECT: Final = (
    "SELECT id, at, received_at, type, source, subject, external_id, key, data"
    " FROM events WHERE namespace = 'org_a' AND type = 'cost.ai'"
    " ORDER BY at DESC, seq DESC LIMIT ?"
)


def main() -> None:
    """Print a table of rows per second for each size."""
    options = size_options(__doc__, __name__, keeps_databases=True)
    firsts: dict[str, float] = {}
    for count in options.events:
        with tempfile.TemporaryDirectory() as folder:
            path = (options.keep or Path(folder)) / f"queries-{count}.db"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                query_database.build(path, count)
            _measure_all(count, path, firsts)


def _measure_all(count: int, path: Path, firsts: dict[str, float]) -> None:
    store = SqliteStore(path, dedupe_window=HOUR, durable=False)
    service = ExportService(store, "USD", lambda: _END)
    print(f"\n{count:,} events")
    print(f"{'export':<26}{'rows':>9}{'rows/s':>9}{'growth':>8}{'memory':>9}")
    try:
        _measure("floor: SELECT, csv.writer", _floor(path), firsts)
        for dataset, file_format in (
            (ExportDataset.EVENTS, ExportFormat.CSV),
            (ExportDataset.EVENTS, ExportFormat.JSONL),
            (ExportDataset.TOTALS, ExportFormat.CSV),
            (ExportDataset.TOTALS, ExportFormat.JSONL),
            (ExportDataset.FOCUS, ExportFormat.CSV),
        ):
            pages = _pages(service, dataset, file_format)
            _measure(f"{dataset}, {file_format}", pages, firsts)
        _measure("events, parquet", _parquet(service), firsts)
    finally:
        store.close()


def _floor(path: Path) -> Iterator[int]:
    """Write the columns of events without the server, and yield numbers of rows."""
    connection = sqlite3.connect(path)
    rows = connection.execute(_SELECT, (_MOST_ROWS,))
    while page := rows.fetchmany(MAX_ROWS):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(page)
        text.getvalue().encode()
        yield len(page)
    connection.close()


def _pages(
    service: ExportService,
    dataset: ExportDataset,
    file_format: ExportFormat,
    write: Callable[[bytes], object] = len,
) -> Iterator[int]:
    """Export pages, and yield their numbers of rows."""
    cursor: str | None = None
    while True:
        query = ExportQuery.model_construct(
            start=START,
            end=_END,
            dataset=dataset,
            format=file_format,
            cursor=cursor,
        )
        page = service.page("org_a", query)
        write(page.body)
        yield page.body.count(b"\n")
        cursor = page.cursor
        if cursor is None:
            return


def _parquet(service: ExportService) -> Iterator[int]:
    with (
        tempfile.TemporaryFile() as file,
        ParquetFile(file) as parquet,
    ):
        yield from _pages(
            service, ExportDataset.EVENTS, ExportFormat.CSV, parquet.write
        )


def _measure(name: str, pages: Iterator[int], firsts: dict[str, float]) -> None:
    rows = number = first = 0
    start = time.thread_time()
    for number, size in enumerate(pages, 1):
        rows += size
        if number == 3:  # caches are filled
            first = _largest_kib()
        if rows >= _MOST_ROWS:
            break
    took = time.thread_time() - start
    grown = (_largest_kib() - first) / 1024 if first else 0
    speed = rows / took
    growth = firsts.setdefault(name, speed) / speed
    print(f"{name:<26}{rows:>9,}{speed:>9,.0f}{growth:>8.2f}{grown:>6.0f} MiB")


def _largest_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
