"""Which server a command talks to: arguments first, then ``OUTLAY_*`` variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay._model.settings import DEFAULT_BASE_URL, Settings

if TYPE_CHECKING:
    import argparse


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which server, and with which key."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--base-url",
        metavar="URL",
        help=f"address (default: OUTLAY_BASE_URL, or {DEFAULT_BASE_URL})",
    )
    group.add_argument(
        "--api-key",
        metavar="KEY",
        help="credential (default: OUTLAY_API_KEY, which, unlike an argument, other "
        "users of the machine do not see)",
    )


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the arguments and the environment make.

    Raises:
        ConfigError: one is malformed; the message names it.
    """
    return Settings.resolve(
        {"base_url": arguments.base_url, "api_key": arguments.api_key}
    )
