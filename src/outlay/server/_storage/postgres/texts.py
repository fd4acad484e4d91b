"""Keep any text in PostgreSQL, whose texts cannot hold U+0000.

U+0000 becomes U+001A ``0``, and U+001A itself becomes U+001A ``1``. All other texts
stay as they are, so that other programs can read them. Every text that a connection
sends or receives is converted.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from psycopg.types.string import StrDumperUnknown, TextLoader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection
    from psycopg.abc import Buffer

_MARK: Final = "\x1a"
_TEXT_TYPES: Final = ("text", "varchar", "name")

# The characters with a meaning in COPY, and those that `escape` replaces.
_SPECIAL: Final = re.compile(r"[\\\t\n\r\x00\x1a]")


def escape(text: str) -> str:
    """Return the text that PostgreSQL keeps for ``text``."""
    if _MARK not in text and "\0" not in text:
        return text
    return text.replace(_MARK, _MARK + "1").replace("\0", _MARK + "0")


def unescape(text: str) -> str:
    """Return the text that `escape` was given."""
    if _MARK not in text:
        return text
    return text.replace(_MARK + "0", "\0").replace(_MARK + "1", _MARK)


class _TextDumper(StrDumperUnknown):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(escape(obj))


class _TextLoader(TextLoader):
    def load(self, data: Buffer) -> str:
        text = super().load(data)
        return unescape(text if isinstance(text, str) else text.decode())


def convert_texts(connection: Connection) -> None:
    """Convert all texts of a connection."""
    connection.adapters.register_dumper(str, _TextDumper)
    connection.adapters.register_dumper(StrEnum, _TextDumper)
    for name in _TEXT_TYPES:
        connection.adapters.register_loader(name, _TextLoader)


def copy_field(value: str | int | None) -> str:
    r"""Return a value as COPY reads it, in the text format.

    See "File Formats" of COPY in PostgreSQL's manual. A plain text is the usual case,
    and costs one look.
    """
    if value is None:
        return "\\N"
    if not isinstance(value, str):
        return str(value)
    return value if _SPECIAL.search(value) is None else _quoted(escape(value))


def array_field(values: Sequence[str]) -> str:
    """Return texts as COPY reads an array of them."""
    quoted = [
        '"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for one in map(escape, values)
    ]
    return _quoted("{" + ",".join(quoted) + "}")


def _quoted(text: str) -> str:
    return (
        text.replace("\\", "\\\\")
        .replace("\t", "\\t")
        .replace("\n", "\\n")
        .replace("\r", "\\r")
    )
