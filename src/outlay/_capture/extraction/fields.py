"""Answers: what an extractor may read of what a provider's library returned.

Objects of the libraries and bytes become plain values, and only those members that are
asked for: what is not read cannot leak.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from outlay._model.money import to_exact_decimal
from outlay.errors import InvalidEventError

_NUMBERS: Final = (int, float, Decimal)
_PLAIN: Final = (str, *_NUMBERS, type(None))
# Of a set it takes a third of the time, and most values are of these types exactly.
_NUMBERS_EXACTLY: Final = frozenset(_NUMBERS)
_PLAIN_EXACTLY: Final = frozenset({*_PLAIN, bool})

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
# Amounts are decimals from their text on: a float may have lost a digit.
_value: Final = msgspec.json.Decoder(float_hook=Decimal)


def read_fields(answer: object, names: Iterable[str] | None) -> dict[str, Any]:
    """Return members of an answer as plain values; what is absent or null is left out.

    Args:
        answer: a mapping, or an object of a provider's library.
        names: the members; None: all. ``output.type`` is the ``type`` of ``output``,
            or of each of its items; so it is called in what is returned.
    """
    if names is None:
        whole = to_builtin(answer)
        return whole if isinstance(whole, dict) else {}
    found = {}
    for name, path in _paths(tuple(names)):
        value = _value_at(answer, path)
        if value is not None:
            found[name] = to_builtin(value)
    return found


@functools.lru_cache(maxsize=256)
def _paths(names: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((name, tuple(name.split("."))) for name in names)


def read_json_fields(body: bytes, names: Iterable[str] | None) -> dict[str, Any]:
    """Return `members` of a JSON object; what is not asked for is not decoded.

    Raises:
        msgspec.DecodeError: ``body`` is not a JSON object.
    """
    raw = _members.decode(body)
    if names is None:
        return {name: _value.decode(value) for name, value in raw.items()}
    return read_fields(_wanted(raw, _path_tree(tuple(names))), names)


_Tree = dict[str, "_Tree"]


@functools.lru_cache(maxsize=256)
def _path_tree(paths: tuple[str, ...]) -> _Tree:
    """Return paths by their first parts; what is wanted wholly has nothing below."""
    tree: _Tree = {}
    for path in paths:
        below = tree
        for part in path.split("."):
            below = below.setdefault(part, {})
    for path in paths:
        below = tree
        for part in path.split("."):
            below = below.get(part, {})
        below.clear()
    return tree


def _wanted(raw: dict[str, msgspec.Raw], tree: _Tree) -> dict[str, Any]:
    return {name: _decoded(raw[name], tree[name]) for name in tree if name in raw}


def _decoded(value: msgspec.Raw, tree: _Tree) -> Any:
    """Return what ``tree`` wants of a value; the rest is passed over undecoded."""
    if not tree:
        return _value.decode(value)
    first = bytes(memoryview(value)[:1])
    if first == b"{":
        return _wanted(_members.decode(value), tree)
    if first == b"[":
        return [_decoded(item, tree) for item in _items.decode(value)]
    return None


def _value_at(value: object, path: tuple[str, ...]) -> Any:
    for depth, name in enumerate(path):
        if isinstance(value, list | tuple):
            return [_value_at(item, path[depth:]) for item in value]
        fields = _fields_of(value)
        value = getattr(value, name, None) if fields is None else fields.get(name)
        if value is None:
            return None
    return value


def to_amount(value: object) -> Decimal | None:
    """Return a number as the decimal that was written, or None: it is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        return to_exact_decimal(
            value
        )  # within limits: eleven bytes can name a billion digits
    except InvalidEventError:
        return None


def to_quantity(value: object) -> int | Decimal | None:
    """Return a count as it was written, or None: it is none."""
    amount = to_amount(value)
    return value if amount is not None and isinstance(value, int) else amount


def to_builtin(value: object) -> Any:
    """Return ``value`` as str, numbers, dict and list; without members that are None.

    Understands what the libraries' models have in common: they are mappings, or
    models of pydantic's, or dataclasses.
    """
    if type(value) in _PLAIN_EXACTLY:
        return value
    fields = _fields_of(value)
    if fields is not None:
        return {
            str(name): to_builtin(of) for name, of in fields.items() if of is not None
        }
    if isinstance(value, list | tuple):
        return [to_builtin(item) for item in value]
    if isinstance(value, _PLAIN):
        return value
    return msgspec.to_builtins(value, enc_hook=str)


def _fields_of(value: object) -> Mapping[Any, Any] | None:
    """Return the fields of a mapping, or of one of pydantic's models; None: neither.

    Rather than model_dump: many times as fast for a model with few fields, and silent
    about values that the library did not expect.
    """
    if type(value) is dict:
        return value
    if is_model(value):
        extra: dict[str, Any] | None = value.__pydantic_extra__  # type: ignore[attr-defined]
        return {**vars(value), **extra} if extra else vars(value)
    return value if isinstance(value, Mapping) else None


def is_model(value: object) -> bool:
    """Return whether ``value`` is one of pydantic's models."""
    return hasattr(type(value), "__pydantic_fields__")


def only_numbers(value: object) -> Any:
    """Return ``value`` without anything in it that is not a number; None: nothing is.

    What usage is reported as: counts, amounts, and objects and lists of them. Of what
    something is the count, such as a ``modality``, stays with it.
    """
    if type(value) in _NUMBERS_EXACTLY:
        return value
    if isinstance(value, Mapping):
        return _numbers_of(value)
    if isinstance(value, list):
        return [item for item in map(only_numbers, value) if item is not None] or None
    is_number = isinstance(value, _NUMBERS) and not isinstance(value, bool)
    return value if is_number else None


def _numbers_of(value: Mapping[Any, Any]) -> dict[str, Any] | None:
    counts = {}
    for name, item in value.items():
        count = only_numbers(item)
        if count is not None:
            counts[name] = count
    return {**_kinds(value), **counts} if counts else None


_ALLOWED_TEXT: Final = {
    # Which part of the usage a count is about, and what it may be: nothing else passes.
    "modality": {"TEXT", "IMAGE", "AUDIO", "VIDEO", "DOCUMENT"},
    "ttl": {"5m", "1h"},
}


def _kinds(value: Mapping[Any, Any]) -> dict[str, Any]:
    if _ALLOWED_TEXT.keys().isdisjoint(value):
        return {}
    return {
        name: value[name]
        for name in _ALLOWED_TEXT
        if value.get(name) in _ALLOWED_TEXT[name]
    }
