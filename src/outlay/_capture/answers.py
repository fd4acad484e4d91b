"""Answers: what an extractor may read of what a provider's library returned.

Objects of the libraries and bytes become plain values, and only those members that are
asked for: what is not read cannot leak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

_PLAIN: Final = (str, int, float, Decimal, type(None))

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
# Amounts are decimals from their text on: a float may have lost a digit.
_value: Final = msgspec.json.Decoder(float_hook=Decimal)


def members(answer: object, names: Iterable[str] | None) -> dict[str, Any]:
    """Return members of an answer as plain values; what is absent or null is left out.

    Args:
        answer: a mapping, or an object of a provider's library.
        names: the members; None: all. ``output.type`` is the ``type`` of ``output``,
            or of each of its items; so it is called in what is returned.
    """
    if names is None:
        whole = plain(answer)
        return whole if isinstance(whole, dict) else {}
    found = ((name, _at(answer, name)) for name in names)
    return {name: plain(value) for name, value in found if value is not None}


def members_of_json(body: bytes, names: Iterable[str] | None) -> dict[str, Any]:
    """Return `members` of a JSON object; what is not asked for is not decoded.

    Raises:
        msgspec.DecodeError: ``body`` is not a JSON object.
    """
    raw = _members.decode(body)
    wanted = raw if names is None else {name.partition(".")[0] for name in names}
    return members(
        {name: _value.decode(raw[name]) for name in wanted if name in raw}, names
    )


def _at(value: object, path: str) -> Any:
    if isinstance(value, list | tuple):
        return [_at(item, path) for item in value]
    name, _, rest = path.partition(".")
    if isinstance(value, Mapping):
        found = value.get(name)
    else:
        found = getattr(value, name, None)
    return _at(found, rest) if rest and found is not None else found


def amount_of(value: object) -> Decimal | None:
    """Return a number as the decimal that was written, or None: it is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        amount = Decimal(str(value))
    except ArithmeticError:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def plain(value: object) -> Any:
    """Return ``value`` as str, numbers, dict and list; without members that are None.

    Understands what the libraries' models have in common: they are mappings, or
    iterate over their fields as pydantic's do, or are dataclasses.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return _dict_of(value.items())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(type(value), "model_fields"):
        # Rather than model_dump: many times as fast for a model with few fields, and
        # silent about values that the library did not expect.
        return _dict_of(value)  # type: ignore[arg-type]  # pydantic's models iterate
    return msgspec.to_builtins(value, enc_hook=str)


def _dict_of(pairs: Iterable[tuple[str, object]]) -> dict[str, Any]:
    return {str(name): plain(value) for name, value in pairs if value is not None}


def numbers(value: object) -> Any:
    """Return ``value`` without anything in it that is not a number; None: nothing is.

    What usage is reported as: counts, amounts, and objects and lists of them. Of what
    something is the count, such as a ``modality``, stays with it.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        return value
    if isinstance(value, Mapping):
        pairs = ((name, numbers(item)) for name, item in value.items())
        counts = {name: item for name, item in pairs if item is not None}
        return {**_kinds(value), **counts} if counts else None
    if isinstance(value, list):
        return [item for item in map(numbers, value) if item is not None] or None
    return None


_KINDS: Final = {
    # Which part of the usage a count is about, and what it may be: nothing else passes.
    "modality": {"TEXT", "IMAGE", "AUDIO", "VIDEO", "DOCUMENT"},
    "ttl": {"5m", "1h"},
}


def _kinds(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: value[name] for name in _KINDS if value.get(name) in _KINDS[name]}
