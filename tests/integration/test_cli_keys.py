"""``outlay keys``: on a server, and in its database file while it serves."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from outlay._cli.exit_codes import ExitCode
from outlay.server import BackgroundServer, ServerSettings
from tests.support import command_line
from tests.support.command_line import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.command_line import Ran

ID = "key_5f3a9c0d2b1e4f6a8c7d9e0f"


class Place:
    """A running server, and the arguments that reach its keys in one of two ways."""

    def __init__(self, server: BackgroundServer, words: Sequence[str]) -> None:
        self.server = server
        self._words = words

    def run(self, *words: str) -> Ran:
        """Run ``outlay keys``."""
        return command_line.call("keys", *words, *self._words)

    def read(self, *words: str) -> Any:  # noqa: ANN401 - JSON
        """Run ``outlay keys`` for scripts, and return what it printed."""
        ran = self.run(*words, "--json")
        assert (ran.code, ran.err) == (ExitCode.DONE, "")
        return json.loads(ran.out)

    def status(self, key: str) -> int:
        """Return the status of a request with ``key``."""
        headers = {"authorization": f"Bearer {key}"}
        return httpx.get(
            f"{self.server.url}/v0/costs", headers=headers, timeout=30
        ).status_code


@pytest.fixture(params=["server", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Return a place with a server, whose keys are changed in one of two ways."""
    database = tmp_path / "outlay.db"
    settings = ServerSettings(port=0, database=database, api_key=KEY)
    with BackgroundServer(settings) as server:
        words = {
            "server": command_line.reaching(server),
            "file": ["--db", str(database)],
        }
        yield Place(server, words[request.param])


def test_a_key_lives_from_create_to_revoke(place: Place) -> None:
    """The server sees each step with its next request, also those in the file."""
    made = place.read("create", "reader", "--permission", "costs:read")
    created = place.status(made["key"])
    new = place.read("rotate", made["id"], "--overlap", "1h")
    rotated = place.status(made["key"]), place.status(new["key"])
    listed = {key["id"]: key for key in place.read("list")}
    place.read("revoke", made["id"])
    revoked = place.status(made["key"]), place.status(new["key"])

    assert (created, rotated, revoked) == (200, (200, 200), (401, 200))
    assert listed.keys() == {made["id"], new["id"]}
    assert "expiresAt" in listed[made["id"]]
    assert not any("key" in key for key in listed.values())


def test_people_see_the_key_once_and_its_state(place: Place) -> None:
    """The table is safe to show to others."""
    made = place.run("create", "reader", "--permission", "costs:read")
    key = made.out.split("  key          ")[1].split()[0]
    shown = place.run("list")
    key_id = made.out.split("(")[1].split(")")[0]
    revoked = place.run("revoke", key_id)
    after = place.run("list")

    assert "not shown again" in made.out
    assert place.status(key) == 401
    assert key not in shown.out
    assert f"…{key[-4:]}" in shown.out
    assert " valid " in shown.out
    assert key_id in revoked.out
    assert " revoked " in after.out


def test_a_key_can_go_to_a_file_of_its_owner(place: Place, tmp_path: Path) -> None:
    """Logs of deployments must not have it."""
    file = tmp_path / "worker.key"
    words = ["--permission", "events:create", "--output", str(file)]

    ran = place.run("create", "worker", *words)
    again = place.run("create", "worker", *words)

    key = file.read_text().strip()
    assert place.status(key) == 403  # a valid key without the permission to read
    assert key not in ran.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert again.code == ExitCode.USAGE
    assert file.read_text().strip() == key
    assert len(place.read("list")) == 1


def test_a_refused_key_leaves_no_file(place: Place, tmp_path: Path) -> None:
    """A program would read the empty file as a key."""
    file = tmp_path / "worker.key"

    ran = place.run("create", "x", "--permission", "costs:reed", "--output", str(file))

    assert ran.code in {ExitCode.USAGE, ExitCode.REFUSED}
    assert "costs:reed" in ran.err
    assert not file.exists()


def test_an_unknown_id_is_named(place: Place) -> None:
    """The usual reason is another organization, or another file."""
    for action in ("rotate", "revoke"):
        ran = place.run(action, ID)
        assert ran.code == ExitCode.REFUSED
        assert ID in ran.err


def test_an_ended_key_is_not_rotated(place: Place) -> None:
    """That would bring it back to life."""
    made = place.read("create", "reader", "--permission", "costs:read")
    place.read("revoke", made["id"])

    ran = place.run("rotate", made["id"])

    assert ran.code == ExitCode.REFUSED
    assert "not valid any more" in ran.err


def test_a_key_can_be_made_before_the_first_start(tmp_path: Path) -> None:
    """The server then makes no key with all permissions, and shows none."""
    database = tmp_path / "outlay.db"
    made = command_line.call(
        *("keys", "create", "worker", "--permission", "events:create"),
        *("--db", str(database), "--json", "--expires", "2999-01-01"),
    )
    with BackgroundServer(ServerSettings(port=0, database=database)) as server:
        key = json.loads(made.out)["key"]
        headers = {"authorization": f"Bearer {key}"}
        current = httpx.get(
            f"{server.url}/v0/apiKeys/current", headers=headers, timeout=30
        ).json()

        assert server.api_key is None
    assert current["permissions"] == ["events:create"]
    assert current["expiresAt"].startswith("2999-01-01T00:00:00")


def test_a_rescue_after_the_last_key_was_revoked(tmp_path: Path) -> None:
    """The owner of the file needs no key."""
    database = tmp_path / "outlay.db"
    with BackgroundServer(ServerSettings(port=0, database=database)) as server:
        server.revoke_key(server.api_key or "")
    with BackgroundServer(ServerSettings(port=0, database=database)) as server:
        assert server.api_key is None
        place = Place(server, ["--db", str(database)])
        made = place.read("create", "admin", "--permission", "*")

        assert place.status(made["key"]) == 200


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", "--db", "nothing.db"], "there is no database"),
        (["list", "--namespace", "org_a"], "--namespace is for --db"),
        (["create", "x", "--permission", "*", "--namespace", "a", "--db", "x"], "org"),
        (["rotate", ID, "--overlap", "soon"], "no duration"),
        (["create", "x"], "--permission"),
    ],
    ids=["no-file", "namespace", "bad-namespace", "overlap", "no-permission"],
)
def test_wrong_usage_is_named(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one line that says what to do."""
    monkeypatch.chdir(tmp_path)

    ran = command_line.call("keys", *words)

    assert ran.code == ExitCode.USAGE
    assert says in ran.err
    assert [*Path().iterdir()] == []


def test_a_server_without_keys_is_named() -> None:
    """The live service has no such requests."""
    with command_line.serving() as server:
        server.revoke_key("unknown")  # it does nothing
        ran = command_line.call(
            *("keys", "list", "--base-url", server.url),
            *command_line.with_key("sk_test_wrong"),
        )

    assert ran.code == ExitCode.REFUSED
    assert "--db needs no key" in ran.err
