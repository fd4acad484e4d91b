"""``outlay serve``: run the reference server in the foreground."""

from __future__ import annotations

import argparse
import logging
import socket
import tempfile
import threading
import webbrowser
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from html import escape
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import field_validator

from outlay._cli.database_option import STORE_VARIABLE
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import currency_code, has_password, key_in_file, secret_in_file
from outlay._model.settings import (
    DEFAULT_BASE_URL,
    SERVER_PREFIX,
    EnvironmentSettings,
)
from outlay.server import ServerSettings, ServerStarted, serve
from outlay.server._logs import UPDATE_LOGGER, formatter

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORY_VARIABLE: Final = f"{SERVER_PREFIX}HISTORY"

_DESCRIPTION: Final = f"""\
Run the reference server until Ctrl-C or SIGTERM. It stores everything in one file, or
in a PostgreSQL database, whose old days may move to ClickHouse. The first start creates
the default cost metrics and an API key, and shows the key once.

Each option but --open has a variable: {SERVER_PREFIX}PORT for --port,
{SERVER_PREFIX}DATABASE for --db, {SERVER_PREFIX}API_KEY for the key itself, and so on.
"""

_EPILOG: Final = """\
examples:
  outlay serve --dev
  outlay serve --open
  outlay serve --port 4600 --db costs.db
  outlay serve --store postgresql://ledger.internal/outlay
  outlay serve --store postgresql://ledger.internal/outlay \\
      --history clickhouse://history.internal/outlay
  outlay serve --db :memory: --api-key-file /run/secrets/outlay
"""

_MIN_KEY_CHARS: Final = 16
"""The shortest fixed key. A shorter one could be guessed."""

_SWITCHES: Final = {
    "--accept-unmatched": "accept events that no cost metric counts, instead of "
    "refusing them",
    "--strict-products": "refuse metrics of unknown products, instead of registering "
    "the product",
    "--strict-timestamps": "refuse times without an offset, instead of reading them as "
    "UTC",
    "--public-metrics": "serve /metrics without a key",
    "--access-log": "log a line for every request",
}


class ServeSettings(EnvironmentSettings, ServerSettings):
    """The server's settings, read from arguments and ``OUTLAY_SERVER_*`` variables."""

    default_metrics: bool = True
    """Create cost metrics for all captured event types in a new database."""

    @field_validator("dedupe_window", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        """Read a number in a variable as seconds, as all other settings do."""
        if isinstance(value, str):
            with suppress(ValueError):
                return float(value)
        return value

    @field_validator("allowed_hosts", "webhook_networks", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        """Read a variable as names that are separated by commas."""
        return value.split(",") if isinstance(value, str) else value

    @field_validator("api_key")
    @classmethod
    def _hard_to_guess(cls, value: str | None) -> str | None:
        if value is not None and len(value) < _MIN_KEY_CHARS:
            raise ValueError(
                f"must have {_MIN_KEY_CHARS} characters or more; make one with: "
                "openssl rand -hex 24"
            )
        return value


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add(
        "--dev",
        action="store_true",
        default=None,
        help="for development: no key, only this machine, default cost metrics, and "
        "cost.* events of unknown types are accepted",
    )
    add(
        "--open",
        action="store_true",
        default=argparse.SUPPRESS,  # all other arguments are settings
        help="open the dashboard in a browser, signed in by a link that works once",
    )
    add("--host", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, help="port to listen on; 0 takes any (default: 4600)")
    _add_stores(parser)
    _add_access(parser)
    _add_network(parser)
    _add_rules(parser)


def _add_stores(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--db",
        dest="database",
        metavar="FILE",
        help="database file, or ':memory:' for one that is deleted at the end "
        "(default: outlay.db)",
    )
    add(
        "--store",
        type=partial(
            _without_password, f"{STORE_VARIABLE}, or keep the password in ~/.pgpass"
        ),
        metavar="URL",
        help="PostgreSQL database that several servers share, instead of a file, as "
        f"postgresql://host/name; set a URL with a password in {STORE_VARIABLE}",
    )
    add(
        "--history",
        type=partial(
            _without_password, f"{HISTORY_VARIABLE}, or the one in CLICKHOUSE_PASSWORD"
        ),
        metavar="URL",
        help="ClickHouse database to which days that are over move from --store, as "
        f"clickhouse://host/name; set a URL with a password in {HISTORY_VARIABLE}",
    )


def _add_access(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--api-key-file",
        dest="api_key",
        type=key_in_file,
        metavar="FILE",
        help="file with a fixed key that has all permissions (default: the keys in "
        "the database)",
    )
    add(
        "--session-secret-file",
        dest="session_secret",
        type=secret_in_file,
        metavar="FILE",
        help="file with the secret of dashboard sessions, of 32 bytes or more, which "
        "all servers of --store need (default: one of this server alone)",
    )
    add(
        "--allowed-host",
        dest="allowed_hosts",
        action="append",
        metavar="NAME",
        help="host name of the server in URLs, besides localhost, --host and IP "
        "addresses; '*' allows all; may be repeated",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--webhook-network",
        dest="webhook_networks",
        action="append",
        metavar="NETWORK",
        help="network that webhooks may reach although it is not public, such as "
        "10.0.0.0/8; may be repeated",
    )
    add(
        "--webhook-timeout",
        type=float,
        metavar="SECONDS",
        help="limit of an attempt to deliver a message to a webhook (default: 10)",
    )
    add("--tls-cert", metavar="FILE", help="certificate and its chain, to serve HTTPS")
    add(
        "--tls-key",
        metavar="FILE",
        help="private key of the certificate (default: in the file of the certificate)",
    )


def _add_rules(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--rate-limit",
        type=float,
        metavar="NUMBER",
        help="requests per second of one API key (default: no limit)",
    )
    add(
        "--log-format",
        choices=("text", "json"),
        help="format of the log on standard error (default: text)",
    )
    add(
        "--dedupe-window",
        type=float,
        metavar="SECONDS",
        help="remember an idempotency key for this long (default: 86400, a day)",
    )
    add(
        "--default-currency",
        type=currency_code,
        metavar="CODE",
        help="currency of metrics that name none (default: USD)",
    )
    for name, text in _SWITCHES.items():
        add(name, action="store_true", default=None, help=text)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal arrives."""
    given = {name: value for name, value in vars(arguments).items() if name != "open"}
    settings = ServeSettings.resolve(given, prefix=SERVER_PREFIX)
    if settings.dev and settings.api_key is not None:
        raise UsageError(
            "--dev takes no key; leave out --api-key-file, or leave out --dev"
        )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings.log_format))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger(UPDATE_LOGGER).setLevel(logging.INFO)
    if settings.access_log:
        logging.getLogger("outlay.server").setLevel(logging.INFO)

    def announce(started: ServerStarted) -> None:
        print(banner(started, settings), flush=True)
        if "open" in arguments:
            link = _reachable_url(started.url) + started.sign_in_path
            print(f"\nThe dashboard, for one sign-in:\n\n  {link}", flush=True)
            files.enter_context(opened_in_browser(link))

    with ExitStack() as files:
        serve(settings, on_start=announce)
    print("stopped; all accepted events are stored")
    return ExitCode.DONE


def _without_password(place: str, url: str) -> str:
    """Return a URL, unless other users of the machine would see its password.

    Args:
        place: The places where the password can be.
        url: The URL.
    """
    if has_password(url):
        raise argparse.ArgumentTypeError(
            "other users can read the arguments of a program; set the URL with the "
            f"password in {place}"
        )
    return url


@contextmanager
def opened_in_browser(link: str) -> Iterator[None]:
    """Open a secret link in the user's browser, until the end of the block.

    The browser gets the name of a private file that leads to the link. Other users of
    the machine can read the arguments of a program, but not that file.
    """
    with tempfile.TemporaryDirectory(prefix="outlay-open-") as folder:
        page = Path(folder) / "dashboard.html"
        page.touch(mode=0o600)
        address = escape(link)
        page.write_text(
            f'<meta http-equiv="refresh" content="0; url={address}">'
            f'<a href="{address}">Open the dashboard</a>',
            encoding="utf-8",
        )
        # Some browsers only return when they are closed.
        threading.Thread(
            target=webbrowser.open, args=[page.as_uri()], daemon=True
        ).start()
        yield


def banner(started: ServerStarted, settings: ServerSettings) -> str:
    """Return the address, the database and the settings of clients."""
    if settings.store is not None:
        database = settings.store_place
    elif settings.database == ":memory:":
        database = "temporary, deleted when the server stops"
    else:
        database = str(settings.database.absolute())
    url = _reachable_url(started.url)
    kind = " for development" if settings.dev else ""
    lines = [
        f"outlay server is running{kind}; Ctrl-C stops it",
        "",
        f"  address   {url}",
        f"  database  {database}",
    ]
    if url != started.url:
        parts = urlsplit(url)
        lines.append(
            f"  others    {parts.scheme}://{socket.gethostname()}:{parts.port}"
        )
    if settings.is_exposed:
        lines += [
            "",
            "Warning: other machines can reach this server over plain HTTP, which does",
            "not hide the API key. Set --tls-cert, or put a proxy with TLS before it.",
        ]
    if settings.dev:
        lines += ["", "It needs no API key, and only this machine can reach it."]
        if url == DEFAULT_BASE_URL:
            return "\n".join([*lines, "Programs with outlay find it without settings."])
        return "\n".join([*lines, "To use it:", "", f"  export OUTLAY_BASE_URL={url}"])
    exports = ["", f"  export OUTLAY_BASE_URL={url}"]
    if started.generated_key is None:
        exports.append("  export OUTLAY_API_KEY=<your key>")
        return "\n".join([*lines, "", "To use it, with one of its keys:", *exports])
    lines.append(f"  API key   {started.generated_key}")
    exports.append(f"  export OUTLAY_API_KEY={started.generated_key}")
    return "\n".join(
        [*lines, "", "The key is new and is not shown again. To use it:", *exports]
    )


def _reachable_url(url: str) -> str:
    """Return ``url``, or one on this machine if the server listens on all addresses."""
    parts = urlsplit(url)
    if not ip_address(parts.hostname or "").is_unspecified:
        return url
    host = "[::1]" if ":" in (parts.hostname or "") else "127.0.0.1"
    return f"{parts.scheme}://{host}:{parts.port}"
