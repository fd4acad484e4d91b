"""``outlay keys``: create, list, rotate and revoke API keys of a server."""

from __future__ import annotations

import argparse
import os
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from outlay._cli.commands.keys.remote import RemoteKeys
from outlay._cli.exit_codes import ExitCode, UsageError
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    add_subcommand,
    connection_settings,
    parse_time,
)
from outlay._cli.output import Table, print_data, print_list, print_result, print_table
from outlay.errors import MissingExtraError, OutlayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from outlay._cli.commands.keys.keys import ApiKey, Keys

_DESCRIPTION: Final = """\
An API key has permissions, and may have an end. The command asks the server, with a key
that has the permission apiKeys:write. With --db it changes the database file instead,
also while a server uses it.
"""

_EPILOG: Final = """\
examples:
  outlay keys create dashboard --permission costs:read --expires 90d
  outlay keys create worker --permission events:create --output worker.key
  outlay keys list
  outlay keys rotate key_5f3a9c0d2b1e4f6a8c7d9e0f --overlap 24h
  outlay keys revoke key_5f3a9c0d2b1e4f6a8c7d9e0f --db costs.db
"""

_CREATE_EPILOG: Final = """\
example:
  outlay keys create dashboard --permission costs:read --expires 90d
"""

_LIST_EPILOG: Final = """\
example:
  outlay keys list --json
"""

_ROTATE_EPILOG: Final = """\
example:
  outlay keys rotate key_5f3a9c0d2b1e4f6a8c7d9e0f --overlap 24h
"""

_REVOKE_EPILOG: Final = """\
example:
  outlay keys revoke key_5f3a9c0d2b1e4f6a8c7d9e0f
"""

_DEFAULT_NAMESPACE: Final = "org_local"  # as of 'outlay serve'
_OWNER_ONLY: Final = 0o600
_DURATION: Final = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(title="actions", required=True)
    create = add_subcommand(actions, "create", _create, "create an API key")
    create.epilog = _CREATE_EPILOG
    create.add_argument("name", metavar="NAME", help="a name for people")
    create.add_argument(
        "--permission",
        dest="permissions",
        action="append",
        required=True,
        metavar="PERMISSION",
        help="such as events:create or costs:read; '*' for all; may be repeated",
    )
    _add_secret_options(create)
    _add_common_options(create)
    listing = add_subcommand(actions, "list", _list, "list the API keys, newest first")
    listing.epilog = _LIST_EPILOG
    _add_common_options(listing)
    rotate = add_subcommand(
        actions, "rotate", _rotate, "replace an API key by a new one"
    )
    rotate.epilog = _ROTATE_EPILOG
    rotate.add_argument("id", metavar="ID", help="the id of the key, key_…")
    rotate.add_argument(
        "--overlap",
        type=_duration,
        default=timedelta(days=1),
        metavar="DURATION",
        help="how long the old key stays valid, such as 12h (default: 1d)",
    )
    _add_secret_options(rotate)
    _add_common_options(rotate)
    revoke = add_subcommand(actions, "revoke", _revoke, "revoke an API key")
    revoke.epilog = _REVOKE_EPILOG
    revoke.add_argument("id", metavar="ID", help="the id of the key, key_…")
    _add_common_options(revoke)


def _add_secret_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expires",
        type=_end,
        metavar="WHEN",
        help="end of the new key, such as 90d or 2027-01-01 (default: none, or the "
        "same life as the old key)",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the key to this new file, which only its owner can read, instead "
        "of showing it",
    )


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    add_format_options(parser)
    group = parser.add_argument_group("database")
    group.add_argument(
        "--db",
        metavar="FILE",
        help="change this database file, without a request to its server",
    )
    group.add_argument(
        "--namespace",
        metavar="ORG",
        default=None,
        help=f"organization in the database file (default: {_DEFAULT_NAMESPACE})",
    )
    add_connection_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the subcommand."""
    if arguments.namespace is not None and arguments.db is None:
        raise UsageError(
            "--namespace is for --db; a key on a server belongs to the organization "
            "of the key that asks"
        )
    with _open(arguments) as keys:
        arguments.action(keys, arguments)
    return ExitCode.DONE


def _open(arguments: argparse.Namespace) -> AbstractContextManager[Keys]:
    if arguments.db is None:
        return RemoteKeys(connection_settings(arguments))
    try:
        # An optional extra: requests to a server need no server.
        from outlay._cli.commands.keys.local import LocalKeys  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("outlay"):
            raise
        raise MissingExtraError("'outlay keys --db'", "server") from error
    path = Path(arguments.db)
    if arguments.action is not _create and not path.exists():
        raise UsageError(f"there is no database {path}; name another file")
    return LocalKeys(path, arguments.namespace or _DEFAULT_NAMESPACE)


def _create(keys: Keys, arguments: argparse.Namespace) -> None:
    with _secret_file(arguments.output) as file:
        key = keys.create(arguments.name, arguments.permissions, arguments.expires)
        _show(key, file, arguments)


def _rotate(keys: Keys, arguments: argparse.Namespace) -> None:
    with _secret_file(arguments.output) as file:
        key = keys.rotate(arguments.id, arguments.overlap, arguments.expires)
        _show(key, file, arguments)
    if not arguments.format:
        end = _when(datetime.now(UTC) + arguments.overlap)
        print(f"{arguments.id} stays valid until {end}, unless it ends earlier")


def _revoke(keys: Keys, arguments: argparse.Namespace) -> None:
    keys.revoke(arguments.id)
    text = f"revoked {arguments.id}; the server refuses it from now on"
    print_result(arguments.format, {"id": arguments.id, "revoked": True}, text)


def _list(keys: Keys, arguments: argparse.Namespace) -> None:
    print_list(
        arguments.format,
        keys.all(),
        _as_json,
        _print_keys,
        nothing="no API keys yet; "
        "type: outlay keys create NAME --permission PERMISSION",
    )


def _print_keys(keys: Sequence[ApiKey]) -> None:
    now = datetime.now(UTC)
    headers = ("key", "hint", "permissions", "state", "last used", "ends", "id")
    rows = [
        (
            key.name,
            f"…{key.hint}" if key.hint else "-",
            ", ".join(key.permissions),
            key.state(now),
            _when(key.last_used_at),
            _when(key.revoked_at or key.expires_at),
            key.id,
        )
        for key in keys
    ]
    print_table(Table(headers, rows, hide=("hint", "permissions", "last used")))


@contextmanager
def _secret_file(path: str | None) -> Iterator[IO[str] | None]:
    """Create the file for a new key, before the key is made.

    A key that was made and could not be written would be lost.
    """
    if path is None:
        yield None
        return
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        file = os.fdopen(os.open(path, flags, _OWNER_ONLY), "w")
    except OSError as error:
        raise UsageError(
            f"cannot create {path} ({error.strerror}); name another file"
        ) from error
    with file:
        try:
            yield file
        except OutlayError:
            Path(path).unlink()
            raise


def _show(key: ApiKey, file: IO[str] | None, arguments: argparse.Namespace) -> None:
    """Show a new key, or write it to its file."""
    if file is not None:
        file.write(f"{key.key}\n")
        key = key.model_copy(update={"key": None})
    if arguments.format:
        print_data(arguments.format, _as_json(key), [_as_json(key)])
        return
    print(f"created API key {key.name} ({key.id})")
    print(f"  permissions  {', '.join(key.permissions)}")
    print(f"  expires      {_when(key.expires_at)}")
    if file is None:
        print(f"  key          {key.key}")
        print("The key is not shown again.")
    else:
        print(f"  key          in {arguments.output}")


def _as_json(key: ApiKey) -> dict[str, Any]:
    return key.model_dump(mode="json", by_alias=True, exclude_none=True)


def _when(moment: datetime | None) -> str:
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%MZ")


def _duration(text: str) -> timedelta:
    matched = _DURATION.fullmatch(text)
    if matched is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 12h or 30d")
    return timedelta(**{_UNITS[matched[2]]: int(matched[1])})


def _end(text: str) -> datetime:
    if _DURATION.fullmatch(text):
        return datetime.now(UTC) + _duration(text)
    return parse_time(text)
