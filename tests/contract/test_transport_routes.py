"""How requests find their way: proxies, certificates, and clients of the user's."""

from __future__ import annotations

import base64
import logging
import ssl
from typing import TYPE_CHECKING, Final

import httpx
import httpx2
import pytest
import trustme

from outlay import Client, ConfigError
from outlay._shipping import connections
from outlay.errors import UnavailableError
from outlay.transport import HttpTransport
from tests.contract.transports import KEY, LIBRARIES, PATH, transport_to
from tests.support.events import track
from tests.support.raw_servers import RawServer, answers, tunnelling

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

each_library = pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
each_lender = pytest.mark.parametrize(
    "library", [httpx, httpx2], ids=["httpx", "httpx2"]
)

_HOST: Final = "costs.example"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a certificate authority that no system trusts yet."""
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the authority's certificate as a file."""
    path = tmp_path_factory.mktemp("certificates") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def _tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


@each_library
def test_an_authority_of_your_own_is_trusted_where_it_is_named(
    library: ModuleType | None,
    authority: trustme.CA,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Companies sign their own; the variable is the one that OpenSSL knows."""
    with RawServer(tls=_tls(authority, "127.0.0.1")) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        with transport_to(server.url, library) as post:
            statuses = [post.post(PATH, b"{}").status for _ in range(5)]

    assert statuses == [202] * 5
    assert server.accepted == 1, "one handshake for all"


@each_library
@pytest.mark.parametrize("name", ["127.0.0.1", "other.example"])
def test_a_certificate_that_proves_nothing_is_refused_before_anything_is_sent(
    library: ModuleType | None, name: str, authority: trustme.CA, bundle: Path
) -> None:
    """Neither the credential nor the event goes to another server that answers."""
    options: dict[str, object] = {}
    if name == "other.example" and library is not None:
        options["verify"] = ssl.create_default_context(cafile=str(bundle))

    with (
        RawServer(tls=_tls(authority, name)) as server,
        transport_to(server.url, library, **options) as post,  # type: ignore[arg-type]
        pytest.raises(UnavailableError, match=r"certificate|CERTIFICATE") as caught,
    ):
        post.post(PATH, b"{}")

    assert not caught.value.sent
    assert server.arrived == []


@each_library
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_that_the_environment_names_is_asked(
    library: ModuleType | None, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many networks have no other way out."""
    if variable == "HTTP_PROXY":
        monkeypatch.delenv("REQUEST_METHOD", raising=False)
    with RawServer() as proxy:
        monkeypatch.setenv(variable, f"http://user:p%40ss@{proxy.address}")
        with transport_to(f"http://{_HOST}", library) as post:
            assert post.post(PATH, b"{}").status == 202

    [arrived] = proxy.arrived
    assert arrived.line == f"POST http://{_HOST}{PATH} HTTP/1.1"
    credential = base64.b64encode(b"user:p@ss").decode()
    assert arrived.headers["proxy-authorization"] == f"Basic {credential}"


@each_library
def test_a_tunnel_leads_through_a_proxy_to_a_server_with_tls(
    library: ModuleType | None,
    authority: trustme.CA,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The proxy sees the name of the host, and nothing of what is said."""
    with (
        RawServer(tls=_tls(authority, _HOST)) as server,
        RawServer(tunnelling(server)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        with transport_to(f"https://{_HOST}", library) as post:
            statuses = [post.post(PATH, b"{}").status for _ in range(3)]

    assert statuses == [202] * 3
    assert [one.line for one in proxy.arrived] == [f"CONNECT {_HOST}:443 HTTP/1.1"]
    assert KEY not in str(proxy.arrived)


@each_library
def test_a_proxy_that_refuses_the_tunnel_has_sent_nothing(
    library: ModuleType | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """407 of a proxy is not an answer of the service."""
    with RawServer(answers(407)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with (
            transport_to(f"https://{_HOST}", library) as post,
            pytest.raises(UnavailableError, match="ProxyError") as caught,
        ):
            post.post(PATH, b"{}")

    assert not caught.value.sent


@pytest.mark.parametrize("exempt", ["*", _HOST, ".example", "other.test, example"])
def test_a_host_that_is_exempt_is_reached_directly(
    exempt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python's own libraries read the variable."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    named = connections._proxy_for(httpx.URL(f"http://{_HOST}"))
    monkeypatch.setenv("NO_PROXY", exempt)

    assert named is not None
    assert connections._proxy_for(httpx.URL(f"http://{_HOST}")) is None


@pytest.mark.parametrize(
    ("host", "exempt", "direct"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "localhost, 10.1.0.0/16", True),
        ("10.1.2.3", "10.1.2.0/28", True),
        ("10.1.2.99", "10.1.2.0/28", False),
        ("10.1.2.3", "fd00::/8", False),
        ("[fd00::7]", "fd00::/8", True),
        ("10.example", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/99, /8, ,", False),
    ],
)
def test_a_network_that_is_exempt_is_reached_directly(
    host: str, exempt: str, *, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clusters exempt their own addresses by network, as curl and Go read it."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", exempt)

    assert (connections._proxy_for(httpx.URL(f"http://{host}")) is None) == direct


def test_a_server_on_this_machine_is_not_looked_for_by_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default address is loopback; a company's proxy knows another loopback."""
    with RawServer() as server, RawServer() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        with transport_to(server.url, None) as post:
            post.post(PATH, b"{}")

    assert (server.accepted, proxy.accepted) == (1, 0)


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("gopher://user:secret@proxy", "HTTP_PROXY"),
        ("http://user:secret@[proxy", "HTTP_PROXY"),
        ("socks5://user:secret@proxy", r"pip install 'httpx\[socks\]'"),
    ],
    ids=["scheme", "malformed", "extra"],
)
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(
    address: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong variable is a mistake of the deployment, and says what to correct."""
    monkeypatch.setenv("HTTP_PROXY", address)

    with pytest.raises(ConfigError, match=remedy) as caught:
        transport_to(f"http://{_HOST}", None).__enter__()

    assert "secret" not in str(caught.value)


# Clients that are lent.


@each_lender
def test_headers_and_hooks_of_a_lent_client_hold(library: ModuleType) -> None:
    """They are why it is lent: a gateway's token, a company's trace header."""
    seen: list[str] = []

    with (
        RawServer() as server,
        library.Client(
            headers={"x-gateway": "token", "accept": "text/html"},
            event_hooks={"request": [lambda request: seen.append(request.method)]},
        ) as client,
    ):
        post = HttpTransport(
            server.url, api_key=KEY, timeout=5, max_connections=1, client=client
        )
        post.post(PATH, b"{}")
        post.close()
        client.get(server.url)

    first, second = server.arrived
    assert first.headers["x-gateway"] == "token"
    assert first.headers["accept"] == "application/json", "ours are the contract's"
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in second.headers, "ours stay with our requests"
    assert seen == ["POST", "GET"], "closing the transport leaves a lent client open"


@each_lender
def test_a_client_that_was_made_for_the_transport_is_closed_with_it(
    library: ModuleType,
) -> None:
    """No other code could close it."""
    made = []

    def make() -> httpx.Client:
        made.append(library.Client())
        return made[0]  # type: ignore[no-any-return]

    with RawServer() as server:
        post = HttpTransport(
            server.url, api_key=None, timeout=5, max_connections=1, client=make
        )
        post.post(PATH, b"{}")
        post.close()

    assert len(made) == 1
    assert made[0].is_closed


@each_lender
def test_a_client_of_your_own_kind_may_be_lent(library: ModuleType) -> None:
    """Subclasses are how both libraries are extended."""
    own = type("Own", (library.Client,), {})

    with RawServer() as server, own() as client:
        post = HttpTransport(
            server.url, api_key=None, timeout=5, max_connections=1, client=client
        )
        assert post.post(PATH, b"{}").status == 202


@pytest.mark.parametrize(
    "wrong",
    [httpx.AsyncClient(), httpx2.AsyncClient(), "http://proxy", 7],
    ids=["asynchronous", "asynchronous httpx2", "text", "number"],
)
def test_what_is_no_client_is_refused_at_once(wrong: object, tmp_path: Path) -> None:
    """A failure in the background, hours later, would be seen by no person."""
    with pytest.raises(ConfigError, match=r"pass an httpx\.Client"):
        Client(http_client=wrong, journal_dir=tmp_path)  # type: ignore[arg-type]


def test_a_transport_and_a_client_at_once_are_refused(tmp_path: Path) -> None:
    """One of them would be ignored."""
    with httpx.Client() as client, pytest.raises(ConfigError, match="not both"):
        Client(
            transport=lambda: pytest.fail("made"),
            http_client=client,
            journal_dir=tmp_path,
        )


@each_lender
def test_a_client_ships_through_what_it_was_lent(
    library: ModuleType, tmp_path: Path
) -> None:
    """The argument reaches the shipper."""
    with (
        RawServer() as server,
        library.Client(headers={"x-gateway": "token"}) as lent,
        Client(base_url=server.url, http_client=lent, journal_dir=tmp_path) as client,
    ):
        track(client, 1)
        assert client.flush(10).complete

    assert server.arrived[0].headers["x-gateway"] == "token"


@each_lender
def test_a_library_does_not_log_our_posts_but_the_applications_own(
    library: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    """One line for every cost event would drown the application's log."""
    caplog.set_level(logging.INFO, library.__name__)

    with RawServer() as server, library.Client() as client:
        post = HttpTransport(
            server.url, api_key=None, timeout=5, max_connections=1, client=client
        )
        post.post(PATH, b"{}")
        client.get(f"{server.url}/applications-own")
        post.post(PATH, b"{}")

    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert "applications-own" in lines[0]
