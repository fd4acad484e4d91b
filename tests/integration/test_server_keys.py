"""API keys over real HTTP: made, shown once, scoped, expiring, rotated, revoked."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from outlay.server import BackgroundServer, ServerSettings
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADMIN: Final = "sk_test_administrator"
KEYS: Final = "/v0/apiKeys"


class Site:
    """A running server, with its clock and its administrator.

    Attributes:
        server: The server.
        clock: The server's clock.
        http: A client with all permissions.
    """

    def __init__(
        self, server: BackgroundServer, clock: ManualClock, http: httpx.Client
    ) -> None:
        self.server = server
        self.clock = clock
        self.http = http

    def create(self, *permissions: str, **fields: object) -> dict[str, Any]:
        """Create a key with the administrator's, and return the response's body."""
        body = {"name": "reader", "permissions": permissions, **fields}
        response = self.http.post(KEYS, json=body)
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created

    def ask(
        self,
        key: str,
        method: str = "GET",
        path: str = "/v0/costs",
        json: object = None,
    ) -> httpx.Response:
        """Send a request with ``key``."""
        headers = {"authorization": f"Bearer {key}"}
        return self.http.request(method, path, headers=headers, json=json)

    def later(self, **duration: float) -> str:
        """Return the instant after ``duration``, as the wire has it."""
        now = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)
        return (now + timedelta(**duration)).isoformat()


@contextmanager
def running(**settings: Any) -> Iterator[Site]:  # noqa: ANN401 - any setting
    """Run a server with a clock that the test moves."""
    clock = ManualClock()
    fields = {"port": 0, "database": ":memory:", "api_key": ADMIN, **settings}
    headers = {"authorization": f"Bearer {ADMIN}"}
    with (
        BackgroundServer(ServerSettings(**fields), clock=clock) as server,
        httpx.Client(base_url=server.url, headers=headers, timeout=30) as http,
    ):
        yield Site(server, clock, http)


@pytest.fixture
def site() -> Iterator[Site]:
    """Return a running server of the test's own."""
    with running() as site:
        yield site


def test_a_key_is_shown_once_and_described_without_itself(site: Site) -> None:
    """A list of keys must be safe to look at, and to log."""
    created = site.create("costs:read", "events:create")
    key = created["key"]

    read = site.http.get(f"{KEYS}/{created['id']}")
    listed = site.http.get(KEYS)

    assert key.startswith("sk_test_")
    assert created["hint"] == key[-4:]
    assert created["permissions"] == ["costs:read", "events:create"]
    assert read.json() == {k: v for k, v in created.items() if k != "key"}
    assert listed.json()["data"] == [read.json()]
    assert key not in read.text + listed.text


def test_a_new_key_must_not_stay_in_a_cache(site: Site) -> None:
    """A proxy or a browser could keep the only response with the key."""
    body = {"name": "reader", "permissions": ["costs:read"]}

    created = site.http.post(KEYS, json=body)
    rotated = site.http.post(f"{KEYS}/{created.json()['id']}/rotate", json={})

    assert created.headers["cache-control"] == "no-store"
    assert rotated.headers["cache-control"] == "no-store"


def test_a_key_can_do_what_it_was_made_for_and_no_more(site: Site) -> None:
    """A dashboard that only reads must not be able to add costs."""
    key = site.create("costs:read")["key"]

    assert site.ask(key).status_code == 200
    refused = site.ask(key, "POST", "/v0/events", json={})
    assert refused.status_code == 403
    assert refused.json()["requiredPermissions"] == ["events:create"]


def test_each_key_can_ask_who_it_is(site: Site) -> None:
    """A page to sign in shows what its visitor may do."""
    created = site.create("costs:read")

    current = site.ask(created["key"], path=f"{KEYS}/current").json()
    fixed = site.http.get(f"{KEYS}/current").json()

    assert (current["id"], current["permissions"]) == (created["id"], ["costs:read"])
    assert (fixed["id"], fixed["hint"]) == ("fixed", "")


def test_a_key_expires(site: Site) -> None:
    """At the instant, not at the next restart."""
    key = site.create("costs:read", expiresAt=site.later(hours=1))["key"]
    site.clock.advance(3599.999)
    before = site.ask(key)
    site.clock.advance(0.001)
    after = site.ask(key)

    assert (before.status_code, after.status_code) == (200, 401)
    assert "expired" in after.json()["message"]


def test_a_revoked_key_is_refused_by_the_next_request(site: Site) -> None:
    """It may be in the wrong hands."""
    created = site.create("costs:read")
    before = site.ask(created["key"])

    revoked = site.http.delete(f"{KEYS}/{created['id']}")
    after = site.ask(created["key"])

    assert [before.status_code, revoked.status_code, after.status_code] == [
        200,
        204,
        401,
    ]
    assert "revoked" in after.json()["message"]
    assert "revokedAt" in site.http.get(f"{KEYS}/{created['id']}").json()


def test_a_rotated_key_stays_valid_for_the_overlap(site: Site) -> None:
    """Programs must have time to take up the new one."""
    old = site.create("costs:read", expiresAt=site.later(days=30))
    site.clock.advance(86_400)
    new = site.http.post(
        f"{KEYS}/{old['id']}/rotate", json={"overlapSeconds": 60}
    ).json()
    both = [site.ask(key["key"]).status_code for key in (old, new)]
    site.clock.advance(60)
    one = [site.ask(key["key"]).status_code for key in (old, new)]

    assert (both, one) == ([200, 200], [401, 200])
    assert (new["name"], new["permissions"]) == (old["name"], old["permissions"])
    lived = datetime.fromisoformat(new["expiresAt"]) - datetime.fromisoformat(
        new["createdAt"]
    )
    assert lived == timedelta(days=30)


def test_an_ended_key_cannot_be_rotated(site: Site) -> None:
    """That would bring it back to life."""
    created = site.create("costs:read")
    site.http.delete(f"{KEYS}/{created['id']}")

    assert site.http.post(f"{KEYS}/{created['id']}/rotate", json={}).status_code == 409


def test_a_key_gives_no_more_than_it_has(site: Site) -> None:
    """Else a stolen key of an assistant would be as good as the administrator's."""
    admin = site.create("*")
    weak = site.create("apiKeys:write", "costs:read", expiresAt=site.later(days=1))

    def create(*permissions: str, **fields: str) -> httpx.Response:
        body = {"name": "x", "permissions": permissions, **fields}
        return site.ask(weak["key"], "POST", KEYS, json=body)

    rotated = site.ask(weak["key"], "POST", f"{KEYS}/{admin['id']}/rotate", json={})
    soon, late = site.later(hours=1), site.later(days=2)
    assert create("costs:read", expiresAt=soon).status_code == 201
    assert create("costs:write", expiresAt=soon).status_code == 403
    assert create("*", expiresAt=soon).status_code == 403
    assert create("costs:read", expiresAt=late).json()["errors"][0]["field"] == (
        "expiresAt"
    )
    assert create("costs:read").status_code == 400
    assert rotated.status_code == 403


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"permissions": []}, "permissions"),
        ({"permissions": ["costs:reed"]}, "permissions"),
        ({"name": ""}, "name"),
        ({"expiresAt": "2000-01-01T00:00:00Z"}, "expiresAt"),
        ({"expiresAt": "soon"}, "expiresAt"),
    ],
    ids=["nothing", "typing-error", "no-name", "past", "no-instant"],
)
def test_a_wrong_field_is_named(site: Site, fields: dict[str, Any], field: str) -> None:
    """The key would be useless, or for nothing."""
    body = {"name": "reader", "permissions": ["costs:read"], **fields}

    response = site.http.post(KEYS, json=body)

    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]


def test_keys_of_another_organization_do_not_exist(site: Site) -> None:
    """Neither to read, nor to rotate, nor to revoke."""
    created = site.create("costs:read")
    other = site.server.create_key("other", ["*"], namespace="org_other")

    asked = [
        site.ask(other, method, f"{KEYS}/{created['id']}{action}", json={})
        for method, action in (("GET", ""), ("POST", "/rotate"), ("DELETE", ""))
    ]

    assert [response.status_code for response in asked] == [404, 404, 404]
    assert site.ask(created["key"]).status_code == 200


def test_the_last_use_is_known_and_outlives_the_server(tmp_path: Path) -> None:
    """It tells which keys no program needs."""
    database = tmp_path / "outlay.db"
    with running(database=database) as site:
        used, unused = site.create("costs:read"), site.create("costs:read")
        site.ask(used["key"])
    with running(database=database) as site:
        after = {key["id"]: key for key in site.http.get(KEYS).json()["data"]}
        site.ask(used["key"])
        current = site.http.get(f"{KEYS}/{used['id']}").json()

    assert "lastUsedAt" in after[used["id"]]
    assert "lastUsedAt" not in after[unused["id"]]
    assert "lastUsedAt" in current


def test_no_key_is_on_disk(tmp_path: Path) -> None:
    """A stolen backup must not be a set of keys."""
    with running(database=tmp_path / "outlay.db") as site:
        key = site.create("costs:read")["key"]
        files = [path.read_bytes() for path in tmp_path.iterdir()]
    files += [path.read_bytes() for path in tmp_path.iterdir()]

    assert len(files) > 1
    assert not any(key.encode() in content for content in files)
