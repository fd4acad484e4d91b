"""Compile a JSONPath (RFC 9535) into a function that reads one value.

The contract allows dotted names only. As an extension, the server accepts every
*singular* query, which has at most one result. A value or a dimension is one value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias

from jsonpath_rfc9535 import JSONPathEnvironment
from jsonpath_rfc9535.exceptions import JSONPathError

PathReader: TypeAlias = Callable[[Any], Any]
"""Returns the value at a path inside decoded data, or None."""

MAX_PATH_CHARS: Final = 1000

_DOTTED: Final = re.compile(r"\$(\.[a-zA-Z0-9_]+)+")  # the contract's own pattern

_SINGULAR: Final = re.compile(
    r"""
    \$ (?: \[ (?: ' (?: [^'\\] | \\. )* '   # one name
              | -? [0-9]+ )                # one index
        \] )*
    """,
    re.VERBOSE,
)
"""The form in which the library writes a query of single names and indices."""

_ENVIRONMENT: Final = JSONPathEnvironment()


class PathError(ValueError):
    """A path that cannot be used. The message says what is allowed."""


@lru_cache(maxsize=4096)
def compile_path(path: str) -> PathReader:
    """Return the function that reads ``path``.

    Raises:
        PathError: The path is not RFC 9535, or may have several results.
    """
    if len(path) > MAX_PATH_CHARS:
        raise PathError(f"a path has at most {MAX_PATH_CHARS} characters")
    if _DOTTED.fullmatch(path):
        return _dotted_reader(path.split(".")[1:])
    return _jsonpath_reader(path)


def _dotted_reader(names: list[str]) -> PathReader:
    """Read dotted names without the library, because every event is read so."""
    if len(names) == 1:
        [only] = names
        return lambda fields: fields.get(only)

    def read(fields: Any) -> Any:  # noqa: ANN401 - decoded JSON
        for name in names:
            if type(fields) is not dict:
                return None
            fields = fields.get(name)
        return fields

    return read


def _jsonpath_reader(path: str) -> PathReader:
    if not path.startswith("$"):
        raise PathError("must start at the root; write one such as $.amount")
    try:
        query = _ENVIRONMENT.compile(path)
    except (JSONPathError, RecursionError):
        raise PathError(
            "is not a JSONPath (RFC 9535); write one such as $.usage.amount"
        ) from None
    if not _SINGULAR.fullmatch(str(query)):
        raise PathError("may find several values; name one, such as $.items[0].amount")

    def read(fields: Any) -> Any:  # noqa: ANN401 - decoded JSON
        match = query.find_one(fields)
        return None if match is None else match.value

    return read
