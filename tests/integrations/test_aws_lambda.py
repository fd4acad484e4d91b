"""Invocations of AWS Lambda: frozen, killed, repeated and ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import outlay
from outlay.errors import ConfigError
from tests.integrations.customers import CUSTOMERS, totals
from tests.processes.ledger import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes.ledger import Ledger

_ROOT: Final = Path(__file__).parents[2]


class _Instance:
    """One instance of a function, as Lambda runs it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def invoke(self, number: int, **event: object) -> str:
        """Invoke the function, freeze the instance, and return the result."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        given: dict[str, object] = {"number": number, "id": f"request-{number}"}
        self.process.stdin.write(json.dumps({**given, **event}) + "\n")
        self.process.stdin.flush()
        result = self.process.stdout.readline().strip()
        self.process.send_signal(signal.SIGSTOP)
        return result


@contextmanager
def _instance(
    ledger: Ledger, scratch: Path, flush_timeout: float = 20.0
) -> Iterator[_Instance]:
    scratch.mkdir(exist_ok=True)
    environ = ledger.environment(linger=5)
    del environ["OUTLAY_JOURNAL_DIR"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integrations.lambda_program", str(flush_timeout)],
        cwd=_ROOT,
        env={
            **environ,
            "AWS_LAMBDA_FUNCTION_NAME": "summaries",
            "HOME": os.devnull,  # as useless as Lambda's
            "TMPDIR": str(scratch),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Instance(process)
    finally:
        process.kill()
        with process:
            process.wait(DEADLINE)


def _check(ledger: Ledger, numbers: range) -> None:
    found = {customer: ledger.total_of(customer) for customer in CUSTOMERS}
    assert found == totals(numbers)


def test_costs_have_arrived_before_the_instance_is_frozen(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Lambda may kill a frozen instance, and its disk goes with it."""
    numbers = range(1, 11)
    with _instance(ledger, tmp_path / "scratch") as instance:
        for number in numbers:
            result = instance.invoke(number, fails=number == 5)
            assert ledger.counts.accepted == number
            expected = "failed" if number == 5 else str(tmp_path / "scratch" / "outlay")
            assert result == expected
    shutil.rmtree(tmp_path / "scratch")

    _check(ledger, numbers)


def test_a_repeated_invocation_counts_once(ledger: Ledger, tmp_path: Path) -> None:
    """Lambda repeats an asynchronous invocation under the same id, anywhere."""
    for _ in range(2):
        with _instance(ledger, tmp_path / "scratch") as instance:
            instance.invoke(1)

    _check(ledger, range(1, 2))


def test_sigterm_ships_what_is_left(ledger: Ledger, tmp_path: Path) -> None:
    """The server did not respond in time, and now the instance ends."""
    with _instance(ledger, tmp_path / "scratch", flush_timeout=0) as instance:
        for number in range(1, 4):
            instance.invoke(number)
        instance.process.send_signal(signal.SIGCONT)
        instance.process.terminate()
        # Python runs no handler of a signal that came right before a blocking read.
        assert instance.process.stdin is not None
        instance.process.stdin.close()
        code = instance.process.wait(DEADLINE)

    assert code == 128 + signal.SIGTERM
    _check(ledger, range(1, 4))


def test_an_asynchronous_handler_is_refused() -> None:
    """Lambda would return the coroutine, and nothing would run."""

    async def handle(event: Any, context: Any) -> None:  # noqa: ANN401 - of any trigger
        pass

    with pytest.raises(ConfigError, match=r"asyncio\.run"):
        outlay.integrations.aws_lambda.handler()(handle)
