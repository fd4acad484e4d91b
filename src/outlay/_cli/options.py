"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from outlay._model.settings import DEFAULT_BASE_URL, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_OF_A_PAGE: Final = 100  # of the server


def has_password(url: str) -> bool:
    """Return whether the URL of a database has a password, which no argument may have.

    Other users of a machine can read the arguments of a program.
    """
    return urlsplit(url).password is not None or "password=" in url


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
        "--api-key-file",
        dest="api_key",
        type=key_in_file,
        metavar="FILE",
        help="file with the credential (default: the variable OUTLAY_API_KEY)",
    )


def key_in_file(name: str) -> str:
    """Return the API key in a file. An argument would show it to all users.

    Raises:
        argparse.ArgumentTypeError: The file cannot be read, or is empty.
    """
    key = secret_in_file(name)
    if not key:
        raise argparse.ArgumentTypeError(f"{name} has no API key")
    return key


def secret_in_file(name: str) -> str:
    """Return the text of a file, without space around it.

    Raises:
        argparse.ArgumentTypeError: The file cannot be read.
    """
    try:
        return Path(name).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"cannot read {name} ({error})") from error


def connection_settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the arguments and the environment name.

    Raises:
        ConfigError: A setting is malformed. The message names it.
    """
    return Settings.resolve(
        {"base_url": arguments.base_url, "api_key": arguments.api_key}
    )


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--csv``, which set ``arguments.format``."""
    group = parser.add_mutually_exclusive_group()
    for name, text in (
        ("json", "print JSON; amounts are exact strings"),
        ("csv", "print CSV with a header; amounts have all digits"),
    ):
        group.add_argument(
            f"--{name}", dest="format", action="store_const", const=name, help=text
        )


def add_action_options(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add the options of formats and of the connection to each subcommand."""
    for one in actions.choices.values():
        add_format_options(one)
        add_connection_options(one)


def parse_time(text: str) -> datetime:
    """Return the instant of a month, a date or a time. Without an offset it is UTC.

    A month or a date stands for its first instant.

    Raises:
        argparse.ArgumentTypeError: The text is none of these.
    """
    try:
        is_month = re.fullmatch(r"\d{4}-\d{2}", text, re.ASCII)
        moment = datetime.fromisoformat(f"{text}-01" if is_month else text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; pass 2026-11, 2026-11-01 or 2026-11-01T12:00:00Z"
        ) from None


def currency_code(text: str) -> str:
    """Return a currency in capital letters.

    Raises:
        argparse.ArgumentTypeError: The text is no code of ISO 4217.
    """
    if not re.fullmatch("[A-Za-z]{3}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no currency; pass three letters, such as EUR"
        )
    return text.upper()


def add_page_limit(
    parser: argparse.ArgumentParser, things: str, default: int = _MOST_OF_A_PAGE
) -> None:
    """Add ``--limit`` for one page of a list. ``arguments.limit`` is 100 at most."""
    parser.add_argument(
        "--limit",
        type=_page_limit,
        default=default,
        metavar="COUNT",
        help=f"the most {things}, up to {_MOST_OF_A_PAGE} (default: {default})",
    )


def _page_limit(text: str) -> int:
    return min(positive(text), _MOST_OF_A_PAGE)


def positive_decimal(name: str, examples: str) -> Callable[[str], Decimal]:
    """Return a function that reads an exact number above 0, for ``type=``.

    Args:
        name: The name of the number in the error.
        examples: Good values for the error.
    """

    def read(text: str) -> Decimal:
        try:
            number = Decimal(text)
        except InvalidOperation:
            number = Decimal(0)
        if not number.is_finite() or number <= 0:
            message = f"{text!r} is no {name}; pass {examples}"
            raise argparse.ArgumentTypeError(message)
        return number

    return read


def positive(text: str) -> int:
    """Return a count of 1 or more.

    Raises:
        argparse.ArgumentTypeError: The text is no such count.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no count; pass 1 or more")
    return int(text)


def condition(text: str) -> tuple[str, str]:
    """Return the name and the value of ``DIMENSION=VALUE``.

    Raises:
        argparse.ArgumentTypeError: The text has another form.
    """
    return _pair(text, "DIMENSION=VALUE")


def column_condition(text: str) -> tuple[str, str]:
    """Return the name and the value of ``COLUMN=VALUE``.

    Raises:
        argparse.ArgumentTypeError: The text has another form.
    """
    return _pair(text, "COLUMN=VALUE")


def _pair(text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not {form}")
    return name, value
