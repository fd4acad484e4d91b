"""What any release wrote, every later one reads: as bytes that are frozen here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from outlay._journal.frames import FORMAT_VERSION
from tests.support.journals import make_journal, payloads, segment_files, take_all

FORMATS: Final[dict[str, dict[str, Any]]] = json.loads(
    Path(__file__).with_name("formats.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("version", FORMATS)
def test_each_format_is_shipped_as_it_was_tracked(tmp_path: Path, version: str) -> None:
    """An upgrade must change no byte of what an older release may have sent."""
    journal = make_journal(tmp_path)
    journal.append(b"{}")
    journal.close()
    (segment,) = segment_files(tmp_path)
    written = bytes.fromhex(FORMATS[version]["segment"])
    segment.write_bytes(written.ljust(segment.stat().st_size, b"\0"))

    adopter = make_journal(tmp_path)
    adopter.adopt_orphans()

    sent = [payload.decode() for payload in payloads(take_all(adopter))]
    assert sent == FORMATS[version]["bodies"]


def test_the_present_format_is_among_them() -> None:
    """A new format comes with an example of it."""
    assert [*FORMATS] == [str(each + 1) for each in range(FORMAT_VERSION)]
