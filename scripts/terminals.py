"""Draw what commands print in a terminal, for ``docs/terminals/``.

Run it from the repository's root::

    python -m scripts.terminals

The costs, the names and the clock of the first commands are the same in every run. A
test compares their pictures with what the commands print today.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from outlay.server import BackgroundServer, ServerSettings
from tests.support.showcase import API_KEY, send_events, send_revenue, showcase_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FOLDER: Final = Path(__file__).parent.parent / "docs" / "terminals"
COLUMNS: Final = 80
A_DAY: Final = 60
"""The number of events of a working day."""


class Picture(NamedTuple):
    """The name of a picture, and the words of its command."""

    name: str
    words: Sequence[str]


COSTS: Final = Picture("costs", ["costs", "--by", "provider", "--month", "2026-10"])
MARGINS: Final = Picture(
    "margins", ["margins", "--month", "2026-10", "--sort", "worst", "--top", "5"]
)
DOCTOR: Final = Picture("doctor", ["doctor"])
DEMO: Final = Picture("demo", ["demo"])


def main() -> None:
    """Draw all pictures."""
    FOLDER.mkdir(exist_ok=True)
    demo = drawn(DEMO, printed(DEMO.words, {}))
    for picture, svg in [*steady_pictures(), (DOCTOR, doctor()), (DEMO, demo)]:
        (FOLDER / f"{picture.name}.svg").write_text(svg, "utf-8")


def steady_pictures() -> Iterator[tuple[Picture, str]]:
    """Yield the pictures that are the same in every run."""
    with (
        showcase_server() as server,
        tempfile.TemporaryDirectory() as folder,
        httpx.Client(
            base_url=server.url,
            headers={"authorization": f"Bearer {API_KEY}"},
            trust_env=False,
        ) as client,
    ):
        send_events(client, a_day=A_DAY)
        send_revenue(client)
        variables = {
            "OUTLAY_BASE_URL": server.url,
            "OUTLAY_API_KEY": API_KEY,
            "OUTLAY_JOURNAL_DIR": folder,
        }
        for picture in (COSTS, MARGINS):
            yield picture, drawn(picture, printed(picture.words, variables))


def doctor() -> str:
    """Return the picture of a check of a machine that is in order."""
    settings = ServerSettings(
        port=4600, database=":memory:", api_key=API_KEY, default_metrics=True
    )
    with (
        BackgroundServer(settings) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        variables = {
            "OUTLAY_BASE_URL": server.url,
            "OUTLAY_API_KEY": API_KEY,
            "OUTLAY_JOURNAL_DIR": folder,
        }
        output = printed(DOCTOR.words, variables)
    return drawn(DOCTOR, output.replace(folder, "/var/lib/product/outlay"))


def printed(words: Sequence[str], variables: Mapping[str, str]) -> str:
    """Return what a command prints on a terminal, with its colours."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OUTLAY_")}
    inherited.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "outlay", *words],
        env={**inherited, "TERM": "xterm-256color", "LANG": "C.UTF-8", **variables},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    ):
        os.close(theirs)
        output = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return output.decode().replace("\r\n", "\n")


def _read(descriptor: int) -> bytes:
    """Return the next bytes, or none at the end, which Linux reports as an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def drawn(picture: Picture, output: str) -> str:
    """Return an SVG of a terminal with a command and its output."""
    console = Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(Text.from_ansi(f"$ outlay {' '.join(picture.words)}"))
    console.print(Text.from_ansi(output.rstrip("\n")))
    svg = console.export_svg(
        title="outlay", theme=SVG_EXPORT_THEME, unique_id=picture.name
    )
    # The fonts of other hosts are left out: a page of the site loads nothing of theirs.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    main()
