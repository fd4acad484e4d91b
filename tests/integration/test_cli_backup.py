"""``outlay backup`` and ``outlay restore``: whole, checked, and never over a server."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from outlay._cli.exit_codes import ExitCode
from outlay.server import BackgroundServer, ServerSettings
from tests.support import command_line

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command_line import Ran

KEY: Final = "sk_test_of_backups"
DEADLINE: Final = 20.0


def running(database: Path) -> BackgroundServer:
    """Return a server on a file, not started yet."""
    return BackgroundServer(
        ServerSettings(port=0, database=database, api_key=KEY, accept_unmatched=True)
    )


def post(server: BackgroundServer, key: str, *, padding: str = "") -> int:
    """Post one event, and return the status."""
    body: dict[str, Any] = {
        "type": "cost.ai",
        "source": "tests",
        "subject": "cus_1",
        "idempotencyKey": key,
        "data": {"amount": 1, "padding": padding},
    }
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.post(
        f"{server.url}/v0/events", json=body, headers=headers, timeout=30
    ).status_code


def keys_in(database: Path) -> set[str]:
    """Return the idempotency keys in a file that no server uses."""
    with closing(sqlite3.connect(database)) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM events")}


def backup(database: Path, output: Path) -> Ran:
    """Run ``outlay backup``."""
    return command_line.call("backup", "--db", str(database), "--output", str(output))


def restore(source: Path, database: Path, *words: str) -> Ran:
    """Run ``outlay restore``."""
    return command_line.call("restore", str(source), "--db", str(database), *words)


def test_a_backup_has_each_event_that_was_accepted_before(tmp_path: Path) -> None:
    """Also those in the log only, while others arrive. Copying the file loses them."""
    database, output = tmp_path / "outlay.db", tmp_path / "backup.db"
    before = {f"before-{number}" for number in range(20)}
    stop = threading.Event()

    def go_on(server: BackgroundServer) -> None:
        number = 0
        while not stop.is_set():
            assert post(server, f"during-{number}") == 202
            number += 1

    with running(database) as server:
        for key in before:
            assert post(server, key) == 202
        shutil.copyfile(database, tmp_path / "copied.db")
        thread = threading.Thread(target=go_on, args=[server])
        thread.start()
        ran = backup(database, output)
        stop.set()
        thread.join(DEADLINE)

    assert ran.code == ExitCode.DONE, ran.err
    assert before <= keys_in(output)
    assert not before <= _keys_or_none(tmp_path / "copied.db")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir() if "backup" in path.name} == {
        "backup.db"
    }


def _keys_or_none(database: Path) -> set[str]:
    try:
        return keys_in(database)
    except sqlite3.Error:
        return set()


def test_a_backup_that_exists_stays(tmp_path: Path) -> None:
    """The last good one must not be lost by a typing error."""
    database, output = tmp_path / "outlay.db", tmp_path / "backup.db"
    output.write_text("the last good one")
    with running(database):
        ran = backup(database, output)

    assert (ran.code, "exists" in ran.err) == (ExitCode.USAGE, True)
    assert output.read_text() == "the last good one"


def test_a_damaged_database_makes_no_backup(tmp_path: Path) -> None:
    """It would replace a good one in the rotation."""
    database, output = tmp_path / "outlay.db", tmp_path / "backup.db"
    with running(database) as server:
        for number in range(20):
            post(server, f"k{number}", padding="x" * 4000)
    content = bytearray(database.read_bytes())
    content[8 * 4096 : -4096] = b"\xa5" * (len(content) - 9 * 4096)
    database.write_bytes(content)

    ran = backup(database, output)

    assert ran.code == ExitCode.USAGE
    assert "damaged" in ran.err
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == []


@pytest.mark.parametrize("missing", ["source", "folder"])
def test_what_cannot_be_copied_is_named(tmp_path: Path, missing: str) -> None:
    """In one line, and the next one says what to type."""
    database = tmp_path / "outlay.db"
    output = tmp_path / "nowhere" / "backup.db"
    if missing == "folder":
        with running(database):
            pass
    ran = backup(database, output)

    assert ran.code == ExitCode.USAGE
    (_, remedy) = ran.err.splitlines()
    assert remedy == "try: outlay backup --help"


def test_a_restored_server_has_the_events_of_the_backup(tmp_path: Path) -> None:
    """And the earlier database is kept, until its owner is sure."""
    database, output = tmp_path / "outlay.db", tmp_path / "backup.db"
    with running(database) as server:
        post(server, "before")
        backup(database, output)
        post(server, "after")
    without_consent = restore(output, database)
    ran = restore(output, database, "--replace")
    with running(database) as server:
        again = httpx.get(
            f"{server.url}/v0/apiKeys/current",
            headers={"authorization": f"Bearer {KEY}"},
            timeout=30,
        ).status_code

    assert (without_consent.code, ran.code) == (ExitCode.USAGE, ExitCode.DONE)
    assert again == 200
    assert keys_in(database) == {"before"}
    assert keys_in(tmp_path / "outlay.db.before-restore-1") == {"before", "after"}


def test_a_restore_never_touches_a_running_server(tmp_path: Path) -> None:
    """Its file would change under its feet."""
    database, output = tmp_path / "outlay.db", tmp_path / "backup.db"
    with running(database) as server:
        post(server, "before")
        backup(database, output)
        post(server, "after")
        ran = restore(output, database, "--replace")
        still = post(server, "still")

    assert (ran.code, still) == (ExitCode.USAGE, 202)
    assert "another outlay server has" in ran.err
    assert keys_in(database) == {"before", "after", "still"}


def test_a_restore_after_a_kill_ignores_the_earlier_log(tmp_path: Path) -> None:
    """A log of the earlier file, applied to the new one, would destroy it."""
    database, output = tmp_path / "outlay.db", tmp_path / "backup.db"
    with running(database) as server:
        post(server, "before")
        backup(database, output)
        post(server, "after")
        killed = tmp_path / "killed"
        killed.mkdir()
        for path in (database, tmp_path / "outlay.db-wal"):
            shutil.copyfile(path, killed / path.name)
    ran = restore(output, killed / "outlay.db", "--replace")

    assert ran.code == ExitCode.DONE, ran.err
    assert keys_in(killed / "outlay.db") == {"before"}
    assert keys_in(killed / "outlay.db.before-restore-1") == {"before", "after"}


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    """The earlier database stays as it was."""
    database = tmp_path / "outlay.db"
    with running(database) as server:
        post(server, "before")
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear reader, " * 1000)

    ran = restore(letter, database, "--replace")

    assert ran.code == ExitCode.USAGE
    assert keys_in(database) == {"before"}
    assert [path.name for path in tmp_path.iterdir() if "restore" in path.name] == []


def test_the_database_of_the_server_s_own_settings_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image names it in a variable, which both commands read as ``serve`` does."""
    database, output = tmp_path / "costs.db", tmp_path / "backup.db"
    monkeypatch.setenv("OUTLAY_SERVER_DATABASE", str(database))
    with running(database) as server:
        assert post(server, "one") == 202

    assert command_line.call("backup", "--output", str(output)).code == ExitCode.DONE
    database.unlink()
    assert command_line.call("restore", str(output)).code == ExitCode.DONE
    assert keys_in(database) == {"one"}


@pytest.mark.parametrize(
    "words", [("backup", "--output", "backup.db"), ("restore", "backup.db")]
)
def test_postgresql_has_tools_of_its_own(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written, and the message names the tools, not the password."""
    monkeypatch.setenv("OUTLAY_SERVER_STORE", "postgresql://me:secret@host/outlay")
    ran = command_line.call(*words)

    assert ran.code == ExitCode.USAGE
    assert "pgBackRest" in ran.err
    assert "secret" not in ran.err
