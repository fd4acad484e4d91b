"""The first call of a program imports what it needs, and may be struck meanwhile.

Each program here makes its first call in an unusual place, or is interrupted in it by
code that makes one, too. Whatever its calls returned keys for must be in the journal.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from outlay import Client
from tests.support.processes import run
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from pathlib import Path

_PRELUDE: Final = """
import gc, itertools
assert "pydantic" not in sys.modules

numbers = itertools.count()

def call():
    say(track(outlay, os.getpid() * 10_000 + next(numbers)))

def at_imports(act, *modules):
    # On the thread that imports, and from within the import, until the call is over.
    def listen(event, details):
        if event == "import" and not over and (not modules or details[0] in modules):
            act()
    sys.addaudithook(listen)
    over = []
    return lambda: over.append(True)

def interrupt():
    os.kill(os.getpid(), signal.SIGUSR1)
"""


def _kept(folder: Path) -> set[str]:
    """Return the keys of the events that a later process finds, and delivers."""
    transport = ScriptedTransport()
    with Client(transport=lambda: transport, journal_dir=folder, linger=0.0) as heir:
        assert heir.flush(20).complete
    return {json.loads(body)["idempotencyKey"] for _, body in transport.posts}


def _play(folder: Path, program: str) -> set[str]:
    """Run a program, check that the keys it said are in its journal, return them."""
    variables = {"OUTLAY_JOURNAL_DIR": folder, "OUTLAY_SHIPPING": "none"}
    said = {*run(_PRELUDE + program, variables).split()}
    assert _kept(folder) == said
    return said


def test_signals_that_strike_all_along_the_first_call_lose_nothing(
    tmp_path: Path,
) -> None:
    """At every import, and inside of the handlers of those before."""
    program = """
depth = 0

def strike(*_):
    global depth
    if depth < 12:
        depth += 1
        call()
        depth -= 1

signal.signal(signal.SIGUSR1, strike)
at_imports(interrupt)
call()
"""
    assert len(_play(tmp_path, program)) > 12


@pytest.mark.parametrize("milliseconds", [1, 4, 11, 23, 38, 52, 71])
def test_a_storm_of_signals_on_the_first_call_loses_nothing(
    milliseconds: int, tmp_path: Path
) -> None:
    """Two thousand a second, from some moment on."""
    program = f"""
sys.settrace(None)  # with coverage's, a busy machine has no time left but for signals
strikes = iter(range(200))
depth = 0

def strike(*_):
    global depth
    if next(strikes, None) is None:
        signal.setitimer(signal.ITIMER_REAL, 0)
    elif depth < 12:
        depth += 1
        call()
        depth -= 1

signal.signal(signal.SIGALRM, strike)
signal.setitimer(signal.ITIMER_REAL, {milliseconds / 1000}, 0.0005)
call()
while next(strikes, None) is not None:
    signal.pause()
"""
    assert len(_play(tmp_path, program)) > 20


def test_finalisers_that_the_collector_runs_during_the_first_call_lose_nothing(
    tmp_path: Path,
) -> None:
    """It runs on whatever thread makes the next object, but not where that imports."""
    program = """
made, ended = itertools.count(), threading.Semaphore(0)

class Session:
    def __init__(self):
        self.itself = self  # only the collector ends it
        next(made)

    def __del__(self):
        call()
        ended.release()

stop = at_imports(Session)
gc.set_threshold(1)
call()
stop()
assert gc.isenabled()
for _ in range(next(made)):
    while not ended.acquire(timeout=0.1):
        gc.collect()  # does nothing while another thread collects
"""
    assert len(_play(tmp_path, program)) > 20


def test_the_collector_stays_off_where_the_program_has_it_off(tmp_path: Path) -> None:
    """It is the program's."""
    program = """
gc.disable()
call()
assert not gc.isenabled()
"""
    assert len(_play(tmp_path, program)) == 1


def test_a_child_that_another_thread_forks_during_the_first_call_can_track(
    tmp_path: Path,
) -> None:
    """It lacks the thread that imports, and the one that waits for it."""
    program = """
importing = threading.Event()
at_imports(importing.set, "pydantic_core")
first = threading.Thread(target=call)
first.start()
assert importing.wait(20)
child = os.fork()
if child == 0:
    call()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
first.join()
"""
    assert len(_play(tmp_path, program)) == 2


def test_a_handler_that_forks_during_the_first_call_splits_it_in_two(
    tmp_path: Path,
) -> None:
    """Both return from the handler, end the same call, and make another."""
    program = """
child = None

def fork(*_):
    global child
    if child is None:
        child = os.fork()

signal.signal(signal.SIGUSR1, fork)
at_imports(interrupt, "pydantic_core")
call()
call()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    assert len(_play(tmp_path, program)) == 3


def test_the_first_call_may_come_in_an_exit_hook(tmp_path: Path) -> None:
    """From Python 3.12 on, no thread can be started there."""
    program = """
import atexit
atexit.register(call)
"""
    assert len(_play(tmp_path, program)) == 1


def test_the_first_call_may_come_where_there_are_no_more_threads(
    tmp_path: Path,
) -> None:
    """The system may limit them."""
    program = """
import _thread

def refuse(*_):
    raise RuntimeError("can't start new thread")

_thread.start_new_thread = refuse
call()
"""
    assert len(_play(tmp_path, program)) == 1


def test_a_first_call_when_modules_are_being_torn_down_is_refused(
    tmp_path: Path,
) -> None:
    """Nothing can be imported any more; it says so, and Python shows it."""
    program = """
class Session:
    def __del__(self):
        try:
            call()
        except ImportError as error:
            os.write(2, str(error).encode())
            os._exit("configure() earlier" not in str(error))

session = Session()
"""
    assert _play(tmp_path, program) == set()


def test_eight_threads_may_make_the_first_call_at_once(tmp_path: Path) -> None:
    """They wait for one import, and get one client."""
    program = """
barrier = threading.Barrier(8)

def first():
    barrier.wait()
    call()

threads = [threading.Thread(target=first) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
assert len(os.listdir(os.environ["OUTLAY_JOURNAL_DIR"])) == 1
"""
    assert len(_play(tmp_path, program)) == 8


_MODULE: Final = """
import outlay, __main__
outlay.configure()
__main__.call()
"""


def test_modules_may_make_the_first_call_while_they_are_imported(
    tmp_path: Path,
) -> None:
    """Two that import each other, on two threads, so that Python has a knot to cut."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "one.py").write_text(_MODULE + "import two")
    (modules / "two.py").write_text(_MODULE + "import one")
    program = f"""
sys.path.insert(0, {str(modules)!r})
barrier = threading.Barrier(2)

def load(name):
    barrier.wait()
    __import__(name)

threads = [threading.Thread(target=load, args=(each,)) for each in ("one", "two")]
for each in threads:
    each.start()
for each in threads:
    each.join()
assert {{"one", "two"}} <= sys.modules.keys()
"""
    assert len(_play(tmp_path / "journal", program)) == 2


def test_signals_may_strike_a_module_that_makes_the_first_call(tmp_path: Path) -> None:
    """Its own import is under way, and that of what it needs."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "application.py").write_text(_MODULE)
    program = f"""
sys.path.insert(0, {str(modules)!r})
strikes = iter(range(10))
signal.signal(signal.SIGUSR1, lambda *_: next(strikes, None) is None or call())
at_imports(interrupt)
import application
"""
    assert len(_play(tmp_path / "journal", program)) == 11


def test_a_call_from_inside_of_an_import_that_it_needs_is_refused(
    tmp_path: Path,
) -> None:
    """The application imports pydantic itself, and a handler strikes in there.

    It would wait for what waits for it. The next call is served.
    """
    program = """
refused = []

def strike(*_):
    try:
        call()
    except ImportError as error:
        refused.append(str(error))

signal.signal(signal.SIGUSR1, strike)
stop = at_imports(lambda: threading.current_thread() is threading.main_thread()
    and interrupt(), "pydantic_core")
from pydantic import BaseModel
stop()
assert "from inside of the import of pydantic" in refused[0], refused
call()
"""
    assert len(_play(tmp_path, program)) == 1


@pytest.mark.parametrize("line", [2, 4, 8])
def test_a_call_may_strike_where_python_locks_all_imports(
    line: int, tmp_path: Path
) -> None:
    """Every import does, for a moment; the one that the call needs must get by."""
    program = f"""
lines = itertools.count(1)

def step(frame, event, _):
    if event == "line" and next(lines) == {line}:
        sys.settrace(None)
        call()
    return step

sys.settrace(lambda frame, *_: step if frame.f_code.co_name == "_get_module_lock"
    else None)
import colorsys
sys.settrace(None)
"""
    assert len(_play(tmp_path, program)) == 1


def test_greenlets_may_make_the_first_call_at_once(tmp_path: Path) -> None:
    """Where threads are greenlets, so is the one that imports."""
    program = """
from gevent import joinall, monkey, spawn
monkey.patch_all()
joinall([spawn(call) for _ in range(8)], raise_error=True)
"""
    assert len(_play(tmp_path, program)) == 8


def test_an_import_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    """It may be missing, or broken, and be repaired."""
    program = """
sys.modules["pydantic"] = None
for _ in range(2):
    try:
        call()
    except ImportError as error:
        assert error.name == "pydantic", error
    else:
        raise AssertionError
del sys.modules["pydantic"]
call()
"""
    assert len(_play(tmp_path, program)) == 1
