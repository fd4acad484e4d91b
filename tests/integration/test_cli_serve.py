"""``outlay serve``: what it tells, what it takes, and how it ends."""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx
import pytest

from outlay import Client
from outlay._cli.commands import serve as _serve
from outlay._cli.commands.serve import ServeSettings
from outlay._cli.exit_codes import ExitCode
from outlay._model.settings import SERVER_PREFIX
from outlay.server import BackgroundServer, ServerSettings
from tests.support import command_line
from tests.support.command_line import KEY
from tests.support.processes import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.command_line import Ran

DEADLINE: Final = 30.0
FIXED_KEY: Final = "sk_test_of_a_fixed_length"
ALL_ADDRESSES: Final = "0.0.0.0"  # noqa: S104 - what the tests are about


class Serving(NamedTuple):
    """A running ``outlay serve``.

    Attributes:
        process: the process.
        said: what it printed until it was ready.
        url: where it says that it listens.
    """

    process: subprocess.Popen[str]
    said: str
    url: str


@contextmanager
def serving(*words: str, **variables: str) -> Iterator[Serving]:
    """Run ``outlay serve`` on a free port until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "outlay", "serve", "--port", "0", *words],
        env=environment(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line
            # The last thing it says is how to use it.
            if re.match(r"  export OUTLAY_API_KEY=", line) or (
                "no API key" in said and "export" in line
            ):
                break
        url = re.search(r"address +(\S+)", said)
        assert url is not None, (said, process.stderr and process.stderr.read())
        yield Serving(process, said, url[1])
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


def status(url: str, key: str) -> int:
    """Return the status that a request with ``key`` gets."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{url}/v0/costs", headers=headers, timeout=30).status_code


def test_first_start_shows_a_key_that_works_and_the_next_one_none(
    tmp_path: Path,
) -> None:
    """The key is stored as a digest only: this is the one moment to copy it."""
    database = str(tmp_path / "costs.db")
    with serving("--db", database) as first:
        key = re.search(r"^  export OUTLAY_API_KEY=(sk_test_\w+)$", first.said, re.M)
        assert key is not None
        assert status(first.url, key[1]) == 200
        assert database in first.said
        assert f"export OUTLAY_BASE_URL={first.url}\n" in first.said

    with serving("--db", database) as second:
        assert status(second.url, key[1]) == 200
        assert "sk_test_" not in second.said
        assert "export OUTLAY_API_KEY=<your key>\n" in second.said


def test_each_step_of_an_update_is_shown(tmp_path: Path) -> None:
    """A large database takes minutes, in which nothing else is printed."""
    database = tmp_path / "costs.db"
    old = Path(__file__).parents[1] / "unit" / "server" / "storage" / "databases"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript((old / "v3.sql").read_text())

    with serving("--db", str(database)) as server:
        server.process.terminate()
        _, err = server.process.communicate(timeout=DEADLINE)

    assert "outlay.server.update: updating the database: step 1 of " in err


def test_fixed_key_from_the_environment_works_and_is_not_shown() -> None:
    """A key that its owner knows has no business in a log."""
    with serving(
        "--db", ":memory:", OUTLAY_SERVER_API_KEY="sk_test_fixed_key"
    ) as server:
        assert status(server.url, "sk_test_fixed_key") == 200
        assert status(server.url, "sk_test_other") == 401
        assert "sk_test_fixed_key" not in server.said


def test_a_new_database_has_the_default_metrics(tmp_path: Path) -> None:
    """An event type without a metric parks events: not on the first day."""
    with serving("--db", str(tmp_path / "costs.db")) as server:
        key = re.search(r"OUTLAY_API_KEY=(\S+)", server.said)
        assert key is not None
        listed = command_line.call(
            *("metrics", "list", "--json", "--base-url", server.url),
            *command_line.with_key(key[1]),
        )

    types = {metric["eventType"] for metric in json.loads(listed.out)}
    assert {"cost.ai.inference", "cost.documents.ocr", "cost.messaging"} <= types


def test_for_development_no_key_and_no_metric_is_needed(tmp_path: Path) -> None:
    """A newcomer's program without settings, and its first total."""
    program = (
        "import outlay\n"
        "for event_type in ('cost.ai.inference', 'cost.never.seen'):\n"
        "    outlay.track_cost(event_type, 2, customer_id='cus_1', operation_id=1)\n"
        "assert outlay.flush(20).complete\n"
    )
    with serving("--dev", "--db", ":memory:") as server:
        variables = {"OUTLAY_BASE_URL": server.url, "OUTLAY_JOURNAL_DIR": tmp_path}
        subprocess.run(
            [sys.executable, "-c", program],
            env=environment(variables),
            check=True,
            timeout=DEADLINE,
        )
        csv, shown, data = (
            command_line.call("costs", *words, "--base-url", server.url)
            for words in (["--csv"], [], ["--json"])
        )

    assert "for development" in server.said
    assert "inference,2,USD\n" in csv.out
    assert (
        "cost.never.seen: 1 event not in any metric; type: outlay metrics create NAME "
        "--event-type cost.never.seen\n"
    ) in shown.out
    assert json.loads(data.out)["unmatched"] == {"cost.never.seen": 1}


def test_for_development_only_costs_are_accepted_without_a_metric(
    tmp_path: Path,
) -> None:
    """Anything else is most likely a mistake in the type."""
    with (
        serving("--dev", "--db", ":memory:") as server,
        Client(base_url=server.url, journal_dir=tmp_path) as client,
    ):
        for event_type in ("cost.mine", "invoice.mine"):
            client.track_cost(event_type, 1, customer_id="c", operation_id=1)
        result = client.flush(20)

    assert (result.stats.delivered, result.stats.parked) == (1, 1)


def test_for_development_a_web_page_gets_no_access() -> None:
    """A browser would send its requests, also to a name that leads to this machine."""
    with serving("--dev", "--db", ":memory:") as server:
        url = f"{server.url}/v0/costs"
        plain = httpx.get(url, timeout=30)
        foreign = httpx.get(
            url, headers={"Origin": "https://attacker.example"}, timeout=30
        )
        rebound = httpx.get(url, headers={"Host": "attacker.example"}, timeout=30)

    assert plain.status_code == 200
    assert (foreign.status_code, rebound.status_code) == (403, 403)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", ALL_ADDRESSES], "host must be a loopback address"),
        ([*command_line.with_key("sk_test_of_its_own")], "leave out --api-key-file"),
    ],
    ids=["host", "key"],
)
def test_development_is_for_this_machine_only(words: list[str], says: str) -> None:
    """Without a key, every program that reaches it may do everything."""
    assert says in refused(command_line.call("serve", "--dev", *words))


def test_on_all_addresses_it_prints_one_that_works_and_a_warning() -> None:
    """Another machine cannot connect to 0.0.0.0."""
    variables = {"OUTLAY_SERVER_API_KEY": "sk_test_fixed_key"}
    with serving("--host", ALL_ADDRESSES, "--db", ":memory:", **variables) as server:
        assert status(server.url, "sk_test_fixed_key") == 200

    assert server.url.startswith("http://127.0.0.1:")
    assert "Warning: other machines can reach this server" in server.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_cleanly(number: signal.Signals) -> None:
    """Service managers take any other exit code for a crash."""
    with serving("--db", ":memory:") as server:
        server.process.send_signal(number)
        out, err = server.process.communicate(timeout=DEADLINE)

    assert server.process.returncode == ExitCode.DONE
    assert (out, err) == ("stopped; all accepted events are stored\n", "")


def refused(ran: Ran) -> str:
    """Check that a command ended with a line about a mistake and one of help.

    Returns:
        The line about the mistake.
    """
    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    (mistake, remedy) = ran.err.splitlines()
    assert remedy == "try: outlay serve --help"
    return mistake


def test_port_in_use_is_one_line() -> None:
    """The most common mistake of all: it runs already."""
    with command_line.serving() as server:
        port = server.url.rpartition(":")[2]
        ran = command_line.call("serve", "--port", port, "--db", ":memory:")

    assert f"port {port} on 127.0.0.1 is taken" in refused(ran)


def test_database_in_use_is_one_line(tmp_path: Path) -> None:
    """Two servers on one file would each miss what the other does."""
    settings = ServerSettings(port=0, database=tmp_path / "costs.db", api_key=KEY)
    with BackgroundServer(settings):
        words = ("serve", "--port", "0", "--db", str(settings.database))
        ran = command_line.run(*words)

    assert "another outlay server has" in refused(ran)


def test_unusable_database_is_one_line(tmp_path: Path) -> None:
    """A folder that does not exist, and a file that is something else."""
    nowhere = command_line.call("serve", "--port", "0", "--db", str(tmp_path / "a/b"))
    (tmp_path / "notes.txt").write_text("not a database, but long enough for one" * 99)
    other = command_line.call(
        "serve", "--port", "0", "--db", str(tmp_path / "notes.txt")
    )

    assert "cannot be used as database" in refused(nowhere)
    assert "notes.txt" in refused(other)


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({"PORT": "abc"}, "OUTLAY_SERVER_PORT='abc'"),
        ({"DEDUPE_WINDOW": "-1"}, "OUTLAY_SERVER_DEDUPE_WINDOW"),
        ({"ACCESS_LOG": "perhaps"}, "OUTLAY_SERVER_ACCESS_LOG='perhaps'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_wrong_variable_is_named(
    variables: dict[str, str], names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been set far away, in a unit file or a container."""
    for name, text in variables.items():
        monkeypatch.setenv(SERVER_PREFIX + name, text)

    assert names in refused(command_line.call("serve"))


def test_arguments_win_over_variables() -> None:
    """What was typed just now is what was meant."""
    parser = argparse.ArgumentParser()
    _serve.configure(parser)
    given = vars(parser.parse_args(["--port", "1"]))

    settings = ServeSettings.resolve(
        given,
        environ={
            "OUTLAY_SERVER_PORT": "2",
            "OUTLAY_SERVER_HOST": "::1",
            "OUTLAY_SERVER_DEDUPE_WINDOW": "90.5",
            "OUTLAY_SERVER_ACCEPT_UNMATCHED": "true",
            "OUTLAY_SERVER_ALLOWED_HOSTS": "costs.example.com,costs",
        },
        prefix=SERVER_PREFIX,
    )

    assert (settings.port, settings.host) == (1, "::1")
    assert settings.dedupe_window == timedelta(seconds=90.5)
    assert settings.accept_unmatched is True
    assert settings.allowed_hosts == ("costs.example.com", "costs")


def test_webhooks_reach_an_allowed_network_for_as_long_as_the_operator_says() -> None:
    """A receiver that hangs is reached, and given up after the limit."""
    words = ("--webhook-network", "127.0.0.1/32", "--webhook-timeout", "0.25")
    with (
        socket.create_server(("127.0.0.1", 0)) as receiver,
        serving("--db", ":memory:", *words, OUTLAY_SERVER_API_KEY=FIXED_KEY) as server,
        httpx.Client(
            base_url=server.url,
            headers={"authorization": f"Bearer {FIXED_KEY}"},
            timeout=DEADLINE,
        ) as http,
    ):
        url = f"http://127.0.0.1:{receiver.getsockname()[1]}/hook"
        added = http.post("/v0/webhooks", json={"url": url}).json()
        tested = http.post(f"/v0/webhooks/{added['id']}/test").json()

    assert tested["error"] == "there was no response within 0.25 s"


def test_a_wrong_network_is_named() -> None:
    """It would let the server reach more or less than was meant."""
    ran = command_line.call("serve", "--webhook-network", "10.0.0.1/8")

    assert ran.code == ExitCode.USAGE
    assert "10.0.0.1/8" in ran.err


def test_every_option_is_a_setting_and_help_tells_its_default() -> None:
    """The defaults are written in two places, which must not drift apart."""
    parser = argparse.ArgumentParser()
    _serve.configure(parser)
    options = set(vars(parser.parse_args([]))) - {"open"}  # it is no setting
    shown = command_line.call("serve", "--help").out
    defaults = ServerSettings()

    assert options <= set(ServerSettings.model_fields)
    for value in (
        defaults.host,
        str(defaults.port),
        str(defaults.database),
        f"{defaults.dedupe_window.total_seconds():.0f}",
        defaults.default_currency,
    ):
        assert re.search(rf"\(default:\s+{re.escape(value)}[,)]", shown), value


def test_access_log_shows_requests() -> None:
    """Off by default; the first thing to switch on when something does not arrive."""
    with serving("--db", ":memory:", "--access-log") as server:
        httpx.get(f"{server.url}/healthz", timeout=30)
        server.process.terminate()
        _, err = server.process.communicate(timeout=DEADLINE)

    assert '"GET /healthz HTTP/1.1" 200' in err
