"""``outlay doctor``: every fault has a line, and the line says what to do."""

from __future__ import annotations

import http.server
import json
import os
import resource
import subprocess
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from outlay import Client
from outlay._cli.commands.doctor.file_systems import (
    file_system_type,
    file_system_warning,
    read_mounts,
)
from outlay._cli.exit_codes import ExitCode
from outlay._journal.frames import FrameState
from outlay._journal.journal import Destination
from outlay._shipping.agent import Agent
from outlay.server import BackgroundServer, ServerSettings
from outlay.transport import TransportResponse
from tests.support import command_line
from tests.support.answers import accepted, refused
from tests.support.command_line import KEY, reaching
from tests.support.events import payload, track
from tests.support.journals import (
    KIB,
    close_journals,
    make_journal,
    segment_files,
    take_all,
)
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.servers import Request, ScriptedServer, free_port
from tests.support.unpriced import client_in, record

if TYPE_CHECKING:
    from collections.abc import Iterator


Finding: TypeAlias = tuple[str, str]
"""Level and text."""


@pytest.fixture(autouse=True)
def journal_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give each test a private folder, and no settings but that."""
    for name in [name for name in os.environ if name.startswith("OUTLAY_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "journal"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("OUTLAY_JOURNAL_DIR", str(folder))
    yield folder
    close_journals()


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    """A server with one cost metric."""
    with command_line.serving() as server:
        words = ["metrics", "create", "all", "--event-type", "cost.ai.inference"]
        assert command_line.call(*words, *reaching(server)).code == ExitCode.DONE
        yield server


def examine(*words: str) -> dict[str, list[Finding]]:
    """Run ``outlay doctor`` and return what it found, by check."""
    ran = command_line.call("doctor", "--json", *words)
    document: dict[str, Any] = json.loads(ran.out)
    findings: dict[str, list[Finding]] = {}
    for each in document["findings"]:
        findings.setdefault(each["check"], []).append((each["level"], each["text"]))
    failed = any(level == "fail" for found in findings.values() for level, _ in found)
    assert ran.err == ""
    assert (ran.code == ExitCode.DONE) == document["healthy"] == (not failed)
    return findings


def levels(findings: list[Finding]) -> list[str]:
    """Return how bad they are."""
    return [level for level, _ in findings]


def test_a_healthy_set_up_is_all_ok_and_zero(server: BackgroundServer) -> None:
    """A deployment's last step can be this command."""
    ran = command_line.call("doctor", *reaching(server))

    assert (ran.code, ran.err) == (ExitCode.DONE, "")
    lines = ran.out.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert {line.split()[1] for line in lines} == {
        "settings",
        "folder",
        "space",
        "locks",
        "mapping",
        "descriptors",
        "journal",
        "server",
        "clock",
        "credential",
        "batches",
        "metrics",
        "store",
    }
    assert KEY not in ran.out


def test_an_examination_leaves_nothing_behind(
    server: BackgroundServer, journal_dir: Path
) -> None:
    """No event is created, and no file stays."""
    examine(*reaching(server))

    assert list(journal_dir.iterdir()) == []
    words = ["costs", "--json", "--from", "2000-01-01", "--to", "2100-01-01"]
    costs = json.loads(command_line.call(*words, *reaching(server)).out)
    assert costs["totals"] in ({}, {"USD": "0"})


def test_help_has_an_example_and_fits() -> None:
    """As of every command."""
    shown = command_line.call("doctor", "--help").out

    assert "\nexample:\n  outlay doctor" in shown
    assert [line for line in shown.splitlines() if len(line) > 88] == []


# Settings.


def test_each_setting_says_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This is where 'but I did set it' ends."""
    monkeypatch.setenv("OUTLAY_SOURCE", "https://api.example.com")
    monkeypatch.setenv("OUTLAY_API_KEY", "sk_test_secret")
    monkeypatch.setenv("OUTLAY_BASE_URL", "http://127.0.0.1:1")

    found = examine("--base-url", f"http://127.0.0.1:{free_port()}")["settings"]

    texts = [text for _, text in found]
    assert "source = https://api.example.com (OUTLAY_SOURCE)" in texts
    assert any(text.endswith("(argument)") for text in texts if "base_url" in text)
    assert "api_key = ********** (OUTLAY_API_KEY)" in texts
    assert "secret" not in str(found)


def test_a_misspelt_variable_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, server: BackgroundServer
) -> None:
    """It may hold a credential; and it has no effect, which nothing else says."""
    monkeypatch.setenv("OUTLAY_APIKEY", "sk_test_secret")
    monkeypatch.setenv("OUTLAY_SERVER_PORT", "4600")

    found = examine(*reaching(server))["settings"]

    warned = [text for level, text in found if level == "warn"]
    assert [text.split()[0] for text in warned] == ["OUTLAY_APIKEY"]
    assert "secret" not in str(found)


def test_a_malformed_setting_fails_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing else can be checked then."""
    monkeypatch.setenv("OUTLAY_LINGER", "soon")

    findings = examine()

    assert list(findings) == ["settings"]
    ((level, text),) = findings["settings"]
    assert (level, "OUTLAY_LINGER" in text) == ("fail", True)


def test_settings_that_lose_events_are_warned_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are allowed, and their owner may have forgotten them."""
    monkeypatch.setenv("OUTLAY_DURABILITY", "memory")

    found = examine("--base-url", f"http://127.0.0.1:{free_port()}")["settings"]

    warned = [text for level, text in found if level == "warn"]
    assert [text.partition(":")[0] for text in warned] == [
        "no api_key",
        "durability = memory",
    ]


# The folder.


def test_a_folder_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    """The first event makes it, not the doctor."""
    folder = tmp_path / "deep" / "journal"

    found = examine("--journal-dir", str(folder))["folder"]

    assert levels(found) == ["ok"]
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_fails(tmp_path: Path) -> None:
    """Here it is said before the first event is kept in memory only."""
    (tmp_path / "file").write_text("I was here first")

    for folder in (tmp_path / "file", tmp_path / "file" / "journal"):
        ((level, text),) = examine("--journal-dir", str(folder))["folder"]
        assert (level, "OUTLAY_JOURNAL_DIR" in text) == ("fail", True)


def test_a_folder_that_others_can_change_is_warned_about(journal_dir: Path) -> None:
    """A user who can rename in it can take events away."""
    journal_dir.chmod(0o777)

    ((level, text),) = examine()["folder"]

    assert (level, "chmod 700" in text) == ("warn", True)


def test_a_disk_with_less_than_the_limit_is_warned_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In an outage the disk would be full before the limit is reached."""
    monkeypatch.setenv("OUTLAY_MAX_JOURNAL_BYTES", str(10**18))

    ((level, text),) = examine()["space"]

    assert (level, "OUTLAY_MAX_JOURNAL_BYTES" in text) == ("warn", True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_warned_about(journal_dir: Path) -> None:
    """Root's doctor is not the application: it may be another's that cannot write."""
    os.chown(journal_dir, 12345, -1)

    ((level, text),) = examine()["folder"]

    assert (level, "belongs to user 12345" in text) == ("warn", True)


def test_a_disk_without_room_for_a_segment_fails(journal_dir: Path) -> None:
    """Events would be kept in memory only."""
    mount = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        "size=1m,mode=700",
        "tmpfs",
        str(journal_dir),
    ]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let tests mount a file system")
    try:
        findings = examine()
    finally:
        subprocess.run(["umount", "--lazy", journal_dir], check=True)

    ((level, text),) = findings["space"]
    assert (level, "not enough for one segment" in text) == ("fail", True)
    assert levels(findings["mapping"]) == ["ok"]


def test_a_read_only_disk_fails(journal_dir: Path) -> None:
    """As in a container whose file system was locked down."""
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m,mode=700", "tmpfs"]
    if subprocess.run(
        [*mount, str(journal_dir)], check=False, capture_output=True
    ).returncode:
        pytest.skip("this machine does not let tests mount a file system")
    try:
        found = examine()["folder"]
    finally:
        subprocess.run(["umount", "--lazy", journal_dir], check=True)

    level, text = found[-1]
    assert (level, "Read-only file system" in text) == ("fail", True)


def test_the_folder_under_the_temporary_one_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used where the usual one cannot be made, and may not survive a reboot."""
    monkeypatch.delenv("OUTLAY_JOURNAL_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"outlay-{os.getuid()}").mkdir(mode=0o700)

    (level, text), second = examine()["folder"]

    assert (level, "reboot" in text, second[0]) == ("warn", True, "ok")


@pytest.mark.parametrize(
    ("file_system", "durable", "says"),
    [
        ("ext4", True, None),
        ("nfs4", False, "is a network file system"),
        ("cifs", False, "is a network file system"),
        ("overlay", False, "is the layer of a container"),
        ("tmpfs", False, "is in memory"),
        ("tmpfs", True, "durability=disk cannot change that"),
    ],
)
def test_a_file_system_that_does_not_keep_events_is_named(
    file_system: str, says: str | None, *, durable: bool
) -> None:
    """Locks, mapped files and restarts need a local disk."""
    warning = file_system_warning(file_system, durable=durable)

    assert (says or "") in (warning or "")
    assert (warning is None) == (says is None)


def test_the_file_system_of_a_folder_is_that_of_the_innermost_mount(
    tmp_path: Path,
) -> None:
    """Names may hold blanks, and a later mount hides an earlier one."""
    home = tmp_path / "a b"
    home.mkdir()
    name = str(home).replace(" ", "\\040")
    mounts = [
        "22 1 0:20 / / rw - overlay overlay rw",
        f"23 22 0:21 / {name} rw,nosuid shared:1 - ext4 /dev/sda1 rw",
        f"24 22 0:22 / {name} rw - nfs4 server:/x rw",
    ]

    assert file_system_type(home, mounts) == "nfs4"
    assert file_system_type(tmp_path, mounts) == "overlay"
    assert file_system_type(tmp_path, []) is None


def test_a_folder_in_memory_is_warned_about(journal_dir: Path) -> None:
    """On the machine itself, not only in a table."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of its own in it
    if file_system_type(shared, read_mounts()) != "tmpfs":
        pytest.skip("this machine has no file system in memory")
    folder = shared / journal_dir.parent.name
    folder.mkdir(mode=0o700)
    try:
        found = examine("--journal-dir", str(folder))["folder"]
    finally:
        folder.rmdir()

    assert ("warn", True) in [(level, "is in memory" in text) for level, text in found]


def test_a_link_that_leads_nowhere_is_no_folder_that_is_to_be_made(
    tmp_path: Path,
) -> None:
    """It cannot be made, so every event would be kept in memory only."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    for folder in (tmp_path / "a", tmp_path / "a" / "journal"):
        ((level, text),) = examine("--journal-dir", str(folder))["folder"]
        assert (level, "leads nowhere" in text) == ("fail", True)


def test_the_limit_of_open_files_is_told_and_a_small_one_warned_about() -> None:
    """Each dead writer takes descriptors, and so do sockets of the application."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    [(level, text)] = examine()["descriptors"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        [small] = examine()["descriptors"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert (level, f"{limits[0]:,} open files" in text) == ("ok", True)
    assert small[0] == "warn"
    assert "200 open files (ulimit -n); adopts 5 dead writers" in small[1]
    assert "raise the limit to 256" in small[1]


def test_an_agent_that_cannot_follow_all_writers_is_warned_about(
    server: BackgroundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait until it has finished with some."""
    monkeypatch.setenv("OUTLAY_SHIPPING", "agent")
    limits = (1024, 16)
    clients = [Client(base_url=server.url, api_key=KEY) for _ in range(4)]
    for number, client in enumerate(clients):
        track(client, number)
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)

    findings = examine(*reaching(server))["descriptors"]

    assert findings[-1][0] == "warn"
    assert "follows 3 of 4 living writers at a time" in findings[-1][1]
    for client in clients:
        client.close()


# The journal.


def leave(url: str, count: int, key: str = KEY) -> None:
    """Track events, and end without shipping them."""
    with Client(base_url=url, api_key=key, shipping="none") as client:
        for number in range(count):
            track(client, number)


def test_events_of_dead_writers_are_warned_about(server: BackgroundServer) -> None:
    """No process ships them until one of the destination starts."""
    leave(server.url, 2)

    findings = examine(*reaching(server))

    assert findings["journal"][0][1].startswith("2 events pending, since 2")
    ((level, text),) = findings["writers"]
    assert (level, "outlay journal replay" in text) == ("warn", True)


def test_a_missing_agent_fails_with_its_remedy(server: BackgroundServer) -> None:
    """The applications run, and nothing would ever arrive."""
    client = Client(base_url=server.url, api_key=KEY, shipping="agent")
    track(client, 1)
    ((level, text),) = examine(*reaching(server))["writers"]
    with Agent(client.settings):
        assert client.flush(20).complete
        shipped = examine(*reaching(server))
    client.close()

    assert level == "fail"
    assert "no agent ships for 1 living writer with shipping=agent" in text
    assert "1 event wait" in text
    assert "start 'outlay agent'" in text
    assert "writers" not in shipped


def test_events_of_another_credential_are_warned_about(
    server: BackgroundServer,
) -> None:
    """Without the message, they wait without end."""
    leave(server.url, 1, key="sk_test_old")

    nothing, (level, text) = examine(*reaching(server))["journal"]

    assert nothing == ("ok", "no event was ever stored")
    assert (level, "outlay journal status" in text) == ("warn", True)


def test_every_kind_of_stuck_event_is_warned_about(
    server: BackgroundServer, journal_dir: Path
) -> None:
    """Each needs a person, and another remedy."""
    destination = Destination(server.url, None, KEY)
    journal = make_journal(journal_dir, destination=destination)
    for number in range(3):
        journal.append(payload(number))
    parked, dead, old = take_all(journal)
    journal.reader.settle(parked, FrameState.PARKED)
    journal.move_to_dead_letters(dead, "dead", "rejected", "no")
    journal.move_to_dead_letters(old, "quarantined", "dedupe_window", "old")

    found = examine(*reaching(server))["journal"]

    warned = [text.partition(":")[0] for level, text in found if level == "warn"]
    assert warned == ["1 event parked", "1 event quarantined", "1 event dead"]


def test_captured_costs_without_a_price_are_told(
    server: BackgroundServer, journal_dir: Path
) -> None:
    """They are in no total, and no command asked for them by name."""
    with client_in(journal_dir, base_url=server.url, api_key=KEY) as client:
        record(client)

    ((level, text),) = examine(*reaching(server))["capture"]

    assert level == "warn"
    assert text.startswith("1 captured cost without a price")
    assert "outlay reprice" in text


@pytest.mark.parametrize(
    ("limit", "level"), [(2.0, "ok"), (1.2, "warn"), (1.1, "fail")]
)
def test_a_journal_that_fills_up_is_told_before_it_drops(
    limit: float,
    level: str,
    server: BackgroundServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the limit new events are dropped: the last moment to act is earlier."""
    monkeypatch.setenv("OUTLAY_SEGMENT_BYTES", str(64 * KIB))
    leave(server.url, 2000)
    used = next(
        int(text.split()[0].replace(",", ""))
        for _, text in examine(*reaching(server))["journal"]
        if "max_journal_bytes" in text
    )
    monkeypatch.setenv("OUTLAY_MAX_JOURNAL_BYTES", str(int(limit * used)))

    found = examine(*reaching(server))["journal"]

    assert [each for each, text in found if "max_journal_bytes" in text] == [level]


def test_a_segment_that_cannot_be_read_is_named(
    server: BackgroundServer, journal_dir: Path
) -> None:
    """After a rollback, its events wait for the newer release."""
    leave(server.url, 1)
    (segment,) = segment_files(journal_dir)
    content = bytearray(segment.read_bytes())
    content[8] = 99
    segment.write_bytes(content)

    found = examine(*reaching(server))["journal"]

    (text,) = [text for level, text in found if level == "warn"]
    assert f"{segment.parent.name}/{segment.name}: has journal format 99" in text
    assert "upgrade outlay" in text


# The server.


def test_the_proxy_in_use_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dead proxy looks like a dead server."""
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@{proxy}")
    monkeypatch.setenv("http_proxy", f"http://me:secret@{proxy}")

    findings = examine("--base-url", "http://costs.example")

    assert findings["proxy"] == [
        ("ok", f"requests go through the proxy http://{proxy} (HTTP_PROXY)")
    ]
    ((level, text),) = findings["server"]
    assert (level, "check the proxy" in text) == ("fail", True)
    assert "secret" not in str(findings)


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "text"])
def test_a_certificate_file_that_cannot_be_used_is_named_with_its_variable(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the TLS library names neither."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))

    ((level, text),) = examine("--base-url", "https://costs.example")["certificates"]

    assert (level, text.startswith(f"SSL_CERT_FILE={path} ")) == ("fail", True)


def test_json_is_printed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitoring that reads it must learn what is wrong."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://[")

    ((level, text),) = examine("--base-url", "https://costs.example")["server"]

    assert (level, text.startswith("cannot be checked: ")) == ("fail", True)


def test_a_server_that_does_not_answer_fails_last() -> None:
    """All that can be checked without it has been."""
    url = f"http://127.0.0.1:{free_port()}"

    findings = examine("--base-url", url)

    assert [*findings][-1] == "server"
    ((level, text),) = findings["server"]
    assert (level, url in text, "OUTLAY_BASE_URL" in text) == ("fail", True, True)


def test_a_wrong_key_fails(server: BackgroundServer) -> None:
    """The commonest fault of all."""
    words = ["--base-url", server.url, *command_line.with_key("sk_test_wrong")]

    findings = examine(*words)

    ((level, text),) = findings["credential"]
    assert (level, "OUTLAY_API_KEY" in text, "HTTP 401" in text) == ("fail", True, True)
    assert "metrics" not in findings


@pytest.mark.parametrize(
    ("answer", "level", "says"),
    [
        (refused(400, message="type: is required"), "ok", "may create events"),
        (refused(403, message="not yours"), "fail", "give the key that permission"),
        (refused(404), "fail", "check OUTLAY_BASE_URL"),
        (refused(301, location="/"), "fail", "check OUTLAY_BASE_URL"),
        (accepted(), "fail", "this is no cost service"),
        (refused(503, message="later"), "warn", "HTTP 503: later"),
        (refused(429), "warn", "try again later"),
    ],
    ids=lambda value: str(value.status) if hasattr(value, "status") else None,
)
def test_what_the_server_says_to_an_empty_event_decides(
    answer: TransportResponse, level: str, says: str
) -> None:
    """The request can create nothing, and its refusal tells all."""
    with ScriptedServer(lambda _: answer) as server:
        findings = examine("--base-url", server.url)

    posted = [request.body for request in server.requests if request.body]
    assert posted == [b"{}"]
    ((found, text),) = findings["credential"]
    assert (found, says in text) == (level, True)


def test_batches_are_offered_or_not(server: BackgroundServer) -> None:
    """Neither is a fault: single events are what every service takes."""
    with ScriptedServer(lambda _: refused(400)) as plain:
        without = examine("--base-url", plain.url)["batches"]

    assert examine(*reaching(server))["batches"] == [
        ("ok", "up to 1000 events a request")
    ]
    assert without == [("ok", "not offered")]


def test_a_server_without_metrics_would_park_everything() -> None:
    """The newcomer's first surprise, told in advance."""
    with command_line.serving() as server:
        ((level, text),) = examine(*reaching(server))["metrics"]

    assert (level, "outlay metrics create" in text) == ("warn", True)


def test_the_doctor_names_the_store_and_what_to_do() -> None:
    """Which one it is, how far its upkeep is, and why it takes no events."""
    postgres = PostgresServer()
    postgres.start()
    settings = ServerSettings(
        port=0, store=postgres.create_database(), api_key=KEY, accept_unmatched=True
    )
    try:
        with BackgroundServer(settings) as server:
            ((level, text),) = examine(*reaching(server))["store"]
            assert (level, text) == (
                "ok",
                "PostgreSQL; 0 rows to fold into totals, which are exact",
            )
            postgres.kill()
            ((level, text),) = examine(*reaching(server))["store"]
            assert level == "fail"
            assert "check that PostgreSQL runs" in text
            assert PASSWORD not in text
    finally:
        postgres.remove()


@pytest.mark.parametrize(
    ("history", "level", "says"),
    [
        ({"waitingDays": 0, "isFailing": False}, "ok", "no day is in it yet"),
        (
            {
                "waitingDays": 1,
                "isFailing": False,
                "movedUntil": "2026-11-02T00:00:00Z",
            },
            "ok",
            "until 2026-11-02",
        ),
        ({"waitingDays": 3, "isFailing": False}, "warn", "3 days wait"),
        ({"waitingDays": 1, "isFailing": True}, "warn", "see the log of the server"),
    ],
)
def test_a_history_tells_how_far_it_is(
    history: dict[str, object], level: str, says: str
) -> None:
    """A server that moves days says so where anyone can read it."""
    ready = json.dumps({"status": "ready", "history": history}).encode()

    def respond(request: Request) -> TransportResponse:
        if request.path == "/readyz":
            return TransportResponse(200, {}, ready)
        return refused(400)

    with ScriptedServer(respond) as server:
        ((found, text),) = examine("--base-url", server.url)["history"]

    assert (found, says in text) == (level, True)


@pytest.mark.parametrize(
    ("status", "level"), [(403, "ok"), (500, "warn")], ids=["forbidden", "broken"]
)
def test_tracking_needs_no_permission_to_read(status: int, level: str) -> None:
    """A key that may create events only is the safest in an application."""
    with _dated("Tue, 15 Nov 1994 08:12:31 GMT", get_status=status) as url:
        ((found, text),) = examine("--base-url", url)["metrics"]

    assert (found, "cannot be listed" in text) == (level, True)


@pytest.mark.parametrize(
    ("seconds", "level", "says"),
    [
        (0, "ok", "agrees"),
        (600, "warn", "behind the server's"),
        (-600, "warn", "ahead of the server's"),
        (2 * 3600, "fail", "NTP"),
        (None, "warn", "does not report"),
    ],
)
def test_a_clock_that_differs_from_the_server_s_is_told(
    seconds: int | None, level: str, says: str
) -> None:
    """Events are dated here: an hour's skew moves costs into another day."""
    with _dated(_date_in(seconds)) as url:
        ((found, text),) = examine("--base-url", url)["clock"]

    assert (found, says in text) == (level, True)


def _date_in(seconds: int | None) -> str | None:
    """Return what a clock shows that is so many seconds ahead of ours."""
    if seconds is None:
        return None
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return format_datetime(moment, usegmt=True)


@contextmanager
def _dated(date: str | None, *, get_status: int = 500) -> Iterator[str]:
    """Serve refusals of events with this Date header; return the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._answer(400)

        def do_GET(self) -> None:
            self._answer(get_status)

        def _answer(self, status: int) -> None:
            self.send_response_only(status)
            if date is not None:
                self.send_header("date", date)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
