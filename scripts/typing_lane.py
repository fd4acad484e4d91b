"""Check what users' type checkers see of outlay: ``make typing``.

- mypy, basedpyright and ty check ``tests/typing``. Each must report an error on the
  lines that are marked ``# type: ignore``, and on no other line.
- basedpyright measures how much of the public interface in the built wheel has a known
  type. It must be at least 98 %.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT: Final = Path(__file__).parents[1]
MIN_COMPLETENESS: Final = 0.98

_PAGES: Final = sorted((ROOT / "tests" / "typing").glob("*.py"))
_BIN: Final = Path(sysconfig.get_path("scripts"))


def lines_with_errors() -> dict[str, Callable[[], set[str]]]:
    """Return each checker's function, which returns ``file:line`` of its errors."""
    return {"mypy": _mypy, "basedpyright": _basedpyright, "ty": _ty}


def marked_lines() -> set[str]:
    """Return ``file:line`` of the lines on which an error is expected."""
    return {
        f"{page.name}:{number}"
        for page in _PAGES
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1)
        if "# type: ignore" in line
    }


def _without_marks(folder: Path) -> None:
    """Write copies of the pages in which the marks have no effect."""
    for page in _PAGES:
        text = page.read_text("utf-8").replace("# type: ignore", "# expected")
        (folder / page.name).write_text(text, "utf-8")


def _mypy() -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        _without_marks(Path(folder))
        command = (sys.executable, "-m", "mypy", "--strict", "--no-error-summary")
        shown = _run(*command, "--python-executable", sys.executable, folder)
        return set(_places(re.findall(r"^(.+?:\d+): error", shown, re.MULTILINE)))


def _basedpyright() -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        _without_marks(Path(folder))
        shown = _run(
            _BIN / "basedpyright",
            *("--pythonpath", sys.executable, "--outputjson", folder),
        )
    return {
        f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}"
        for each in json.loads(shown)["generalDiagnostics"]
        if each["severity"] == "error"
    }


def _ty() -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        _without_marks(Path(folder))
        shown = _run(
            _BIN / "ty",
            *("check", "--python", sys.prefix, "--no-progress"),
            *("--output-format", "concise", folder),
        )
    return set(_places(re.findall(r"^(.+?:\d+):\d+: error", shown, re.MULTILINE)))


def _places(found: list[str]) -> list[str]:
    return [Path(each).name for each in found]


def completeness() -> float:
    """Return the share of public symbols in the wheel whose type is known."""
    (wheel,) = (ROOT / "dist").glob("outlay-*.whl")
    with tempfile.TemporaryDirectory() as folder:
        # An installed wheel beside the packages of this environment.
        venv.create(folder, with_pip=False)
        (packages,) = Path(folder).glob("lib/python*/site-packages")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
        others = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "others.pth").write_text("\n".join(others))
        path = f"{Path(folder) / 'bin'}{os.pathsep}{os.environ['PATH']}"
        shown = _run(
            _BIN / "basedpyright",
            *("--verifytypes", "outlay", "--ignoreexternal", "--outputjson"),
            cwd=folder,
            env={**os.environ, "PATH": path},
        )
    report = json.loads(shown)["typeCompleteness"]
    for symbol in report["symbols"]:
        for each in symbol["diagnostics"]:
            if each["severity"] == "error":
                print(f"  {symbol['name']}: {each['message']}")
    return float(report["completenessScore"])


def _run(
    *words: Path | str,
    cwd: str | Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> str:
    ran = subprocess.run(
        words, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    return ran.stdout


def main() -> int:
    """Check all, print what differs, and return 1 if something does."""
    expected = marked_lines()
    red = not expected
    for name, found in lines_with_errors().items():
        lines = found()
        for line in sorted(expected - lines):
            print(f"{name}: {line} has no error, and should")
        for line in sorted(lines - expected):
            print(f"{name}: {line} has an error, and should not")
        print(f"{name}: {len(lines & expected)} of {len(expected)} errors found")
        red |= lines != expected
    score = completeness()
    print(f"completeness: {score:.1%} (at least {MIN_COMPLETENESS:.0%})")
    return int(red or score < MIN_COMPLETENESS)


if __name__ == "__main__":
    sys.exit(main())
