"""Disks that are full, read-only, forbidden or gone."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from outlay import Client
from outlay._journal.folders import DestinationFolder
from tests.support import disks
from tests.support.events import assert_conserved, total_of, track
from tests.support.journals import segment_files
from tests.support.processes import run, settings_for
from tests.support.servers import ScriptedServer, free_port

needs_root = pytest.mark.skipif(
    not disks.may_mount(),
    reason="mounting a file system, or giving up root, takes root",
)

_KIB: Final = 1024


def _client(server: ScriptedServer, spill_dir: Path) -> Client:
    return Client(
        base_url=server.url,
        spill_dir=spill_dir,
        segment_bytes=256 * _KIB,
        linger=0.0,
        batching="always",
    )


@needs_root
def test_a_full_disk_degrades_to_memory_and_every_event_arrives(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program fills the disk; the application goes on, and so do its costs."""
    (small_disk / "ballast").write_bytes(bytes(900 * _KIB))

    with ScriptedServer() as server:
        client = _client(server, small_disk)
        receipt = client.track_cost(
            "cost.a", "1.5", customer_id="c", operation_id="first"
        )
        report = client.flush(20)
        (small_disk / "ballast").unlink()
        stats = client.close(20).stats

    assert not receipt.durable
    assert "kept in memory only" in caplog.text
    assert report.complete
    assert str(server.total) == "1.5"
    assert (stats.tracked, stats.delivered) == (1, 1)
    assert_conserved(stats)


@needs_root
def test_a_disk_without_room_for_the_first_file_is_left_clean(small_disk: Path) -> None:
    """A client tries every second: what it leaves each time would add up."""
    (small_disk / "spill").mkdir()
    for folder in ("", "/dead"):
        (small_disk / f"spill/d{folder}").mkdir()
    ballast = (small_disk / "ballast").open("wb", buffering=0)
    with ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(512))

    with pytest.raises(OSError, match="No space left"):
        DestinationFolder(small_disk / "spill" / "d").prepare(
            base_url="http://127.0.0.1:1", namespace=None, now_ms=0
        )

    assert [path.name for path in (small_disk / "spill/d").iterdir()] == ["dead"]


@needs_root
def test_a_disk_that_fills_up_while_tracking_loses_nothing(small_disk: Path) -> None:
    """Blocks are allocated with the segment: no store ever hits a hole (SIGBUS)."""
    numbers = range(3000)

    with ScriptedServer() as server:
        client = _client(server, small_disk)
        durable = 0
        for number in numbers:
            receipt = client.track_cost(
                "cost.a",
                "0.001",
                customer_id="c",
                operation_id=number,
                data={"padding": "x" * 500},
            )
            durable += receipt.durable
        report = client.close(30)

    assert durable > 0
    assert report.complete
    assert_conserved(report.stats)
    assert report.stats.delivered + sum(report.stats.dropped.values()) == 3000
    assert len(server.amounts) == report.stats.delivered
    assert segment_files(small_disk) == []


@needs_root
def test_a_read_only_disk_degrades_to_memory(small_disk: Path) -> None:
    """Containers often have no writable disk at all."""
    disks.remount(small_disk, "ro")

    with ScriptedServer() as server:
        client = _client(server, small_disk / "spill")
        track(client, 1)
        report = client.close(20)

    assert report.complete
    assert server.total == total_of([1])
    assert_conserved(report.stats)


_FORBIDDEN: Final = """
with outlay.Client(durability="memory") as first:  # imports all while it may
    first.track_cost("cost.a", "1", customer_id="c", operation_id="1")
os.seteuid(65534)
client = outlay.Client()
client.track_cost("cost.a", "1.5", customer_id="c", operation_id="2")
say(client.close(20).stats.delivered)
"""


@needs_root
@pytest.mark.parametrize("exists", [True, False], ids=["ours", "missing"])
def test_a_folder_that_belongs_to_somebody_else_degrades_to_memory(
    tmp_path: Path, *, exists: bool
) -> None:
    """A job ran as root once; now it runs as the application's user."""
    spill_dir = tmp_path / "spill"
    if exists:
        spill_dir.mkdir(mode=0o700)

    with ScriptedServer() as server:
        said = run(_FORBIDDEN, settings_for(server.url, spill_dir))

    assert said == "1\n"
    assert str(server.total) == "2.5"


_UNUSABLE_HOME: Final = """
receipt = outlay.track_cost("cost.a", "2.5", customer_id="c", operation_id="1")
say(receipt.durable, outlay.default_client()._journal.folder.path.parent)
outlay.close()
"""


@pytest.mark.parametrize("home", ["file", "/proc/state", "/sys/state"])
def test_without_a_usable_home_the_journal_moves_to_a_private_temporary_folder(
    tmp_path: Path, home: str
) -> None:
    """Services often run as a user without one; memory alone would be worse."""
    if home == "file":
        home = str(tmp_path / "home")
        (tmp_path / "home").write_text("not a folder")
    variables = settings_for(f"http://127.0.0.1:{free_port()}", tmp_path)
    variables = {k: v for k, v in variables.items() if k != "OUTLAY_SPILL_DIR"}

    said = run(
        _UNUSABLE_HOME,
        {
            **variables,
            "OUTLAY_SHIPPING": "none",
            "XDG_STATE_HOME": home,
            "TMPDIR": tmp_path,
        },
    )

    assert said == f"True {tmp_path}/outlay-{os.getuid()}\n"
    assert (tmp_path / f"outlay-{os.getuid()}").stat().st_mode & 0o777 == 0o700


_SMALL_FILES: Final = """
import resource
from tests.support.journals import make_journal, payloads, take_all
from tests.support.events import payload
from pathlib import Path
journal = make_journal(Path(os.environ["SPILL"]))
for number in range(20):
    journal.append(payload(number))
events = take_all(journal)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for event in events:
    journal.bury(event, "dead", "rejected", "no")
letters = list(journal.folder.dead_path.iterdir())[0].read_text().splitlines()
say(len(letters), journal.reader.parked_count(), all(l[-1] == "}" for l in letters))
"""


def test_a_dead_letter_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A disk that fills up in the middle of a line must not cost the event."""
    whole, parked, all_whole = run(_SMALL_FILES, {"SPILL": tmp_path}).split()

    assert int(whole) > 0
    assert int(whole) + int(parked) == 20
    assert all_whole == "True"


def test_a_folder_deleted_under_a_shipping_client_loses_nothing_that_is_delivered(
    tmp_path: Path,
) -> None:
    """The mapping outlives the name: what was being read is still delivered."""
    with ScriptedServer() as server:
        client = _client(server, tmp_path / "spill")
        track(client, 1)
        assert client.flush(20).complete
        shutil.rmtree(tmp_path / "spill")
        for number in range(2, 1500):
            track(client, number)
        report = client.close(30)

    assert report.complete
    assert server.total == total_of(range(1, 1500))
    assert_conserved(report.stats)


def test_a_segment_that_cannot_be_deleted_does_not_end_shipping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk turned read-only refuses that, too; all that is on it is settled."""
    with ScriptedServer() as server:
        client = _client(server, tmp_path)
        track(client, 0)
        assert client.flush(20).complete
        (segment,) = segment_files(tmp_path)
        # It is mapped. In the place of its name is what no unlink() takes away.
        segment.unlink()
        segment.mkdir()
        for number in range(1, 1500):
            track(client, number)
        complete = client.flush(20).complete
        kept = segment.exists()
        segment.rmdir()
        segment.touch()
        track(client, 1500)
        client.flush(20)
        gone = not segment.exists()
        report = client.close(20)

    assert complete
    assert f"cannot delete {segment}" in caplog.text
    assert (kept, gone) == (True, True)
    assert report.complete
    assert server.total == total_of(range(1501))
    assert_conserved(report.stats)


_OUT_OF_FILES: Final = """
from pathlib import Path
import resource
from tests.support.clock import ManualClock
from tests.support.journals import segment_files

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
clock = ManualClock()

def take_all_but(free):
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(free):
            os.close(taken.pop())
        return taken

for free in range(8):
    folder = Path(os.environ["ROOT"], str(free))
    client = outlay.Client(
        shipping="none", durability="disk", spill_dir=folder, clock=clock
    )
    client._journal.prepared_folder()
    taken = take_all_but(free)
    for number in range(10):
        track(client, number)
        clock.advance(1.0)  # it tries the disk again
    left = take_all_but(0)
    for descriptor in [*taken, *left]:
        os.close(descriptor)
    hidden = len([*folder.glob("*/.new-*")])
    say(free, hidden, len(segment_files(folder)), client.stats().pending)
    client.close(0)
"""


def test_a_process_out_of_file_descriptors_leaves_no_rubbish_on_disk(
    tmp_path: Path,
) -> None:
    """It tries every second, for hours perhaps; and each file takes up a segment."""
    said = run(_OUT_OF_FILES, {"ROOT": tmp_path})

    lines = [[*map(int, line.split())] for line in said.splitlines()]
    assert [free for free, *_ in lines] == [*range(8)]
    assert {hidden for _, hidden, _, _ in lines} == {0}
    # At most the one that events went to: with enough descriptors there was one.
    assert {segments for _, _, segments, _ in lines} == {0, 1}
    assert {pending for *_, pending in lines} == {10}


_OUT_OF_MEMORY: Final = """
import resource
from pathlib import Path
from tests.support.events import payload
from tests.support.journals import make_journal

journal = make_journal(Path(os.environ["ROOT"]), in_memory=True)
event = payload(1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
unlimited = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000, unlimited))
try:
    journal.append(event)
except outlay.JournalError as error:
    resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
    say(type(error).__name__, "neither a disk" in str(error))
for _ in range(6000):  # bytes that were counted and not used would be missing
    journal.append(event)
say(journal.appended_count())
"""


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="this system does not tell"
)
def test_an_event_that_finds_neither_disk_nor_memory_is_dropped_and_counted() -> None:
    """`track_cost` raises nothing then, as little as it does when a limit is reached.

    The client counts what the journal refuses with this error.
    """
    said = run(_OUT_OF_MEMORY, {"ROOT": "/nowhere"})

    assert said == "SpillFullError True\n6000\n"
