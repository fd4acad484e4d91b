"""Eight writers on one journal folder, dying at random; the others inherit."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from outlay._journal.folders import DestinationFolder
from tests.processes import siblings_program
from tests.support.events import amount_of, total_of
from tests.support.journals import dead_letters, segment_files
from tests.support.processes import environment, settings_for
from tests.support.servers import ScriptedServer

if TYPE_CHECKING:
    from decimal import Decimal

    from outlay.transport import TransportResponse
    from tests.support.servers import Request

_ROOT: Final = Path(__file__).parents[2]
_DEADLINE: Final = 90.0
_KILLS: Final = siblings_program.WRITERS * (siblings_program.GENERATIONS - 1)


class _Connections:
    """Which event came on which connection, in order.

    The server has a thread for each connection, so the thread stands for it; a writer
    with one sender has one connection at a time.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._last: dict[threading.Thread, str] = {}
        self.of: defaultdict[str, list[threading.Thread]] = defaultdict(list)

    def accept(self, request: Request) -> TransportResponse:
        """Note the request, and accept it."""
        connection = threading.current_thread()
        key = json.loads(request.body)["idempotencyKey"]
        with self._lock:
            self._last[connection] = key
            self.of[key].append(connection)
        return self._server.accept(request)

    def answered_and_sent_again(self) -> list[str]:
        """Return the events that were sent again although the sender had the answer.

        A sender that goes on to its next request has the answer to the one before, and
        so has its journal.
        """
        return [
            key
            for key, connections in self.of.items()
            for connection in connections[:-1]
            if self._last[connection] != key
        ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_writers_that_die_at_random_are_inherited_once_each(
    tmp_path: Path, seed: str
) -> None:
    """No event is lost, and none is sent twice but those whose answer died unread.

    No other process is needed: when the last sibling has closed, all is delivered.
    """
    with ScriptedServer() as server:
        connections = _Connections(server)
        server.respond = connections.accept
        done = subprocess.run(
            [sys.executable, "-m", siblings_program.__name__, seed],
            cwd=_ROOT,
            env=environment(settings_for(server.url, tmp_path, max_senders=1)),
            check=False,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
        )
        arrived = {_number_of(amount) for amount in server.amounts.values()}
        total = server.total

    told = set(map(int, done.stdout.split()))
    # A writer killed in the middle of an append leaves bytes that are no event yet.
    troubles = [line for line in done.stderr.splitlines() if "damaged at" not in line]
    assert (done.returncode, troubles) == (0, [])
    assert told <= arrived
    # Killed between the last step of tracking and the telling of it.
    assert len(arrived - told) <= _KILLS
    assert total == total_of(arrived)
    assert connections.answered_and_sent_again() == []
    assert server.duplicates <= _KILLS
    assert segment_files(tmp_path) == []
    assert dead_letters(tmp_path) == []


def test_the_folder_is_measured_while_siblings_come_and_go(tmp_path: Path) -> None:
    """A folder that vanishes under the measuring is no trouble of the disk.

    It was taken for one, and events were kept in memory for a second: not kill-safe.
    """
    writers = [tmp_path / f"{number:03}" for number in range(400)]
    for writer in writers:
        writer.mkdir()
        (writer / "1.seg").write_bytes(b"12")

    def vanish() -> None:
        for writer in reversed(writers):
            (writer / "1.seg").unlink()
            writer.rmdir()

    siblings = threading.Thread(target=vanish)
    siblings.start()
    while siblings.is_alive():
        assert 0 <= DestinationFolder(tmp_path).used_bytes() <= 2 * len(writers)
    siblings.join()


def _number_of(amount: Decimal) -> int:
    number = int(amount * 1000)
    assert amount_of(number) == amount
    return number
