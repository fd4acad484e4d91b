"""Programs that end, with the server up, down or hanging; and their successors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.support.events import total_of
from tests.support.journals import segment_files
from tests.support.processes import finish, run, settings_for, start
from tests.support.servers import Fault, ScriptedServer, free_port

if TYPE_CHECKING:
    from pathlib import Path

_TRACK = """
for number in range(5):
    track(outlay.default_client(), number)
"""

_SHIP = """
report = outlay.flush(20)
say(report.complete, report.stats.recovered, report.stats.delivered)
"""


def test_a_script_that_ends_right_after_tracking_delivers(tmp_path: Path) -> None:
    """A script does not call close(). The exit hook does."""
    with ScriptedServer() as server:
        run(_TRACK, settings_for(server.url, tmp_path))

        assert server.total == total_of(range(5))
    assert segment_files(tmp_path) == []


def test_a_script_that_fails_delivers_what_it_tracked(tmp_path: Path) -> None:
    """The provider was paid, whatever happened next."""
    with ScriptedServer() as server:
        run(_TRACK + "1 / 0", settings_for(server.url, tmp_path), code=1)

        assert server.total == total_of(range(5))


@pytest.mark.serial
@pytest.mark.parametrize("trouble", ["down", "hanging"])
def test_without_a_server_the_exit_keeps_its_deadline_and_the_next_process_delivers(
    tmp_path: Path, trouble: str
) -> None:
    """A program must not hang at its end because a server does."""
    with ScriptedServer(lambda _: Fault.HANG) as server:
        if trouble == "down":
            server.stop()
        started = time.monotonic()
        run(_TRACK, settings_for(server.url, tmp_path, exit_timeout=0.5))
        took = time.monotonic() - started
        if trouble == "hanging":
            server.stop()
        server.respond = server.accept
        server.restart()

        said = run(_SHIP, settings_for(server.url, tmp_path))

        assert took < 5
        assert said == "True 5 5\n"
        assert server.total == total_of(range(5))


def test_an_exit_timeout_of_zero_leaves_everything_to_the_next_process(
    tmp_path: Path,
) -> None:
    """For short-lived commands that must not wait at all."""
    with ScriptedServer() as server:
        settings = settings_for(server.url, tmp_path, exit_timeout=0, linger=30)
        run(_TRACK, settings)
        before = server.total

        run(_SHIP, settings)

        assert before == 0
        assert server.total == total_of(range(5))


def test_sigterm_with_the_usual_handler_delivers(tmp_path: Path) -> None:
    """Containers are stopped this way; sys.exit() runs the exit hook."""
    program = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        + _TRACK
        + "say('tracked')\nthreading.Event().wait(60)\n"
    )
    with ScriptedServer() as server:
        process = start(program, settings_for(server.url, tmp_path, linger=30))
        assert process.stdout is not None
        assert process.stdout.readline() == "tracked\n"
        process.terminate()
        finish(process)

        assert server.total == total_of(range(5))


def test_os_exit_loses_nothing(tmp_path: Path) -> None:
    """It skips every hook; the journal does not need one."""
    with ScriptedServer() as server:
        settings = settings_for(server.url, tmp_path, linger=30)
        run(_TRACK + "os._exit(0)", settings)
        before = server.total

        said = run(_SHIP, settings)

        assert before == 0
        assert said == "True 5 5\n"
        assert server.total == total_of(range(5))


def test_shipping_none_leaves_the_events_to_a_process_that_ships(
    tmp_path: Path,
) -> None:
    """And makes no thread, no connection."""
    unused = f"http://127.0.0.1:{free_port()}"
    said = run(
        _TRACK + "say(threading.active_count())",
        settings_for(unused, tmp_path, shipping="none"),
    )

    assert said == "1\n"
    assert len(segment_files(tmp_path)) == 1


def test_the_next_process_delivers_without_tracking_anything_itself(
    tmp_path: Path,
) -> None:
    """Starting a client is enough."""
    with ScriptedServer() as server:
        settings = settings_for(server.url, tmp_path, linger=30)
        run(_TRACK + "die()", settings, code=-9)

        program = "outlay.default_client()\nsys.stdin.readline()"
        adopter = start(program, settings_for(server.url, tmp_path))
        server.wait_for(lambda: len(server.amounts) == 5)
        adopter.kill()
        finish(adopter, code=-9)

        assert server.total == total_of(range(5))
