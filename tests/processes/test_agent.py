"""``outlay agent`` ships what other processes track, while any of them dies."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client
from outlay._cli.exit_codes import ExitCode
from tests.processes import agent_program
from tests.processes.ledger import DEADLINE, KEY
from tests.support import command_line
from tests.support.events import total_of, track
from tests.support.journals import segment_files
from tests.support.processes import finish, run, start
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes.ledger import Ledger

_ROOT: Final = Path(__file__).parents[2]
_SMALL: Final = 65536  # bytes of a segment: some 200 events


@contextmanager
def _agent(ledger: Ledger, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``outlay agent`` beside the test, and stop it as systemd would."""
    agent = command_line.start("agent", *words, **ledger.settings())
    assert agent.stdout is not None
    try:
        assert agent.stdout.readline().startswith("outlay agent ships to http://")
        yield agent
    finally:
        agent.send_signal(signal.SIGCONT)
        agent.terminate()
        ran = command_line.finish(agent)
    assert ran.code in {ExitCode.DONE, -signal.SIGKILL}, ran.err


def _once(ledger: Ledger, **others: object) -> command_line.Ran:
    return command_line.run("agent", "--once", **ledger.settings(**others))


def _arrived(ledger: Ledger, count: int) -> None:
    ledger.wait_for(lambda: ledger.counts.accepted >= count, f"{count} events")


_TRACK_AND_DIE: Final = """
for number in range(int(os.environ["FIRST"]), int(os.environ["FIRST"]) + 700):
    track(outlay.default_client(), number)
die()
"""


@pytest.mark.parametrize("when", ["running before", "started after"])
def test_what_was_tracked_right_before_a_sigkill_arrives(
    ledger: Ledger, when: str
) -> None:
    """The application has done its part when track_cost returned."""
    settings = {
        **ledger.settings(shipping="agent", segment_bytes=_SMALL),
        "FIRST": 0,
    }
    if when == "running before":
        with _agent(ledger):
            run(_TRACK_AND_DIE, settings, code=-signal.SIGKILL)
            _arrived(ledger, 700)
    else:
        run(_TRACK_AND_DIE, settings, code=-signal.SIGKILL)

    ran = _once(ledger)

    assert ran.code == ExitCode.DONE, ran
    assert ledger.total == total_of(range(700))
    assert ledger.counts.duplicates == 0
    assert segment_files(ledger.journal_dir) == []


_TRACK_STEADILY: Final = """
import itertools, select
for number in itertools.count(int(os.environ["FIRST"])):
    track(outlay.default_client(), number)
    say(number)
    if select.select([sys.stdin], [], [], 0.0005)[0]:
        break
say(outlay.close().stats.pending >= 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1"])
def test_agents_killed_at_random_lose_nothing_and_double_nothing(
    ledger: Ledger, seed: str
) -> None:
    """Four writers track meanwhile, from one segment to the next."""
    settings = ledger.settings(shipping="agent", segment_bytes=_SMALL)
    agents = subprocess.Popen(
        [sys.executable, "-m", agent_program.__name__, seed],
        cwd=_ROOT,
        env=ledger.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    writers = [
        start(_TRACK_STEADILY, {**settings, "FIRST": first * 1_000_000})
        for first in range(4)
    ]

    assert agents.stdout is not None
    assert agents.stdout.readline() == "killed\n"
    told: set[int] = set()
    for writer in writers:
        said, _ = writer.communicate("enough\n", timeout=DEADLINE)
        *numbers, closed = said.split()
        assert closed == "True"
        told.update(map(int, numbers))
    _, complaints = agents.communicate("the last\n", timeout=DEADLINE)

    assert (agents.returncode, complaints) == (0, "")
    assert ledger.total == total_of(told)
    assert len(told) > 4 * 2 * (_SMALL // 400), "some segments were filled"
    assert segment_files(ledger.journal_dir) == []


def test_an_agent_and_clients_that_ship_for_themselves_share_a_folder(
    ledger: Ledger,
) -> None:
    """A process that dies is adopted, by the agent or by a sibling, once."""
    settings = ledger.settings(segment_bytes=_SMALL)
    with _agent(ledger):
        writers = [
            start(
                _TRACK_AND_DIE,
                {**settings, "OUTLAY_SHIPPING": shipping, "FIRST": 1000 * at},
            )
            for at, shipping in enumerate(["thread", "agent"] * 2)
        ]
        for writer in writers:
            finish(writer, code=-signal.SIGKILL)

    ran = _once(ledger)

    assert ran.code == ExitCode.DONE, ran
    numbers = [1000 * at + number for at in range(4) for number in range(700)]
    assert ledger.total == total_of(numbers)
    assert segment_files(ledger.journal_dir) == []


@pytest.mark.serial
def test_a_stopped_agent_goes_on_where_it_was(ledger: Ledger) -> None:
    """It holds its locks meanwhile, so no other process sends its events."""
    program = """
client = outlay.default_client()
for number in range(100):
    track(client, number)
say(client.flush(20).complete)
sys.stdin.readline()
for number in range(100, 1000):
    track(client, number)
say(client.flush(0.5).complete, client.stats().pending)
sys.stdin.readline()
say(client.flush(20).complete, client.stats().delivered)
"""
    writer = start(program, ledger.settings(shipping="agent", segment_bytes=_SMALL))
    assert writer.stdin is not None
    assert writer.stdout is not None
    with _agent(ledger) as agent:
        said = [writer.stdout.readline()]
        agent.send_signal(signal.SIGSTOP)
        writer.stdin.write("go on\n")
        writer.stdin.flush()
        said.append(writer.stdout.readline())
        idle = _once(ledger)
        agent.send_signal(signal.SIGCONT)
        said.append(finish_with(writer, "go on\n"))

    assert said == ["True\n", "False 900\n", "True 1000\n"]
    assert idle.out.startswith("0 events delivered")
    assert ledger.total == total_of(range(1000))
    assert ledger.counts.duplicates == 0


def finish_with(process: subprocess.Popen[str], line: str) -> str:
    """Say a last line to ``process``, and return what it says until its end."""
    said, complained = process.communicate(line, timeout=DEADLINE)
    assert process.returncode == 0, complained
    return said


def test_an_application_pays_for_no_thread_and_no_connection(ledger: Ledger) -> None:
    """That is what the agent is for."""
    program = """
def is_socket(descriptor):
    try:
        return os.readlink("/proc/self/fd/" + descriptor).startswith("socket:")
    except OSError:
        return False

track(outlay.default_client(), 1)
report = outlay.flush(20)
threads = threading.active_count()
sockets = [at for at in os.listdir("/proc/self/fd") if is_socket(at)]
outlay.close()
say(report.complete, threads, len(os.listdir("/proc/self/task")), *sockets)
"""
    with _agent(ledger):
        said = run(program, ledger.settings(shipping="agent"))

    assert said == "True 1 1\n"
    assert ledger.total == total_of([1])


def test_a_forked_child_writes_to_a_folder_of_its_own(ledger: Ledger) -> None:
    """Parent and child, and a child of a thread's: the agent ships all of them."""
    program = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of what we test
client = outlay.default_client()
threading.Thread(target=threading.Event().wait, daemon=True).start()
for number in range(10):
    track(client, number)
pid = os.fork()
if pid == 0:
    for number in range(10, 15):
        track(client, number)
    say("child", *client.flush(20)[1][:3])
    die()
os.waitpid(pid, 0)
say("parent", *client.flush(20)[1][:3])
"""
    with _agent(ledger):
        said = run(program, ledger.settings(shipping="agent"))

    assert said == "child 5 0 5\nparent 10 0 10\n"
    assert ledger.total == total_of(range(15))
    assert ledger.counts.duplicates == 0


def test_a_destination_without_its_credential_stays_untouched(ledger: Ledger) -> None:
    """Its costs belong to another account, and the agent says so at its start."""
    settings = {**ledger.settings(shipping="agent"), "FIRST": 0}
    run(_TRACK_AND_DIE, settings, code=-signal.SIGKILL)
    strangers = {**settings, "OUTLAY_API_KEY": "sk_test_2", "FIRST": 5000}
    run(_TRACK_AND_DIE, strangers, code=-signal.SIGKILL)
    (ours,) = {path.parents[1] for path in segment_files(ledger.journal_dir)} - {
        theirs := _destination_of(ledger, 5000)
    }
    before = _contents(theirs)

    agent = command_line.start("agent", **ledger.settings())
    _arrived(ledger, 700)
    agent.terminate()
    ran = command_line.finish(agent)

    assert _contents(theirs) == before
    assert ledger.total == total_of(range(700))
    assert str(ours) in ran.out.splitlines()[0]
    assert f"not shipped: {theirs.name} (" in ran.out.splitlines()[0]
    assert "another credential" in ran.out.splitlines()[0]
    assert KEY not in ran.out + ran.err


def _destination_of(ledger: Ledger, number: int) -> Path:
    key = f'"operationId":"op-{number}"'.encode()
    (found,) = [
        path.parents[1]
        for path in segment_files(ledger.journal_dir)
        if key in path.read_bytes()
    ]
    return found


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Its life as a command.


def test_once_says_what_is_left_and_fails_without_a_server(ledger: Ledger) -> None:
    """A scheduler that runs it has to hear of it; the next run ships the rest."""
    down = f"http://127.0.0.1:{free_port()}"
    settings = {**ledger.settings(shipping="agent"), "OUTLAY_BASE_URL": down}
    run(_TRACK_AND_DIE, {**settings, "FIRST": 0}, code=-signal.SIGKILL)

    ran = command_line.run("agent", "--once", "--timeout", "0.5", **settings)

    assert ran.code == ExitCode.REFUSED
    assert "700 events left in " in ran.out
    assert f"no response from {down}" in ran.out


def test_once_that_cannot_ship_all_does_not_say_that_it_has(ledger: Ledger) -> None:
    """With few files to open, dead writers are adopted a few at a time, or not."""
    settings = ledger.settings()
    for number in range(60):
        program = f"track(outlay.default_client(), {number}); die()"
        if number % 20:
            with Client(
                base_url=str(settings["OUTLAY_BASE_URL"]),
                api_key=KEY,
                journal_dir=ledger.journal_dir,
                shipping="none",
            ) as client:
                track(client, number)
        else:
            run(program, ledger.settings(shipping="none"), code=-signal.SIGKILL)

    ran = subprocess.run(
        ["sh", "-c", 'ulimit -n 64; exec "$0" -m outlay agent --once', sys.executable],
        env=ledger.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE,
    )

    arrived_all = ledger.counts.accepted == 60
    assert (ran.returncode == ExitCode.DONE) == arrived_all, ran.stdout + ran.stderr
    assert arrived_all == (segment_files(ledger.journal_dir) == [])
    assert "Traceback" not in ran.stderr


def test_once_ships_what_living_writers_have_tracked(ledger: Ledger) -> None:
    """And leaves them to go on."""
    program = """
client = outlay.default_client()
for number in range(10):
    track(client, number)
say("tracked")
sys.stdin.readline()
say(client.stats().delivered)
track(client, 10)
"""
    writer = start(program, ledger.settings(shipping="agent"))
    assert writer.stdout is not None
    assert writer.stdout.readline() == "tracked\n"

    first = _once(ledger)
    said = finish_with(writer, "go on\n")
    second = _once(ledger)

    assert (first.code, first.out) == (ExitCode.DONE, "10 events delivered\n")
    assert said == "10\n"
    assert (second.code, second.out) == (ExitCode.DONE, "1 event delivered\n")
    assert ledger.total == total_of(range(11))


def test_a_told_agent_ships_what_there_is_and_ends_well(ledger: Ledger) -> None:
    """As a client's close does, within exit_timeout."""
    agent = command_line.start("agent", **ledger.settings())
    assert agent.stdout is not None
    agent.stdout.readline()
    writer = {**ledger.settings(shipping="agent"), "FIRST": 0}
    run(_TRACK_AND_DIE, writer, code=-signal.SIGKILL)

    agent.terminate()
    ran = command_line.finish(agent)

    assert (ran.code, ran.err) == (ExitCode.DONE, "")
    assert ran.out == "stopped; 700 events delivered\n"
    assert ledger.total == total_of(range(700))


def test_help_has_an_example_and_fits() -> None:
    """As of every command."""
    ran = command_line.call("agent", "--help")

    assert ran.code == ExitCode.DONE
    assert re.search(r"\nexamples:\n  outlay agent", ran.out)
    assert [line for line in ran.out.splitlines() if len(line) > 88] == []


def _may_unshare() -> bool:
    program = shutil.which("unshare")
    if program is None or os.getuid() != 0:
        return False
    words = [program, "--pid", "--fork", "true"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _may_unshare(), reason="this user may make no pid namespace")
def test_an_agent_in_another_pid_namespace_is_the_same_to_the_locks(
    ledger: Ledger,
) -> None:
    """A sidecar: it shares the volume, and sees no process of the application."""
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    sidecar = subprocess.Popen(
        [*words, sys.executable, "-m", "outlay", "agent"],
        cwd=_ROOT,
        env=ledger.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sidecar.stdout is not None
    try:
        assert sidecar.stdout.readline().startswith("outlay agent ships to http://")
        program = """
track(outlay.default_client(), 1)
say(outlay.flush(20).complete, outlay.default_client()._pipeline.journal.is_shipped())
sys.stdin.readline()
"""
        writer = start(program, ledger.settings(shipping="agent"))
        assert writer.stdout is not None
        said = writer.stdout.readline()
        second = _once(ledger)
        finish_with(writer, "go on\n")
    finally:
        sidecar.kill()
        sidecar.communicate()

    assert said == "True True\n"
    assert second.out == "0 events delivered\n"
    assert ledger.total == total_of([1])
