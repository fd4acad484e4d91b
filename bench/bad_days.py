"""Seconds and memory of long work: a large CSV of revenue, and a large bill.

Each run starts a server in a process of its own, on a new database. The command line
runs as a user runs it. The server's memory is the peak of its resident set
(``VmHWM``), the command's is that of its process (``ru_maxrss``).

Run it with ``python -m bench.bad_days 1000000``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx

from bench._servers import KEY, reference_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BATCH: Final = 1000
_MEGABYTE: Final = 1024 * 1024
_MOST_UPLOADED: Final = 15 * _MEGABYTE  # the page takes 16 MB, with the form
_HEAD: Final = "customer,key,amount\n"


class Run(NamedTuple):
    """One piece of long work.

    Attributes:
        seconds: The time until it ended.
        cpu: The time of the CPU that the command took. Zero without a command.
        memory: The most memory of the command, in MiB. Zero without a command.
        words: The first line of its output.
    """

    seconds: float
    cpu: float
    memory: float
    words: str


def main() -> None:
    """Print a table of seconds and memory for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[10_000])
    # `python -m bench` runs all benchmarks, without options.
    options = parser.parse_args(None if __name__ == "__main__" else [])
    print(
        f"{'work':<26}{'rows':>10}{'s':>8}{'CPU s':>16}{'MiB':>12}\n"
        f"{'':<44}{'command':>8}{'server':>8}{'command':>8}{'server':>7}"
    )
    for count in options.rows:
        _measure("revenue import", count, _import)
        _measure("reconcile", count, _reconcile)
        # About 21 bytes a line.
        _measure("revenue page", min(count, _MOST_UPLOADED // 21), _upload)
        _measure("revenue import, again", count, _import_twice)


def _measure(name: str, rows: int, work: Callable[[str, Path, int], Run]) -> None:
    with tempfile.TemporaryDirectory() as folder, reference_server() as url:
        before = _server().cpu
        run = work(url, Path(folder), rows)
        server = _server()
    print(
        f"{name:<26}{rows:>10,}{run.seconds:>8.1f}{run.cpu:>8.1f}"
        f"{server.cpu - before:>8.1f}{run.memory:>8.0f}{server.memory:>7.0f}"
        f"  {run.words}",
        flush=True,
    )


def _import(url: str, folder: Path, rows: int) -> Run:
    file = folder / "revenue.csv"
    _write(file, _HEAD, (f"cus_{n % 1000},in_{n},1.5\n" for n in range(rows)))
    return _command(
        url,
        ["revenue", "import", str(file), "--month", "2026-10", "--currency", "USD"],
    )


def _import_twice(url: str, folder: Path, rows: int) -> Run:
    _import(url, folder, rows)
    return _import(url, folder, rows)


def _upload(url: str, folder: Path, rows: int) -> Run:
    file = folder / "revenue.csv"
    _write(file, _HEAD, (f"cus_{n % 1000},in_{n},1.5\n" for n in range(rows)))
    with httpx.Client(base_url=url, trust_env=False, timeout=3600) as client:
        origin = {"origin": url}
        client.post("/sign-in", data={"key": KEY}, headers=origin)
        token = re.search(r'name="csrf" value="([^"]+)"', client.get("/revenue").text)
        started = time.perf_counter()
        response = client.post(
            "/revenue",
            data={
                "csrf": token[1] if token else "",
                "source": "csv",
                "month": "2026-10",
                "currency": "USD",
                "encoding": "utf-8-sig",
            },
            files={"file": ("revenue.csv", file.read_bytes(), "text/csv")},
            headers=origin,
        )
        seconds = time.perf_counter() - started
    found = re.search(r"Imported[^<]*", response.text)
    words = found[0] if found else f"status {response.status_code}"
    return Run(seconds, 0, 0, words)


def _reconcile(url: str, folder: Path, rows: int) -> Run:
    """Reconcile a bill whose every charge has the operation id of an event."""
    mapping = folder / "mapping.toml"
    mapping.write_text(
        'provider = "openai"\ndecimal = "."\n[columns]\ntime = "day"\n'
        'amount = "cost"\ncurrency = "currency"\noperation = "id"\nmodel = "model"\n'
    )
    bill = folder / "bill.csv"
    lines = (f"{_day(n)},0.25,USD,op-{n},gpt-5\n" for n in range(rows))
    _write(bill, "day,cost,currency,id,model\n", lines)
    with httpx.Client(
        base_url=url,
        headers={"authorization": f"Bearer {KEY}", "prefer": "return=minimal"},
        trust_env=False,
        timeout=60,
    ) as client:
        for start in range(0, rows, _BATCH):
            numbers = range(start, min(start + _BATCH, rows))
            body = {"events": [_event(number) for number in numbers]}
            client.post("/v0/events/batch", json=body).raise_for_status()
    return _command(url, ["reconcile", str(bill), "--mapping", str(mapping)])


def _day(number: int) -> str:
    return f"2026-10-{number % 28 + 1:02}"


def _event(number: int) -> dict[str, object]:
    return {
        "type": "cost.ai.inference",
        "source": "bench",
        "subject": f"cus_{number % 1000}",
        "timestamp": f"{_day(number)}T12:00:00Z",
        "idempotencyKey": f"key-{number}",
        "data": {
            "amount": "0.25",
            "currency": "USD",
            "provider": "openai",
            "model": "gpt-5",
            "operationId": f"op-{number}",
        },
    }


def _write(path: Path, head: str, lines: Iterator[str]) -> None:
    with path.open("w") as file:
        file.write(head)
        file.writelines(lines)


def _command(url: str, arguments: list[str]) -> Run:
    """Run ``outlay`` as a user does, and return its time and memory."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "outlay", *arguments],
        env={**os.environ, "OUTLAY_BASE_URL": url, "OUTLAY_API_KEY": KEY},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    words = process.stdout.read().partition("\n")[0]
    _, _, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    cpu = usage.ru_utime + usage.ru_stime
    return Run(seconds, cpu, usage.ru_maxrss / 1024, words)


class Server(NamedTuple):
    """The seconds of CPU of the server, and the peak of its memory in MiB."""

    cpu: float
    memory: float


def _server() -> Server:
    """Return what the only child process has needed."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    folder = Path("/proc") / children[0]
    found = re.search(r"VmHWM:\s+(\d+)", (folder / "status").read_text())
    # proc(5): the fields after the name are numbered from 3; 14 and 15 are times.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Server(cpu, int(found[1]) / 1024 if found else 0.0)


if __name__ == "__main__":
    main()
