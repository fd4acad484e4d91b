"""Read the rows of a JSON document of buckets, as if it were a table.

Vendors' reports are pages of buckets, each with results. A row is one result together
with the values of its bucket. The members of an object are joined by dots:
``amount.value``.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from outlay._reconcile.values import BillError, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MAX_BYTES: Final = 64 * 1024 * 1024
_DEPTH: Final = 5

_decoder: Final = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal)


def read_documents(
    open_file: Callable[[], BinaryIO], name: str, encoding: str
) -> list[Any]:
    """Return the documents of a file: one, or several one after the other.

    Raises:
        BillError: The file cannot be read, is too large, or is no JSON.
    """
    try:
        with open_file() as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BillError(f"cannot read {name} ({error.strerror})") from error
    if len(content) > MAX_BYTES:
        raise BillError(
            f"{name} has more than {MAX_BYTES >> 20} MB of JSON; ask the provider for "
            "fewer days at a time, or convert it to CSV"
        )
    documents = []
    try:
        text = content.decode(encoding).strip()
        place = 0
        while place < len(text):
            document, place = _decoder.raw_decode(text, place)
            documents.append(document)
            place += len(text[place:]) - len(text[place:].lstrip())
    except UnicodeDecodeError as error:
        raise BillError(f"{name} is not {encoding}; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise BillError(f"{name} is no JSON ({error})") from error
    return documents


def rows_of(documents: Sequence[Any], lists: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield the texts of each row by column.

    Args:
        documents: The documents. A list of pages counts as its pages.
        lists: The names of the nested lists. Alternatives are joined by ``|``.
    """
    for document in documents:
        pages = document if isinstance(document, list) else [document]
        for page in pages:
            yield from _rows(page, lists, {})


def column_names(documents: Sequence[Any], lists: Sequence[str]) -> list[str]:
    """Return the names of all columns, in the order of their first appearance."""
    return [*dict.fromkeys(name for row in rows_of(documents, lists) for name in row)]


def has_lists(documents: Sequence[Any], lists: Sequence[str]) -> bool:
    """Return whether a document has the outermost list."""
    return any(
        isinstance(page, dict) and any(name in page for name in lists[0].split("|"))
        for document in documents
        for page in (document if isinstance(document, list) else [document])
    )


def _rows(
    value: object, lists: Sequence[str], inherited: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    if not isinstance(value, dict):
        return
    inner = (
        next((n for n in lists[0].split("|") if n in value), None) if lists else None
    )
    own = {k: v for k, v in value.items() if k != inner}
    texts = {**inherited, **dict(_flat(own, "", _DEPTH))}
    if not lists:
        yield texts
        return
    items = value.get(inner) if inner is not None else None
    if isinstance(items, list):
        for item in items:
            yield from _rows(item, lists[1:], texts)


def _flat(
    value: Mapping[str, Any], prefix: str, depth: int
) -> Iterator[tuple[str, str]]:
    for name, member in value.items():
        if isinstance(member, dict) and depth:
            yield from _flat(member, f"{prefix}{name}.", depth - 1)
        elif isinstance(member, Decimal):
            yield prefix + name, plain(member)
        elif isinstance(member, str):
            yield prefix + name, member.strip()
        elif not isinstance(member, list | dict):
            yield prefix + name, "" if member is None else str(member).lower()
