"""A client that the user has made, and a process that forks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.events import total_of
from tests.support.processes import run, settings_for
from tests.support.servers import ScriptedServer

if TYPE_CHECKING:
    from pathlib import Path

_PARENT: Final = """
import httpx, logging
logging.basicConfig(level=logging.ERROR, stream=sys.stdout, format="%(message)s")
client = outlay.Client(http_client={lent})
track(client, 0)
client.flush(20)

def child():
    track(client, 1)
    report = client.flush({patience})
    say("child", report.complete, report.stats.pending)

if (pid := os.fork()) == 0:
    child()
    os._exit(0)
os.waitpid(pid, 0)
track(client, 2)
say("parent", client.flush(20).complete)
client.close()
"""


@pytest.mark.slow
def test_a_child_makes_a_client_of_its_own(tmp_path: Path) -> None:
    """A function is called again where the process is another."""
    with ScriptedServer() as server:
        said = run(
            _PARENT.format(lent="httpx.Client", patience=20),
            settings_for(server.url, tmp_path),
        )

    assert said.splitlines() == ["child True 0", "parent True"]
    assert server.total == total_of(range(3))
    assert server.duplicates == 0


@pytest.mark.slow
def test_a_child_never_writes_to_its_parents_connections(tmp_path: Path) -> None:
    """Two that write to one socket mix their requests; so the child waits, and says.

    Its event is not lost: the parent, or the next process, inherits it.
    """
    with ScriptedServer() as server:
        said = run(
            _PARENT.format(lent="httpx.Client()", patience=0.3),
            settings_for(server.url, tmp_path),
        )

    assert "child False 1" in said
    assert "parent True" in said
    assert "pass a function that makes it" in said
    assert server.total == total_of(range(3))
    assert server.duplicates == 0
