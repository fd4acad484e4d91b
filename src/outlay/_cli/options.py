"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from outlay._model.settings import DEFAULT_BASE_URL, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


def add_subcommand(
    subcommands: Any,  # noqa: ANN401 - argparse has no public name for this type
    name: str,
    action: Callable[..., object],
    summary: str,
) -> argparse.ArgumentParser:
    """Add a subcommand, such as ``list`` of ``outlay journal``.

    Args:
        subcommands: The return value of ``add_subparsers``.
        name: The name that users type.
        action: The function that does the work. `run` finds it in
            ``arguments.action``.
        summary: A phrase for the command's help. It is also the first sentence of
            the subcommand's own help.

    Returns:
        The parser of the subcommand.
    """
    parser: argparse.ArgumentParser = subcommands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(action=action)
    return parser


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the server and the key."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--base-url",
        metavar="URL",
        help=f"address (default: OUTLAY_BASE_URL, or {DEFAULT_BASE_URL})",
    )
    group.add_argument(
        "--api-key",
        metavar="KEY",
        help="credential (default: OUTLAY_API_KEY; other users of the machine can "
        "see an argument, but not the variable)",
    )


def connection_settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the arguments and the environment name.

    Raises:
        ConfigError: A setting is malformed. The message names it.
    """
    return Settings.resolve(
        {"base_url": arguments.base_url, "api_key": arguments.api_key}
    )


def add_json_option(
    parser: argparse.ArgumentParser,
    text: str = "print JSON; amounts are exact strings",
) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help=text)
