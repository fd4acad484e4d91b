"""Run many small programs, each in a fork of one process that has imported outlay.

A Python process takes a second of processor time to import outlay and a provider's
package, and a page's program takes some milliseconds more. A fork takes only these.
The process that forks has one thread and no client, so each program begins as in a
process of its own.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import types
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from tests.support.processes import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOT: Final = Path(__file__).parents[2]
_IMPORTED: Final = ("outlay", "outlay.api", "httpx", "openai")
"""The modules that most programs of the pages import."""


class Ran(NamedTuple):
    """The exit code of a program, and its output."""

    code: int
    out: str
    err: str


def run_alone(program: str, variables: Mapping[str, object]) -> Ran:
    """Run a program that must be the first to import its modules, as gevent's must."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=_ROOT,
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


class Programs:
    """Runs programs, one after the other. A context manager."""

    def __init__(self, folder: Path) -> None:
        """Prepare to run programs whose output is written to files in ``folder``."""
        self._output = [folder / "stdout", folder / "stderr"]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(
        self, program: str, variables: Mapping[str, object], *, timeout: float = 50
    ) -> Ran:
        """Run a program to its end, with warnings as errors.

        Args:
            program: The source text.
            variables: The ``OUTLAY_*`` variables, and others to add.
            timeout: The limit in seconds.

        Raises:
            TimeoutError: The program did not end in time. It is killed.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        request = [program, environment(variables), *map(str, self._output)]
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], timeout)
        code = process.stdout.readline() if ready else ""
        if not code:
            self._stop()
            raise TimeoutError(f"the program did not end in {timeout} s:\n{program}")
        return Ran(int(code), *(path.read_text("utf-8") for path in self._output))

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.docs.programs"],
            cwd=_ROOT,
            env=environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self._process

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _next_program() -> str | None:
    """Fork for each request; return the program in the child, and None at the end."""
    for line in sys.stdin:
        program, variables, *output = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(variables, output)
            return str(program)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return None


def _become(variables: dict[str, str], output: list[str]) -> None:
    """Take the variables and the output files of a program."""
    os.environ.clear()
    os.environ.update(variables)
    sources = [os.devnull, *output]
    modes = [os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2]
    for number, (path, mode) in enumerate(zip(sources, modes, strict=True)):
        opened = os.open(path, mode, 0o600)
        os.dup2(opened, number)
        os.close(opened)


def _main() -> None:
    for name in _IMPORTED:
        __import__(name)
    gc.freeze()  # else each program looks for garbage in all modules as it ends
    program = _next_program()
    if program is not None:
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        sys.argv = ["-c"]
        exec(compile(program, "<page>", "exec"), vars(module))  # noqa: S102 - its job


if __name__ == "__main__":
    _main()
