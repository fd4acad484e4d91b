"""Disks that are full, read-only, forbidden or gone."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final, Literal

import pytest

from outlay import Client
from outlay._journal.admin import inspect as inspection
from outlay._journal.folders import DestinationFolder
from outlay._shipping.agent import Agent
from tests.support import disks
from tests.support.clock import ManualClock
from tests.support.events import assert_conserved, total_of, track
from tests.support.journals import segment_files
from tests.support.processes import run, settings_for
from tests.support.servers import Fault, ScriptedServer, free_port

needs_root = pytest.mark.skipif(
    not disks.may_mount(),
    reason="mounting a file system, or giving up root, takes root",
)

_KIB: Final = 1024


def _client(server: ScriptedServer, journal_dir: Path) -> Client:
    return Client(
        base_url=server.url,
        journal_dir=journal_dir,
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
    (small_disk / "journal").mkdir()
    for folder in ("", "/dead"):
        (small_disk / f"journal/d{folder}").mkdir()
    ballast = (small_disk / "ballast").open("wb", buffering=0)
    with ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(512))

    with pytest.raises(OSError, match="No space left"):
        DestinationFolder(small_disk / "journal" / "d").prepare(
            base_url="http://127.0.0.1:1", namespace=None, now_ms=0
        )

    assert [path.name for path in (small_disk / "journal/d").iterdir()] == ["dead"]


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
        client = _client(server, small_disk / "journal")
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


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("exists", [True, False], ids=["ours", "missing"])
def test_a_folder_that_belongs_to_somebody_else_degrades_to_memory(
    tmp_path: Path, *, exists: bool
) -> None:
    """A job ran as root once; now it runs as the application's user."""
    journal_dir = tmp_path / "journal"
    if exists:
        journal_dir.mkdir(mode=0o700)

    with ScriptedServer() as server:
        said = run(_FORBIDDEN, settings_for(server.url, journal_dir))

    assert said == "1\n"
    assert str(server.total) == "2.5"


_UNUSABLE_HOME: Final = """
receipt = outlay.track_cost("cost.a", "2.5", customer_id="c", operation_id="1")
say(receipt.durable, outlay.default_client()._pipeline.journal.folder.path.parent)
outlay.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("home", ["file", "/proc/state", "/sys/state"])
def test_without_a_usable_home_the_journal_moves_to_a_private_temporary_folder(
    tmp_path: Path, home: str
) -> None:
    """Services often run as a user without one; memory alone would be worse."""
    if home == "file":
        home = str(tmp_path / "home")
        (tmp_path / "home").write_text("not a folder")
    variables = settings_for(f"http://127.0.0.1:{free_port()}", tmp_path)
    variables = {k: v for k, v in variables.items() if k != "OUTLAY_JOURNAL_DIR"}

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
sys.dont_write_bytecode = True  # else an import could leave a compiled file cut short
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
for event in events:
    journal.move_to_dead_letters(event, "dead", "rejected", "no")
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
        client = _client(server, tmp_path / "journal")
        track(client, 1)
        assert client.flush(20).complete
        shutil.rmtree(tmp_path / "journal")
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


@needs_root
def test_an_agent_on_a_full_disk_tells_the_writer_what_became_of_its_events(
    small_disk: Path,
) -> None:
    """The line about a finished segment finds room once the segment has gone."""
    with ScriptedServer() as server:
        client = Client(
            base_url=server.url,
            journal_dir=small_disk / "journal",
            segment_bytes=64 * _KIB,
            shipping="agent",
        )
        for number in range(1000):
            track(client, number)
        ballast = (small_disk / "ballast").open("wb", buffering=0)
        with ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(512))
        settings = client.settings.model_copy(update={"batching": "always"})
        with Agent(settings) as agent:
            shipped = agent.flush(20)
            report = client.flush(20)
        client.close()

    assert shipped
    assert report.complete
    assert (report.stats.delivered, report.stats.pending) == (1000, 0)
    assert server.total == total_of(range(1000))


@pytest.mark.parametrize("shipping", ["thread", "agent", "none"])
def test_what_is_in_memory_at_the_end_goes_to_a_disk_that_is_back(
    tmp_path: Path, shipping: Literal["thread", "agent", "none"]
) -> None:
    """No process tracks any more, the server is away, and the disk has room again."""
    with ScriptedServer(lambda _: Fault.RESET) as server:
        in_the_way = tmp_path / "journal"
        in_the_way.touch()
        clock = ManualClock()
        client = Client(
            base_url=server.url,
            journal_dir=in_the_way,
            shipping=shipping,
            batching="always",
            linger=0.0,
            clock=clock,
        )
        for number in range(5):
            track(client, number)
        client.flush(0.1)
        in_the_way.unlink()
        report = client.close(0.1)
        attempted = bool(server.requests)
        (destination,) = inspection.destinations(tmp_path / "journal")
        kept = [*destination.events(lambda _: None)]
        server.respond = server.accept
        adopter = _client(server, tmp_path / "journal")
        complete = adopter.close(20).complete

    assert not report.complete
    assert (report.stats.pending, report.stats.dropped) == (5, {})
    assert_conserved(report.stats)
    assert attempted == (shipping == "thread")
    # What may have arrived is in doubt on disk as well, or it could count twice.
    assert {event.may_have_been_counted for event in kept} == {attempted}
    assert (len(kept), complete) == (5, True)
    # The clock of the attempts stands long ago.
    assert server.total == (0 if attempted else total_of(range(5)))


@pytest.mark.parametrize("durability", ["process", "memory"])
def test_what_no_disk_takes_at_the_end_is_dropped_counted_and_reported(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    durability: Literal["process", "memory"],
) -> None:
    """It ends with the process; that must not go unnoticed."""
    in_the_way = tmp_path / "journal"
    in_the_way.touch()
    told = []
    client = Client(
        base_url=f"http://127.0.0.1:{free_port()}",
        journal_dir=in_the_way,
        durability=durability,
        linger=0.0,
        on_drop=lambda event, reason: told.append((event.subject, reason)),
    )
    for number in range(3):
        track(client, number)
    report = client.close(0.1)

    assert not report.complete
    assert (report.stats.pending, report.stats.dropped) == (0, {"memory_only": 3})
    assert (report.stats.tracked, len(told)) == (3, 3)
    assert {reason for _, reason in told} == {"memory_only"}
    assert "events are dropped (memory_only)" in caplog.text
    assert_conserved(report.stats)


def test_a_folder_deleted_before_anything_was_read_loses_nothing(
    tmp_path: Path,
) -> None:
    """And the next event goes to a new one: a receipt must not promise a lost file."""
    with ScriptedServer() as server:
        client = Client(
            base_url=server.url, journal_dir=tmp_path / "journal", linger=30
        )
        for number in range(10):
            track(client, number)
        shutil.rmtree(tmp_path / "journal")
        first = client.flush(20)
        durable = client.track_cost(
            "cost.b", "1", customer_id="c", operation_id="b"
        ).durable
        there = segment_files(tmp_path / "journal")
        second = client.close(20)

    assert (first.complete, first.stats.delivered, first.stats.pending) == (True, 10, 0)
    assert (durable, len(there)) == (True, 1)
    assert second.stats.delivered == 11
    assert server.total == total_of(range(10)) + 1


def test_what_somebody_deletes_unread_is_counted_as_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A backlog of finished files: no process has them open, and none can deliver them.

    For ever pending would be a lie, and so would a flush that says all is done.
    """
    server = ScriptedServer()
    server.stop()
    client = _client(server, tmp_path)
    for number in range(6000):
        track(client, number)
    backlog = segment_files(tmp_path)
    for segment in backlog[1:-1]:
        segment.unlink()
    server.restart()
    report = client.flush(20)
    stats = client.close(20).stats
    server.stop()

    assert len(backlog) > 3
    assert report.complete
    assert (stats.pending, stats.dropped) == (0, {})
    assert stats.damaged > 0
    assert len(server.amounts) == stats.delivered == 6000 - stats.damaged
    assert "was deleted; its undelivered events are lost" in caplog.text
    assert_conserved(stats)


def test_a_segment_that_cannot_be_opened_for_now_is_read_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that is out of file descriptors, say, must not forget its own events.

    Its lock keeps all others from them for as long as it lives.
    """
    server = ScriptedServer()
    server.stop()
    client = _client(server, tmp_path)
    for number in range(6000):
        track(client, number)
    hidden = segment_files(tmp_path)[-2]  # one batch was read: the first ones are open
    aside = hidden.rename(tmp_path / "aside")
    hidden.mkdir()
    server.restart()
    first = client.flush(1)
    for _ in range(20):  # the first flush may end before the server has events
        if first.stats.pending < 6000 and hidden.name in caplog.text:
            break
        first = client.flush(1)
    hidden.rmdir()
    aside.rename(hidden)
    second = client.flush(20)
    client.close()
    server.stop()

    assert not first.complete
    assert 0 < first.stats.pending < 6000
    assert f"{hidden.name} was left as it is" in caplog.text
    assert second.complete
    assert server.total == total_of(range(6000))


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
        shipping="none", durability="disk", journal_dir=folder, clock=clock
    )
    client._pipeline.journal.prepared_folder()
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


_CLOSE_OUT_OF_FILES: Final = """
import resource

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
dropped = []
client = outlay.Client(
    journal_dir=os.environ["ROOT"],
    shipping=os.environ["SHIPPING"],
    on_drop=lambda event, reason: dropped.append((event.data["operationId"], reason)),
)
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for number in range(5):
    track(client, number)
result = client.close(0.2)
os.close(taken.pop())
say(result.complete, result.stats.dropped, result.stats.pending)
say(len(dropped), {reason for _, reason in dropped}, len({key for key, _ in dropped}))
"""


@pytest.mark.parametrize("shipping", ["thread", "none"])
def test_a_client_that_is_closed_out_of_file_descriptors_counts_what_it_drops(
    tmp_path: Path, shipping: str
) -> None:
    """Nothing is imported that late, and nothing raised. The hook hears of each."""
    said = run(_CLOSE_OUT_OF_FILES, {"ROOT": tmp_path, "SHIPPING": shipping})

    result, hooks = said.splitlines()
    assert result.endswith("{'memory_only': 5} 0")
    assert hooks == "5 {'memory_only'} 5"


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
except outlay.errors.JournalError as error:
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

    assert said == "JournalFullError True\n6000\n"
