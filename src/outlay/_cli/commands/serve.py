"""``outlay serve``: run the reference server in the foreground."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import field_validator
from starlette.datastructures import Headers
from starlette.middleware import Middleware

from outlay._cli.connection import open_api
from outlay._cli.default_metrics import create_missing_defaults
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import key_in_file
from outlay._model.settings import (
    DEFAULT_BASE_URL,
    EnvironmentSettings,
    Settings,
    is_loopback,
)
from outlay.errors import OutlayError
from outlay.server import ServerSettings, ServerStarted, serve

if TYPE_CHECKING:
    import argparse

    from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX: Final = "OUTLAY_SERVER_"

_DESCRIPTION: Final = f"""\
Run the reference server until Ctrl-C or SIGTERM. It stores everything in one file. The
first start creates the file, the default cost metrics and an API key, and shows the
key once.

Each option but --dev has a variable: {PREFIX}PORT for --port,
{PREFIX}DATABASE for --db, {PREFIX}API_KEY for the key itself, and so on.
"""

_EPILOG: Final = """\
examples:
  outlay serve --dev
  outlay serve --port 4600 --db costs.db
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
    "--access-log": "log a line for every request",
}


class ServeSettings(EnvironmentSettings, ServerSettings):
    """The server's settings, read from arguments and ``OUTLAY_SERVER_*`` variables."""

    @field_validator("dedupe_window", mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        """Read a number in a variable as seconds, as all other settings do."""
        if isinstance(value, str):
            with suppress(ValueError):
                return float(value)
        return value

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
        help="for development: no key, only this machine, default cost metrics, and "
        "events of unknown types are accepted",
    )
    add("--host", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, help="port to listen on; 0 takes any (default: 4600)")
    add(
        "--db",
        dest="database",
        metavar="FILE",
        help="database file, or ':memory:' for one that is deleted at the end "
        "(default: outlay.db)",
    )
    add(
        "--api-key-file",
        dest="api_key",
        type=key_in_file,
        metavar="FILE",
        help="file with a fixed key that has all permissions (default: the keys in "
        "the database)",
    )
    add(
        "--dedupe-window",
        type=float,
        metavar="SECONDS",
        help="remember an idempotency key for this long (default: 86400, a day)",
    )
    add(
        "--default-currency",
        metavar="CODE",
        help="currency of metrics that name none (default: USD)",
    )
    for name, text in _SWITCHES.items():
        add(name, action="store_true", default=None, help=text)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal arrives."""
    given = {name: value for name, value in vars(arguments).items() if name != "dev"}
    settings = ServeSettings.resolve(given, prefix=PREFIX)
    middleware = []
    if arguments.dev:
        settings = _for_development(settings)
        middleware = [Middleware(_KeylessAccess, api_key=settings.api_key or "")]
    logging.basicConfig(
        level=logging.INFO if settings.access_log else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )

    def announce(started: ServerStarted) -> None:
        key = settings.api_key if arguments.dev else started.generated_key
        if key is None:  # The database is not new, or has keys of its own.
            print(banner(started, settings), flush=True)
            return
        # The server needs this thread to respond, so another one asks it.
        threading.Thread(
            target=_create_metrics_and_announce,
            args=[started, settings, key],
            kwargs={"dev": arguments.dev},
            daemon=True,
        ).start()

    serve(settings, on_start=announce, middleware=middleware)
    print("stopped; all accepted events are stored")
    return ExitCode.DONE


def _for_development(settings: ServeSettings) -> ServeSettings:
    """Return the settings with a key that no client needs to know.

    Raises:
        UsageError: Other machines could reach the server.
    """
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    if not is_loopback(f"http://{host}"):
        raise UsageError(
            f"--dev takes no key, so it must not listen on {settings.host}; leave out "
            "--host, or leave out --dev"
        )
    if settings.api_key is not None:
        raise UsageError(
            "--dev takes no key; leave out --api-key-file, or leave out --dev"
        )
    key = f"sk_test_dev_{secrets.token_hex(16)}"
    return settings.model_copy(update={"api_key": key, "accept_unmatched": True})


class _KeylessAccess:
    """Gives requests without a key the server's own key.

    A web page could send requests from a browser on this machine. Its requests carry
    ``Origin``, or the page's host name if it resolves to this machine, and get no key.
    """

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._authorization = (b"authorization", f"Bearer {api_key}".encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the key to a request of a program on this machine."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            if "origin" not in headers and is_loopback(f"http://{host}"):
                others = [
                    pair for pair in scope["headers"] if pair[0] != b"authorization"
                ]
                scope = {**scope, "headers": [*others, self._authorization]}
        await self._app(scope, receive, send)


def _create_metrics_and_announce(
    started: ServerStarted, settings: ServeSettings, key: str, *, dev: bool
) -> None:
    client = Settings.resolve(
        {"base_url": _reachable_url(started.url), "api_key": key}, environ={}
    )
    try:
        with open_api(client) as api:
            create_missing_defaults(api)
    except OutlayError as error:
        logging.getLogger("outlay.server").warning(
            "the default cost metrics were not created (%s); run: outlay metrics "
            "create --defaults",
            error,
        )
    print(banner(started, settings, dev=dev), flush=True)


def banner(
    started: ServerStarted, settings: ServerSettings, *, dev: bool = False
) -> str:
    """Return the address, the database and the settings of clients."""
    place = settings.database
    if place == ":memory:":
        database = "temporary, deleted when the server stops"
    else:
        database = str(place.absolute())
    url = _reachable_url(started.url)
    kind = " for development" if dev else ""
    lines = [
        f"outlay server is running{kind}; Ctrl-C stops it",
        "",
        f"  address   {url}",
        f"  database  {database}",
    ]
    if url != started.url:
        port = urlsplit(url).port
        lines += [
            f"  others    http://{socket.gethostname()}:{port}",
            "",
            "Warning: other machines can reach this server over plain HTTP, which does",
            "not hide the API key. Put a proxy with TLS in front of it.",
        ]
    if dev:
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
    return f"http://{host}:{parts.port}"
