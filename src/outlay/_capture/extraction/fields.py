"""Read fields of responses as plain values, from objects of libraries or from bytes.

Only the named fields are read. A field that is not read cannot leak.
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
# A look-up in a set takes a third of the time of isinstance(), and fits most values.
_NUMBERS_EXACTLY: Final = frozenset(_NUMBERS)
_PLAIN_EXACTLY: Final = frozenset({*_PLAIN, bool})

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
# Amounts are decoded as decimals, because a float may lose a digit.
_value: Final = msgspec.json.Decoder(float_hook=Decimal)


def read_fields(response: object, names: Iterable[str] | None) -> dict[str, Any]:
    """Return fields of a response as plain values, without absent and null ones.

    Args:
        response: A mapping, or an object of a provider's library.
        names: The names of the fields, which the result has, too. ``output.type`` is
            the ``type`` of ``output``, or a list with that of each item. If None, all
            fields.
    """
    if names is None:
        whole = to_builtin(response)
        return whole if isinstance(whole, dict) else {}
    found = {}
    fields = _fields_of(response)
    for name, path, below in _paths(tuple(names)):
        if fields is None:
            value = _value_at(response, path)
        else:
            value = fields.get(path[0])
            if below and value is not None:
                value = _value_at(value, below)
        if value is not None:
            is_plain = type(value) in _PLAIN_EXACTLY
            found[name] = value if is_plain else to_builtin(value)
    return found


@functools.lru_cache(maxsize=256)
def _paths(
    names: tuple[str, ...],
) -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
    """Return each name, its parts, and its parts after the first."""
    paths = {name: tuple(name.split(".")) for name in names}
    return tuple((name, path, path[1:]) for name, path in paths.items())


def read_json_fields(body: bytes, names: Iterable[str] | None) -> dict[str, Any]:
    """Return fields of a JSON object, as `read_fields`. Others are not decoded.

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
    """Return a tree of the paths' parts. A part that is read whole has no children."""
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
    """Return the parts of a value that ``tree`` names. Others are not decoded."""
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
    """Return a number as a decimal with the same digits, or None if it is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        # It has limits: eleven bytes can name a billion digits.
        return to_exact_decimal(value)
    except InvalidEventError:
        return None


def to_quantity(value: object) -> int | Decimal | None:
    """Return a count with the same digits, or None if it is no count."""
    amount = to_amount(value)
    return value if amount is not None and isinstance(value, int) else amount


def to_builtin(value: object) -> Any:
    """Return ``value`` as str, numbers, dict and list, without members that are None.

    Accepts the kinds of models in libraries: mappings, pydantic models and dataclasses.
    """
    if type(value) in _PLAIN_EXACTLY:
        return value
    fields = _fields_of(value)
    if fields is not None:
        return {
            str(name): of if type(of) in _PLAIN_EXACTLY else to_builtin(of)
            for name, of in fields.items()
            if of is not None
        }
    if isinstance(value, list | tuple):
        return [to_builtin(item) for item in value]
    if isinstance(value, _PLAIN):
        return value
    return msgspec.to_builtins(value, enc_hook=str)


def _fields_of(value: object) -> Mapping[Any, Any] | None:
    """Return the fields of a mapping or of a pydantic model, or None for other values.

    This is many times as fast as model_dump() for a model with few fields. It does not
    warn of values that the library did not expect.
    """
    if type(value) is dict:
        return value
    if hasattr(type(value), _MODEL_MARK):
        extra: dict[str, Any] | None = value.__pydantic_extra__  # type: ignore[attr-defined]
        return {**vars(value), **extra} if extra else vars(value)
    return value if isinstance(value, Mapping) else None


_MODEL_MARK: Final = "__pydantic_fields__"


def is_model(value: object) -> bool:
    """Return whether ``value`` is a pydantic model."""
    return hasattr(type(value), _MODEL_MARK)


def only_numbers(value: object) -> Any:
    """Return ``value`` with its numbers only, or None if it contains none.

    Usage consists of counts, amounts, and objects and lists of them. The kind of a
    count, such as its ``modality``, stays with it.
    """
    if type(value) is not dict and not isinstance(value, Mapping):
        return _number_or_list(value)
    counts = {}
    for name, item in value.items():
        count = item if type(item) in _NUMBERS_EXACTLY else only_numbers(item)
        if count is not None:
            counts[name] = count
    if counts and not _KINDS.isdisjoint(value):
        return {**_kinds(value), **counts}
    return counts or None


def _number_or_list(value: object) -> Any:
    if isinstance(value, list):
        return [item for item in map(only_numbers, value) if item is not None] or None
    is_number = isinstance(value, _NUMBERS) and not isinstance(value, bool)
    return value if is_number else None


_ALLOWED_TEXT: Final = {
    # The kind of usage that a count is about. No other text passes.
    "modality": {"TEXT", "IMAGE", "AUDIO", "VIDEO", "DOCUMENT"},
    "ttl": {"5m", "1h"},
}
_KINDS: Final = frozenset(_ALLOWED_TEXT)


def _kinds(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        name: value[name]
        for name in _ALLOWED_TEXT
        if value.get(name) in _ALLOWED_TEXT[name]
    }
