"""fork(): the child owns nothing of its parent's, and takes nothing from it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from outlay._fork import PidForkDetector
from tests.support.events import total_of
from tests.support.processes import finish, run, settings_for, start
from tests.support.servers import ScriptedServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Return a server that accepts everything."""
    with ScriptedServer() as running:
        yield running


# A parent with a shipping thread, a second thread, and events that are not sent.
_PARENT = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of what we test
client = outlay.default_client()
threading.Thread(target=threading.Event().wait, daemon=True).start()
for number in range(10):
    track(client, number)

def fork(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid

def report(who):
    done = client.flush(20)
    stats = done.stats
    say(who, done.complete, stats.tracked, stats.recovered, stats.delivered)
"""


def test_a_child_ships_its_own_events_and_none_of_its_parents(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Forked in a program with threads and events pending: everything arrives once."""
    program = (
        _PARENT
        + """
def child():
    before = client.stats()
    for number in range(10, 15):
        track(client, number)
    report("child")
    say("before", before.tracked, before.pending)

os.waitpid(fork(child), 0)
report("parent")
"""
    )

    said = run(program, settings_for(server.url, tmp_path, linger=30))

    assert said.splitlines() == [
        "child True 5 0 5",
        "before 0 0",
        "parent True 10 0 10",
    ]
    assert server.total == total_of(range(15))
    assert server.duplicates == 0


def test_a_child_that_vanishes_leaves_its_events_to_its_parent(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """os._exit, as multiprocessing does it: no hook runs, the journal stays."""
    program = (
        _PARENT
        + """
def child():
    for number in range(10, 15):
        track(client, number)

os.waitpid(fork(child), 0)
report("parent")
"""
    )

    said = run(program, settings_for(server.url, tmp_path, linger=30))

    assert said == "parent True 10 5 15\n"
    assert server.total == total_of(range(15))


def test_a_child_that_ends_normally_ships_at_its_exit(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Its exit hook is its own; the parent's events stay the parent's."""
    program = (
        _PARENT
        + """
pid = os.fork()
if pid == 0:
    for number in range(10, 15):
        track(client, number)
    sys.exit()
os.waitpid(pid, 0)
say(client.stats().pending)
report("parent")
"""
    )

    said = run(program, settings_for(server.url, tmp_path, linger=30))

    assert said == "10\nparent True 10 0 10\n"
    assert server.total == total_of(range(15))


def test_a_grandchild_ships_like_any_other(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Daemons fork twice."""
    program = (
        _PARENT
        + """
def grandchild():
    for number in range(20, 25):
        track(client, number)
    report("grandchild")

def child():
    for number in range(10, 15):
        track(client, number)
    os.waitpid(fork(grandchild), 0)
    report("child")

os.waitpid(fork(child), 0)
report("parent")
"""
    )

    said = run(program, settings_for(server.url, tmp_path, linger=30))

    assert said.splitlines() == [
        "grandchild True 5 0 5",
        "child True 5 0 5",
        "parent True 10 0 10",
    ]
    assert server.total == total_of([*range(15), *range(20, 25)])
    assert server.duplicates == 0


def test_a_child_that_becomes_another_program_keeps_no_lock(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Fork then exec: the new program is an ordinary process of the destination."""
    program = (
        _PARENT
        + """
pid = os.fork()
if pid == 0:
    code = "import outlay; print(outlay.flush(20).stats.recovered, flush=True)"
    os.execv(sys.executable, [sys.executable, "-c", code])
os.waitpid(pid, 0)
report("parent")
"""
    )

    said = run(program, settings_for(server.url, tmp_path, linger=30))

    assert said == "0\nparent True 10 0 10\n", "a living parent has no adopter"
    assert server.total == total_of(range(10))


def test_a_living_child_does_not_keep_its_dead_parents_events(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """A pre-forking server's master dies, its workers live on for days."""
    settings = settings_for(server.url, tmp_path, linger=30)
    program = (
        _PARENT
        + """
def child():
    say(os.getpid())
    threading.Event().wait(60)

fork(child)
threading.Event().wait(60)
"""
    )
    said = _said_by_the_adopter(program, settings)

    assert said == "10\n"
    assert server.total == total_of(range(10))


def test_a_living_child_keeps_no_lock_of_a_client_that_nobody_holds_any_more(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Its thread ships on; no hook of the client's can tell the child to let go."""
    settings = settings_for(server.url, tmp_path, linger=30)
    program = """
import gc

def child():
    say(os.getpid())
    threading.Event().wait(60)

client = outlay.Client()
for number in range(10):
    track(client, number)
del client
gc.collect()
if os.fork() == 0:
    child()
threading.Event().wait(60)
"""
    said = _said_by_the_adopter(program, settings)

    assert said == "10\n"
    assert server.total == total_of(range(10))


def test_a_child_of_a_closed_client_finds_it_closed(tmp_path: Path) -> None:
    """What the parent has ended does not come back to life."""
    program = """
client = outlay.default_client()
track(client, 1)
client.close(0)
pid = os.fork()
if pid == 0:
    try:
        track(client, 2)
    except outlay.ClosedError:
        say("closed")
    os._exit(0)
os.waitpid(pid, 0)
"""
    unused = f"http://127.0.0.1:{free_port()}"

    assert run(program, settings_for(unused, tmp_path, shipping="none")) == "closed\n"


def test_a_fork_during_close_leaves_no_lock_with_the_child(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """A worker is forked by another thread while the old client still flushes."""
    server.stop()
    settings = settings_for(server.url, tmp_path)
    program = (
        _PARENT
        + """
def child():
    try:
        track(client, 99)
    except outlay.ClosedError:
        say(os.getpid())
    threading.Event().wait(60)

closing = threading.Thread(target=client.close, args=(60,), daemon=True)
closing.start()
while client._lifecycle.state is not outlay._lifecycle.ClientState.CLOSED:
    threading.Event().wait(0.001)
fork(child)
threading.Event().wait(60)
"""
    )
    parent = start(program, settings)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait(10)
    server.restart()

    said = run("say(outlay.flush(20).stats.recovered)", settings)
    _kill(child)
    finish(parent, code=-signal.SIGKILL)

    assert said == "10\n"
    assert server.total == total_of(range(10))


def test_multiprocessing_workers_lose_nothing(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Its children end without exit hooks; the parent inherits."""
    program = (
        _PARENT
        + """
import multiprocessing

def work(first):
    for number in range(first, first + 5):
        track(client, number)

context = multiprocessing.get_context("fork")
workers = [context.Process(target=work, args=(first,)) for first in (100, 200, 300)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
done = client.flush(20)
say(done.complete, done.stats.recovered + done.stats.tracked)
"""
    )

    run(program, settings_for(server.url, tmp_path, linger=30))

    workers = [*range(100, 105), *range(200, 205), *range(300, 305)]
    assert server.total == total_of([*range(10), *workers])


def _kill(pid: int) -> None:

    os.kill(pid, signal.SIGKILL)


def _said_by_the_adopter(program: str, settings: dict[str, object]) -> str:
    """Kill a program whose child lives on; return what its adopter recovers."""
    parent = start(program, settings)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait(10)

    said = run("say(outlay.flush(20).stats.recovered)", settings)
    _kill(child)
    finish(parent, code=-signal.SIGKILL)
    return said


# As uWSGI forks: Python does not learn of it. The parent has one thread: a child could
# wait for ever for another to give the interpreter back, and no library can help that.
_ALONE = """
import ctypes
below = ctypes.PyDLL(None)
client = outlay.default_client()

def be_alone():
    while len(os.listdir("/proc/self/task")) > 1:
        pass  # the thread that imported for the client is about to end

def fork_below(work):
    be_alone()
    pid = below.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid

def track_all(numbers):
    for number in numbers:
        track(client, number)

def report(who):
    done = client.flush(20)
    stats = done.stats
    say(who, done.complete, stats.tracked, stats.recovered, stats.delivered)
"""


def _delivered_later(server: ScriptedServer, journal_dir: Path) -> str:
    """Return what the next process reports."""
    return run(_ALONE + "report('adopter')", settings_for(server.url, journal_dir))


def test_a_child_that_python_knows_nothing_of_writes_over_no_event(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """It has its parent's segments mapped, and would take them for its own."""
    program = (
        _ALONE
        + """
track_all(range(10))
children = [fork_below(lambda: track_all(range(n, n + 50))) for n in (100, 200, 300)]
track_all(range(10, 50))
for pid in children:
    os.waitpid(pid, 0)
"""
    )
    run(program, settings_for(server.url, tmp_path, shipping="none"))

    assert _delivered_later(server, tmp_path) == "adopter True 0 200 200\n"
    assert server.total == total_of(
        [*range(50), *range(100, 150), *range(200, 250), *range(300, 350)]
    )
    assert server.duplicates == 0


@pytest.mark.parametrize("work", ["client.close()", "sys.exit()"])
def test_a_child_that_python_knows_nothing_of_ends_nothing_of_its_parents(
    server: ScriptedServer, tmp_path: Path, work: str
) -> None:
    """It would say that the parent's segments are finished, which go on."""
    program = (
        _ALONE
        + f"""
track_all(range(10))
be_alone()
pid = below.fork()
if pid == 0:
    {work}
    os._exit(0)
os.waitpid(pid, 0)
say(segment_files(pathlib.Path({str(tmp_path)!r}))[0].read_bytes()[10])  # "sealed"
track_all(range(10, 20))
"""
    )
    program = (
        f"import pathlib\nfrom tests.support.journals import segment_files\n{program}"
    )

    said = run(program, settings_for(server.url, tmp_path, shipping="none"))

    assert said == "0\n"
    assert _delivered_later(server, tmp_path) == "adopter True 0 20 20\n"
    assert server.total == total_of(range(20))
    assert server.duplicates == 0


def test_a_child_that_python_knows_nothing_of_ships_its_own_events(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """It starts a thread of its own, as its parent does later."""
    program = (
        _ALONE
        + """
def child():
    track_all(range(10, 15))
    report("child")

os.waitpid(fork_below(child), 0)
track_all(range(10))
report("parent")
"""
    )

    said = run(program, settings_for(server.url, tmp_path, linger=30))

    assert said.splitlines() == ["child True 5 0 5", "parent True 10 0 10"]
    assert server.total == total_of(range(15))


def test_a_process_knows_itself_without_a_wiped_page() -> None:
    """Older kernels, and others, have none."""
    mark = PidForkDetector()
    fresh = mark[0]
    mark[0] = 1

    pid = os.fork()
    if pid == 0:
        os._exit(mark[0])
    in_child = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert (fresh, mark[0], in_child) == (0, 1, 0)
