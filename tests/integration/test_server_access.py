"""Who may reach the server: by which name, over TLS, how often, and on which file."""

from __future__ import annotations

import gc
import logging
import os
import socket
import ssl
import struct
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from pydantic import ValidationError

import outlay
from outlay.api import Api
from outlay.errors import ConfigError
from outlay.server import (
    BackgroundServer,
    CertificateError,
    DatabaseBusyError,
    DatabaseError,
    ServerSettings,
    serve,
)
from outlay.transport import HttpTransport
from tests.support import command_line
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY: Final = "sk_test_access_of_tests"
DEADLINE: Final = 30.0  # seconds; only a failing test waits that long
_RESET: Final = struct.pack("ii", 1, 0)  # closing ends a connection at once
ALL_ADDRESSES: Final = "0.0.0.0"  # noqa: S104 - what the tests are about


@contextmanager
def running(**settings: Any) -> Iterator[BackgroundServer]:  # noqa: ANN401 - any setting
    """Run a server with some settings."""
    fields = {"port": 0, "database": ":memory:", "api_key": KEY, **settings}
    with BackgroundServer(ServerSettings(**fields)) as server:
        yield server


def status(server: BackgroundServer, host: str) -> int:
    """Return the status of a request for a host name."""
    url = server.url.replace(ALL_ADDRESSES, "127.0.0.1")
    return httpx.get(f"{url}/healthz", headers={"host": host}, timeout=30).status_code


# -- names


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:4600", 200),
        ("LOCALHOST.", 200),
        ("127.0.0.1", 200),
        ("[::1]:4600", 200),
        ("192.0.2.7:80", 200),  # a page cannot rebind an address
        ("costs.example.com", 200),
        ("attacker.example", 421),
        ("attacker.example:4600", 421),
        ("costs.example.com.attacker.example", 421),
        ("", 421),
        ("[::1", 421),
    ],
)
def test_only_the_servers_own_names_are_served(host: str, expected: int) -> None:
    """A web page could send requests by a name that leads to this machine."""
    with running(allowed_hosts=("costs.example.com",)) as server:
        assert status(server, host) == expected


def test_on_all_addresses_the_machines_name_is_served() -> None:
    """The banner shows it, so it must work."""
    with running(host=ALL_ADDRESSES) as server:
        assert status(server, socket.gethostname()) == 200
        assert status(server, "attacker.example") == 421


def test_all_names_can_be_allowed() -> None:
    """A proxy before the server may check them."""
    with running(allowed_hosts=("*",)) as server:
        assert status(server, "anything.example") == 200


def test_a_refused_name_comes_with_the_remedy() -> None:
    """The usual cause is a new name of the operator's own."""
    with running() as server:
        response = httpx.get(
            f"{server.url}/healthz", headers={"host": "costs.lan"}, timeout=30
        )

    assert response.json()["code"] == "UNKNOWN_HOST"
    assert "--allowed-host costs.lan" in response.json()["message"]


def test_a_browser_gets_a_page_about_a_refused_name() -> None:
    """With its styles, which are no secret. Programs get JSON."""
    with running() as server:

        def get(path: str, accept: str) -> httpx.Response:
            headers = {"host": "costs<.lan", "accept": accept}
            return httpx.get(f"{server.url}{path}", headers=headers, timeout=30)

        page = get("/customers", "text/html,*/*")
        style = get("/static/dashboard.css", "text/css")
        programs = [get("/v0/costs", "text/html"), get("/", "application/json")]

    assert page.status_code == 421
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "--allowed-host costs&lt;.lan" in page.text
    assert style.status_code == 200
    for response in programs:
        assert response.status_code == 421
        assert response.json()["code"] == "UNKNOWN_HOST"


# -- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority that only these tests trust."""
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> dict[str, Path]:
    """Return the settings of a certificate for this machine."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    files = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
    files["tls_cert"].write_bytes(b"".join(b.bytes() for b in issued.cert_chain_pems))
    files["tls_key"].write_bytes(issued.private_key_pem.bytes())
    return files


def test_tls_serves_who_trusts_the_certificate(
    authority: trustme.CA, certificate: dict[str, Path]
) -> None:
    """And no client over plain HTTP."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with running(**certificate) as server:
        url = f"{server.url}/healthz"
        response = httpx.get(url, verify=trusting, timeout=30)

        assert server.url.startswith("https://127.0.0.1:")
        assert response.status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, verify=ssl.create_default_context(), timeout=30)
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"), timeout=30)


def test_unfinished_handshakes_make_room(
    authority: trustme.CA, certificate: dict[str, Path]
) -> None:
    """A client without a key could else take all connections, and say nothing."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with (
        running(**certificate, max_connections_per_address=4) as server,
        ExitStack() as opened,
    ):
        place = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        silent = [
            opened.enter_context(socket.create_connection(place, timeout=DEADLINE))
            for _ in range(12)
        ]

        response = httpx.get(f"{server.url}/healthz", verify=trusting, timeout=DEADLINE)

        assert response.status_code == 200
        assert is_closed(silent[0])


def test_a_handshake_has_a_time_limit(certificate: dict[str, Path]) -> None:
    """As the head of a request has."""
    with running(**certificate, head_timeout=0.5) as server:
        place = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        with socket.create_connection(place, timeout=DEADLINE) as silent:
            assert is_closed(silent)


def test_a_client_that_leaves_in_its_handshake_is_no_error(
    certificate: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A health check of a load balancer would else fill the log."""
    with running(**certificate, max_connections_per_address=40) as server:
        place = (urlsplit(server.url).hostname, urlsplit(server.url).port)
        for _ in range(20):
            with socket.create_connection(place, timeout=DEADLINE) as leaving:
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                leaving.sendall(b"GET / HTTP/1.1")
    gc.collect()  # asyncio logs the error of a task when the task is deleted
    assert [one.getMessage() for one in caplog.records if one.name == "asyncio"] == []


def test_an_idle_client_does_not_delay_the_end(
    authority: trustme.CA, certificate: dict[str, Path]
) -> None:
    """Pooled connections are idle most of the time, and each deploy waits for them."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    fields: dict[str, Any] = {**certificate, "shutdown_timeout": 600}
    settings = ServerSettings(port=0, database=":memory:", **fields)
    server = BackgroundServer(settings).start()
    with httpx.Client(verify=trusting, timeout=DEADLINE) as pool:
        assert pool.get(f"{server.url}/healthz").status_code == 200

        stopping = threading.Thread(target=server.stop, daemon=True)
        stopping.start()
        stopping.join(DEADLINE)

        assert not stopping.is_alive()


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server closes a connection. Return False if it does not."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def test_clients_trust_the_authority_that_the_environment_names(
    authority: trustme.CA,
    certificate: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server on the same machine needs no proxy, and its certificate counts."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with running(**certificate) as server:
        settings: dict[str, Any] = {"base_url": server.url, "api_key": KEY}
        with outlay.Client(**settings, durability="memory") as client:
            assert client.budget("cus_1", timeout=20, strict=True) is None
        with Api(**settings) as api:
            assert api.metrics() == []


def test_authorities_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path with a typo is an error of the settings, which says what to correct."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    address = "https://localhost"
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        Api(base_url=address, api_key=KEY)
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        HttpTransport(address, api_key=KEY, timeout=1, max_connections=1)
    with (
        outlay.Client(base_url=address, durability="memory") as client,
        pytest.raises(ConfigError, match="SSL_CERT_FILE"),
    ):
        client.budget("cus_1", timeout=DEADLINE, strict=True)


def test_one_file_can_hold_certificate_and_key(
    authority: trustme.CA, tmp_path: Path
) -> None:
    """As certbot and Kubernetes users often have it."""
    both = tmp_path / "both.pem"
    both.write_bytes(
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes()
    )
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with running(tls_cert=both) as server:
        assert (
            httpx.get(f"{server.url}/healthz", verify=trusting, timeout=30).status_code
            == 200
        )


def test_an_unusable_certificate_is_said_so(
    certificate: dict[str, Path], tmp_path: Path
) -> None:
    """Before the database is touched."""
    database = tmp_path / "outlay.db"
    certificate["tls_key"].write_text("no key")
    settings = ServerSettings(
        port=0,
        database=database,
        api_key=KEY,
        tls_cert=certificate["tls_cert"],
        tls_key=certificate["tls_key"],
    )

    with pytest.raises(CertificateError, match=r"cert\.pem cannot be used"):
        serve(settings)
    with pytest.raises(CertificateError):
        BackgroundServer(settings).start()
    assert not database.exists()


def test_a_private_key_needs_its_certificate(tmp_path: Path) -> None:
    """Else the operator believes that TLS is on."""
    with pytest.raises(ValidationError, match="tls_key needs tls_cert"):
        ServerSettings(tls_key=tmp_path / "key.pem")


def test_the_command_serves_https(certificate: dict[str, Path]) -> None:
    """Its banner shows the address to use."""
    cert, key = map(str, certificate.values())
    process = command_line.start(
        *("serve", "--port", "0", "--db", ":memory:"),
        *("--tls-cert", cert, "--tls-key", key, "--host", ALL_ADDRESSES),
    )
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if "export OUTLAY_API_KEY" in line:
            break
    process.terminate()
    out, err = process.communicate(timeout=30)

    assert "address   https://127.0.0.1:" in shown
    assert "Warning" not in shown + out + err


def test_plain_http_beyond_this_machine_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """API keys would be readable on the network."""
    assert ServerSettings(host=ALL_ADDRESSES).is_exposed
    assert not ServerSettings().is_exposed
    assert not ServerSettings(host="::1").is_exposed

    with caplog.at_level(logging.WARNING, "outlay.server"), running(host=ALL_ADDRESSES):
        pass

    assert "plain HTTP" in caplog.text


# -- how often


def test_a_key_has_its_share_and_no_more() -> None:
    """One program that runs wild must not take the server from the others."""
    clock = ManualClock()
    settings = ServerSettings(port=0, database=":memory:", api_key=KEY, rate_limit=2)
    with BackgroundServer(settings, clock=clock) as server:
        other = server.create_key("other", ["costs:read"])

        def ask(key: str) -> httpx.Response:
            headers = {"authorization": f"Bearer {key}"}
            return httpx.get(f"{server.url}/v0/costs", headers=headers, timeout=30)

        first = [ask(KEY).status_code for _ in range(3)]
        refused = ask(KEY)
        neighbour = ask(other).status_code
        clock.advance(0.5)
        later = [ask(KEY).status_code for _ in range(2)]

    assert (first, neighbour, later) == ([200, 200, 429], 200, [200, 429])
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["code"] == "RATE_LIMITED"


def test_the_client_waits_as_it_is_told(tmp_path: Path) -> None:
    """A 429 delays events, and loses none."""
    with running(rate_limit=3, accept_unmatched=True) as server:
        client = outlay.Client(
            base_url=server.url, api_key=KEY, journal_dir=tmp_path, max_batch_events=1
        )
        for number in range(6):
            client.track_cost("cost.ai", 1, customer_id="c", operation_id=number)

        assert client.flush(20).complete
        client.close()
        assert server.counts.accepted == 6


# -- on which file


def test_a_second_server_is_refused_by_any_name_of_the_file(tmp_path: Path) -> None:
    """It would write into a log of its own, and destroy what the first one writes."""
    database = tmp_path / "outlay.db"
    other = tmp_path / "other"
    other.mkdir()
    with running(database=database) as server:
        (other / "link.db").symlink_to(database)
        with pytest.raises(DatabaseBusyError), running(database=other / "link.db"):
            pass
        os.link(database, other / "name.db")
        with (
            pytest.raises(DatabaseError, match="hard links"),
            running(database=other / "name.db"),
        ):
            pass
        ran = command_line.call("keys", "list", "--db", str(other / "name.db"))
        assert "hard links" in ran.err
        assert status(server, "localhost") == 200
        assert server.create_key("still works", ["costs:read"])
    assert [path.name for path in other.iterdir() if "wal" in path.name] == []


def test_a_symbolic_link_alone_is_fine(tmp_path: Path) -> None:
    """Operators put databases on other disks that way."""
    link = tmp_path / "link.db"
    (tmp_path / "disk").mkdir()
    link.symlink_to(tmp_path / "disk" / "outlay.db")

    with running(database=link) as server:
        assert status(server, "localhost") == 200
    assert (tmp_path / "disk" / "outlay.db").exists()
