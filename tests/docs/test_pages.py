"""What the README and the pages show is what happens."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from outlay._capture.providers import MODULES
from outlay.server import BackgroundServer, ServerSettings
from tests.docs.blocks import Block, Command, blocks, commands, shows
from tests.docs.programs import Programs, run_alone
from tests.support import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
START: Final = ROOT / "docs" / "start.md"
PAGES: Final = sorted(
    page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts
)
OTHER_PAGES: Final = [ROOT / "CONTRIBUTING.md", ROOT / "changelog.d" / "README.md"]
PROJECT: Final = "https://github.com/outlay-dev/outlay"
KEY: Final = "sk_test_docs"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """The process whose forks run the programs of the pages."""
    with Programs(tmp_path_factory.mktemp("programs")) as programs:
        yield programs


@pytest.fixture
def variables(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of a server of one's own, as a reader has exported them."""
    with BackgroundServer(
        ServerSettings(port=0, database=":memory:", api_key=KEY, default_metrics=True)
    ) as server:
        yield {
            "OUTLAY_BASE_URL": server.url,
            "OUTLAY_API_KEY": KEY,
            "OUTLAY_JOURNAL_DIR": str(tmp_path),
        }


@pytest.fixture
def development(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings that lead to a server for development, which the README starts."""
    words = ["serve", "--dev", "--port", "0", "--db", ":memory:"]
    process = command_line.start(*words)
    try:
        assert process.stdout is not None
        lines = iter(process.stdout)
        while not (found := re.search(r"export OUTLAY_BASE_URL=(\S+)", next(lines))):
            pass
        yield {"OUTLAY_BASE_URL": found[1], "OUTLAY_JOURNAL_DIR": str(tmp_path)}
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.timeout(200)  # five programs, one after the other
@pytest.mark.parametrize("page", [README, START], ids=lambda page: page.name)
def test_first_pages_tell_the_truth_from_top_to_bottom(
    page: Path, development: dict[str, str], programs: Programs
) -> None:
    """The first pages that newcomers read must work as they stand, in their order."""
    variables = development
    done = 0
    for block in blocks(page):
        if block.language == "python":
            run_python(block, variables, programs)
            done += 1
        elif block.language == "console":
            for command in commands(block):
                done += run_command(block, command, variables)

    assert done >= 3


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=block.name)
        for page in PAGES
        if page != START  # it runs from top to bottom, see above
        for block in blocks(page)
        if block.language == "python" and block.runs and not block.is_tests
    ],
)
def test_python_on_a_page_runs(
    block: Block, variables: dict[str, str], programs: Programs
) -> None:
    """Readers copy what they see. A fragment is marked: ```python no-run."""
    run_python(block, variables, programs)


@pytest.mark.parametrize(
    "page", [README, *PAGES, *OTHER_PAGES], ids=lambda page: f"{page.relative_to(ROOT)}"
)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    """A dead link is a promise that is not kept."""
    source = page.read_text(encoding="utf-8")
    relative = re.findall(r"\]\((?!https?:|#)([^)#]+)", source)
    absolute = re.findall(rf"{PROJECT}/(?:blob|tree)/main/([^)#]*)", source)

    assert [path for path in relative if not (page.parent / path).exists()] == []
    assert [path for path in absolute if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.relative_to(ROOT)}")
def test_links_to_a_section_lead_there(page: Path) -> None:
    """A renamed heading leaves its readers at the top of a long page."""
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))

    for target, anchor in links:
        other = (page.parent / target) if target else page
        assert anchor in anchors(other), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings
    }


def test_links_of_the_readme_work_on_a_package_index() -> None:
    """An index shows the README at an address of its own."""
    source = README.read_text(encoding="utf-8")

    assert re.findall(r"\]\((?!https:|#)[^)]+", source) == []


def test_links_of_the_project_lead_somewhere() -> None:
    """An index shows them beside the README."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    for url in project["urls"].values():
        assert url.startswith(PROJECT)
        path = re.sub(rf"{PROJECT}/?(blob|tree)?(/main/)?", "", url)
        assert path == "issues" or (ROOT / path).exists()


def test_every_decision_is_in_the_index() -> None:
    """Decisions are found by their titles."""
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \|", index, re.MULTILINE)
    pages = sorted(folder.glob("0*.md"))

    assert [name for *_, name in rows] == [page.name for page in pages]
    for (number, title, _), page in zip(rows, pages, strict=True):
        head = page.read_text(encoding="utf-8").partition("\n")[0]
        assert head == f"# {number}. {title}"


def test_readme_is_short() -> None:
    """Who has to scroll for long does not read to the end."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120


def test_readme_names_every_command_and_only_those() -> None:
    """A command that the first page does not name is not found."""
    section = README.read_text("utf-8").partition("## Commands")[2].partition("## ")[0]
    offered = re.findall(r"^    (\w+)\b", command_line.call("--help").out, re.MULTILINE)

    assert set(re.findall(r"`outlay (\w+)`", section)) == set(offered)


def test_what_the_readme_installs_and_makes_exists() -> None:
    """The commands that a test cannot run in reasonable time must at least exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    makefile = (ROOT / "Makefile").read_text()
    shown = README.read_text(encoding="utf-8")

    shown_extras = re.findall(r"pip install '\.\[([\w,]+)\]'", shown)
    assert shown_extras
    for extra in ",".join(shown_extras).split(","):
        assert extra in project["optional-dependencies"]
    for target in re.findall(r"^\$ make (\w+)", shown, re.MULTILINE):
        assert f"\n{target}:" in makefile


def run_python(block: Block, variables: Mapping[str, str], programs: Programs) -> None:
    """Run a block, and compare what it prints with what the page shows."""
    program = "import tests.docs.stand_in\n" if "openai.OpenAI()" in block.text else ""
    run = run_alone if "monkey.patch_all()" in block.text else programs.run
    ran = run(program + block.text, {**variables, "OPENAI_API_KEY": "sk-none"})

    assert ran.code == 0, f"{block.name}: {ran.err}"
    assert "Traceback" not in ran.err, f"{block.name} logs\n{ran.err}"
    if block.output is not None:
        assert shows(block.output, ran.out), f"{block.name} prints\n{ran.out}"


def run_command(block: Block, command: Command, variables: Mapping[str, str]) -> bool:
    """Run a command of outlay, and return whether it was one that can be run here.

    Not run: what installs, what runs tests, and the server, which runs already.
    """
    program, *words = shlex.split(command.words)
    if program in {"pip", "make"} or words[0] == "serve":
        return False

    assert program == "outlay", f"{block.name} wants {program!r} run"
    ran = command_line.run(*words, **variables)

    assert ran.code == 0, f"{block.name}: {ran.err}"
    assert shows(command.output, ran.out), f"{block.name} prints\n{ran.out}"
    return True


def test_every_library_that_can_be_captured_is_documented() -> None:
    """A reader must find each package, and what is not captured of it."""
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    rows = "".join(re.findall(r"^\| .*", page, re.MULTILINE))

    assert [name for name in MODULES if f"`{name}`" not in rows] == []
