"""Test the built wheel in environments of its own: ``make lanes``.

Each lane creates an environment in ``.lanes/``, installs the wheel from ``dist/`` and
runs tests against the installed package:

- without extras, and with each extra alone, the suite ``tests/smoke``;
- with the lowest versions that ``pyproject.toml`` admits;
- with each newer Python that is on this machine.

The last two run the smoke suite, and with ``--full`` the unit and property suites.

Packages that do not fit into the usual environment have lanes with suites of their own:
frameworks that call providers, and packages that need older versions of others. Other
lanes test each integration with the lowest version of its framework that
``pyproject.toml`` admits. The newest versions are in the usual environment, or in the
lanes of frameworks. All these lanes run with ``--full`` or by their names: ``make
frameworks``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from scripts.checks import ROOT, Result, check, report

if TYPE_CHECKING:
    from collections.abc import Iterator

_LANES: Final = ROOT / ".lanes"
_INSTALL_MINUTES: Final = 5
_TEST_MINUTES: Final = 15
_TOOLS: Final = ("hypothesis", "pytest", "pytest-timeout", "pytest-xdist")
_EXTRAS: Final = ("cli", "otel", "pricing", "server")
APART: Final = ("frameworks", "openai2", "aiobotocore", "tracing")
"""Suites in ``tests/``, each with the extra ``test-NAME``."""
_OPTIONS: Final = {
    # Traceloop 0.62 imports with what pydantic deprecates.
    "tracing": ("-W", "default::DeprecationWarning"),
}
_NEWER_PYTHONS: Final = ("3.12", "3.13", "3.14")
_SMOKE: Final = ("tests/smoke",)
_FULL: Final = ("tests/smoke", "tests/unit", "tests/property")
_CORE: Final = ""
"""Stands for the dependencies of outlay without extras."""
_WEB_AND_QUEUES: Final = (
    *("arq", "celery", "django", "dramatiq", "fastapi", "flask", "litestar", "rq"),
    "starlette",
)


class Lane(NamedTuple):
    """An environment, and the tests that run in it.

    Attributes:
        name: The name of its folder and of its row in the table.
        extras: The extras of outlay that are installed.
        tests: The folders of tests.
        python: The interpreter. Empty if this machine has none.
        lowest: The extras of which the lowest admitted versions are installed.
        beside: More packages, such as those that fit to the lowest versions.
        options: More arguments of pytest.
    """

    name: str
    extras: tuple[str, ...]
    tests: tuple[str, ...] = _SMOKE
    python: str = sys.executable
    lowest: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def lanes(*, full: bool) -> list[Lane]:
    """Return the lanes. With ``full``, all of them, with more than the smoke suite."""
    tests = _FULL if full else _SMOKE
    return [
        Lane("wheel", ()),
        *(Lane(f"wheel[{extra}]", (extra,)) for extra in _EXTRAS),
        Lane("lowest versions", _EXTRAS, tests, lowest=(_CORE, *_EXTRAS)),
        *(
            Lane(f"Python {version}", _EXTRAS, tests, python=_python(version))
            for version in _NEWER_PYTHONS
        ),
        *((*_lanes_apart(), *_lowest_frameworks()) if full else ()),
    ]


def _lanes_apart() -> Iterator[Lane]:
    for name in APART:
        extras = ("otel", "pricing", f"test-{name}")
        yield Lane(name, extras, (f"tests/{name}",), options=_OPTIONS.get(name, ()))


def _lowest_frameworks() -> Iterator[Lane]:
    """Yield the lanes of the integrations' lowest frameworks, in groups that fit."""
    apart, openai2 = "tests/frameworks/test_{}.py", "tests/openai2/test_{}.py"
    yield _lowest_lane(
        _WEB_AND_QUEUES, "tests/integrations", beside=("granian>=2.5", "gunicorn>=23")
    )
    yield _lowest_lane(
        ("langchain",),
        apart.format("langchain_handler"),
        beside=(
            *("boto3", "langchain==1.0.0", "langchain-anthropic==1.0.0"),
            *("langchain-openai==1.0.0", "langgraph==1.0.0"),
        ),
    )
    yield _lowest_lane(
        ("llama-index",),
        openai2.format("llama_index_handler"),
        beside=("boto3", "llama-index-llms-openai<0.6"),
    )
    yield _lowest_lane(
        ("mcp", "openai-agents", "pydantic-ai"),
        *map(
            apart.format,
            ("mcp", "openai_agents_processor", "pydantic_ai_capability"),
        ),
        beside=("boto3", "pydantic-ai-slim[anthropic,openai]"),
    )
    yield _lowest_lane(("litellm",), "tests/capture/providers/test_litellm_proxy.py")


def _lowest_lane(
    integrations: tuple[str, ...], *tests: str, beside: tuple[str, ...] = ()
) -> Lane:
    return Lane(
        f"lowest {', '.join(integrations)}",
        ("otel", "pricing", "server", *integrations),
        tests,
        lowest=integrations,
        beside=beside,
        # Earlier releases use what their newer dependencies deprecate.
        options=("-W", "default::DeprecationWarning", "-W", "default::UserWarning"),
    )


def run(lane: Lane) -> Result:
    """Install the wheel for a lane, and run its tests."""
    if not lane.python:
        return Result(lane.name, "not run: not on this machine", 0, failed=False)
    print(f"\n== {lane.name}", flush=True)
    wheels = [*(ROOT / "dist").glob("outlay-*.whl")]
    if len(wheels) != 1:
        outcome = f"{len(wheels)} wheels in dist/, not one"
        return Result(lane.name, outcome, 0, failed=True, repeat=("make wheel",))
    started = time.monotonic()
    ran = _installed(lane, wheels[0])
    if not ran.failed:
        ran = _tested(lane)
    return ran._replace(seconds=time.monotonic() - started)


def folder(lane: Lane) -> Path:
    """Return the environment of a lane."""
    return _LANES / re.sub(r"\W+", "-", lane.name).strip("-")


def _python_of(lane: Lane) -> str:
    return str(folder(lane) / "bin" / "python")


def _installed(lane: Lane, wheel: Path) -> Result:
    shutil.rmtree(folder(lane), ignore_errors=True)
    python = _python_of(lane)
    extras = f"[{','.join(lane.extras)}]" if lane.extras else ""
    packages = [f"{wheel}{extras}", *_TOOLS, *lane.beside, *_lowest(lane)]
    if "tests/unit" in lane.tests:
        packages.append("import-linter")  # brings rich, so not where `cli` is missing
    create = [lane.python, "-m", "venv", str(folder(lane))]
    install = [*_installer(python), "--quiet", *packages]
    ran = check(lane.name, create, minutes=_INSTALL_MINUTES)
    if not ran.failed:
        ran = check(lane.name, install, minutes=_INSTALL_MINUTES)
    if ran.failed:
        ran = ran._replace(outcome=f"not installed: {ran.outcome}")
    return ran


def _installer(python: str) -> list[str]:
    """Return the command that installs for an interpreter: uv, or pip without it."""
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        return [str(uv), "pip", "install", "--python", python]
    return [python, "-m", "pip", "install"]


def _tested(lane: Lane) -> Result:
    workers = ["--numprocesses=2", "-m", "not serial"] if len(lane.tests) > 1 else []
    apart = (f"test-{Path(tests).parts[1]}" for tests in lane.tests)
    extras = " ".join((*lane.extras, *apart))
    pytest = (_python_of(lane), "-m", "pytest", *lane.options)
    words = [*pytest, "-q", "--timeout=600", *workers, *lane.tests]
    return check(
        lane.name,
        words,
        minutes=_TEST_MINUTES,
        tests=("env", f"OUTLAY_TEST_EXTRAS={extras}", *pytest),
        OUTLAY_TEST_EXTRAS=extras,
    )


def _lowest(lane: Lane) -> Iterator[str]:
    """Yield ``package==version`` for each lower bound of a lane's dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    of_extra = {_CORE: project["dependencies"], **project["optional-dependencies"]}
    for requirement in (each for extra in lane.lowest for each in of_extra[extra]):
        if found := re.match(r"([\w-]+)>=([\d.]+)", requirement):
            yield f"{found[1]}=={found[2]}"


def _python(version: str) -> str:
    """Return the path of a Python that starts, or '' if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [
        shutil.which(f"python{version}") or "",
        *map(str, sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)),
    ]
    for path in filter(None, found):
        # pyenv's own `python3.12` exists also where it can start none.
        started = subprocess.run(
            [path, "-c", "import ensurepip, sqlite3, ssl"],
            check=False,
            capture_output=True,
        )
        if started.returncode == 0:
            return path
    return ""


def main() -> int:
    """Run all lanes, print the table, and return 1 if one is red."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="run the unit and property suites, too"
    )
    parser.add_argument(
        "--lowest", action="store_true", help="run the lowest frameworks only"
    )
    parser.add_argument("name", nargs="*", help="run these lanes only")
    given = parser.parse_args()
    chosen = lanes(full=given.full)
    if given.name:
        known = {lane.name: lane for lane in (*lanes(full=True), *chosen)}
        chosen = [known[name] for name in given.name]
    if given.lowest:
        chosen = [*_lowest_frameworks()]
    results = [run(lane) for lane in chosen]
    print(f"\n{report(results)}", end="")
    return int(any(each.failed for each in results))


if __name__ == "__main__":
    sys.exit(main())
